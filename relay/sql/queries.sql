-- Every statement that relay makes, by name, for both engines. House rules: CAST(x AS T), never "::"; no percent
-- sign; no colon inside a literal. {lock} is the one difference: FOR UPDATE SKIP LOCKED, or nothing.

-- known --
-- The event that one of these marks stands for, while it is remembered.
SELECT seen.event_id FROM seen
WHERE seen.source = :source AND seen.mark IN (:by_id, :by_bytes) AND seen.until > :now
ORDER BY seen.event_id LIMIT 1

-- remember --
-- Let a mark stand for this event; an old one that has run out makes room.
INSERT INTO seen (source, mark, event_id, until) VALUES (:source, :mark, :event_id, :until)
ON CONFLICT (source, mark) DO UPDATE SET event_id = excluded.event_id, until = excluded.until

-- record --
INSERT INTO event (id, source, type, delivery, digest, received_at, happened_at, resource, tells, verified, headers, body,
    flaw, decision, parts, rule_version)
VALUES (:id, :source, :type, :delivery, :digest, :received_at, :happened_at, :resource, :tells, :verified, :headers, :body,
    :flaw, :decision, :parts, :rule_version)

-- redecide --
-- Say anew what became of an event.
UPDATE event SET decision = :decision, parts = :parts WHERE id = :id

-- queue --
INSERT INTO call (id, kind, event_id, case_id, key, rule, provider, action, args, state, step, why, due_at, tries, doubts,
    room, mark, batch, hours, priority, looks, attempts, alias, seen, lease, created_at, settled_at)
VALUES (:id, :kind, :event_id, :case_id, :key, :rule, :provider, :action, :args, :state, :step, :why, :due_at, 0,
    0, :room, :mark, :batch, :hours, :priority, 0, 0, NULL, NULL, NULL, :created_at, :settled_at)

-- due --
-- A provider's due calls of one priority, oldest first.
SELECT id, kind, action, batch, step, tries, room,
    (SELECT cases.opened_at FROM cases WHERE cases.id = call.case_id) AS opened_at
FROM call
WHERE provider = :provider AND priority = :priority AND state IN ('queued', 'unknown') AND due_at <= :now
ORDER BY due_at, id LIMIT :limit
{lock}

-- out --
-- A provider's retries that were sent and are not answered yet, and what was spent for their resources before.
SELECT call.action, attempt.began_at, cases.spent
FROM call JOIN attempt ON attempt.call_id = call.id AND attempt.number = call.attempts
    JOIN cases ON cases.id = call.case_id
WHERE call.state = 'running' AND call.provider = :provider AND call.kind = 'retry' AND call.step = 'send'

-- next_due --
SELECT MIN(due_at) AS due_at FROM call
WHERE provider = :provider AND priority = :priority AND state IN ('queued', 'unknown')

-- claim --
-- Lease one call until :until, if nobody else has.
UPDATE call SET state = 'running', lease = :lease, due_at = :until, attempts = attempts + 1
WHERE id = :id AND state IN ('queued', 'unknown')
RETURNING id, kind, event_id, case_id, key, rule, provider, action, args, state, step, why, due_at, tries, doubts,
    room, mark, batch, hours, priority, looks, attempts, alias, seen, lease, created_at, settled_at

-- begin --
-- The intent: a try that is about to happen.
INSERT INTO attempt (call_id, number, step, began_at, ended_at, status, outcome, why, answer)
VALUES (:call_id, :number, :step, :began_at, NULL, NULL, NULL, '', :answer)

-- end --
UPDATE attempt SET ended_at = :ended_at, status = :status, outcome = :outcome, why = :why, answer = :answer
WHERE call_id = :call_id AND number = :number AND ended_at IS NULL
RETURNING number

-- settle --
-- Move a running call on, if the lease is still ours.
UPDATE call SET state = :state, step = :step, why = :why, due_at = :due_at, tries = :tries, doubts = :doubts,
    mark = :mark, batch = :batch, args = :args, looks = :looks, alias = :alias, seen = :seen, lease = NULL,
    settled_at = :settled_at
WHERE id = :id AND state = 'running' AND lease = :lease
RETURNING id

-- change --
-- Let a call wait otherwise, if it waits.
UPDATE call SET state = :state, step = :step, why = :why, due_at = :due_at, room = :room, batch = :batch, hours = :hours
WHERE id = :id AND state IN ('queued', 'unknown', 'held')
RETURNING id

-- narrow --
-- Let a call do no more than is left of its case's budget.
UPDATE call SET room = :room WHERE id = :id AND room > :room AND settled_at IS NULL RETURNING id

-- cancel --
-- Withdraw a call, unless a worker has it.
UPDATE call SET state = 'cancelled', why = :why, settled_at = :now
WHERE id = :id AND state IN ('queued', 'unknown', 'held')
RETURNING id

-- lost --
-- Running calls whose lease has run out: their worker is gone.
SELECT id, step, tries, attempts FROM call WHERE state = 'running' AND due_at <= :now
{lock}

-- sweep --
-- Take one of them back. A send that had begun may have arrived: it is unknown, and looked up before anything else.
UPDATE call SET
    state = CASE WHEN step = 'send' OR tries > 0 THEN 'unknown' ELSE 'queued' END,
    tries = tries + CASE WHEN step = 'send' THEN 1 ELSE 0 END,
    doubts = doubts + CASE WHEN step = 'send' THEN 1 ELSE 0 END,
    why = :why, step = 'look', due_at = :look_at, lease = NULL
WHERE id = :id AND state = 'running'
RETURNING id

-- new_gate --
INSERT INTO gate (provider, spent_at, throttled_until, shut_until, failures, tripped_at, trips, paused)
VALUES (:provider, 0, 0, 0, 0, 0, 0, '') ON CONFLICT (provider) DO NOTHING

-- take_gate --
-- Touching the row makes it ours until the commit, on both engines.
UPDATE gate SET provider = provider WHERE provider = :provider
RETURNING provider, spent_at, throttled_until, shut_until, failures, tripped_at, trips, paused

-- keep_gate --
UPDATE gate SET spent_at = :spent_at, throttled_until = :throttled_until, shut_until = :shut_until,
    failures = :failures, tripped_at = :tripped_at, trips = :trips, paused = :paused
WHERE provider = :provider

-- gates --
SELECT provider, spent_at, throttled_until, shut_until, failures, tripped_at, trips, paused
FROM gate ORDER BY provider

-- forget --
DELETE FROM seen WHERE until <= :now

-- pulse --
INSERT INTO pulse (one, at) VALUES (1, :at) ON CONFLICT (one) DO UPDATE SET at = excluded.at

-- counts --
-- Where the calls of each provider stand; runs of watches are not among them.
SELECT provider, state, COUNT(*) AS calls FROM call WHERE kind <> 'page'
GROUP BY provider, state ORDER BY provider, state

-- events --
-- Newest first; :before is the last id of the page before.
SELECT id, source, type, delivery, digest, received_at, happened_at, resource, tells, verified, headers, body, flaw,
    decision, parts, rule_version,
    (SELECT COUNT(*) FROM call WHERE call.event_id = event.id) AS calls
FROM event
WHERE (CAST(:before AS TEXT) IS NULL OR id < :before)
  AND (CAST(:source AS TEXT) IS NULL OR source = :source)
  AND (CAST(:decision AS TEXT) IS NULL OR decision = :decision)
ORDER BY id DESC LIMIT :limit

-- past --
-- Oldest first, for relay replay; an id begins with its time.
SELECT id, source, type, delivery, digest, received_at, happened_at, resource, tells, verified, headers, body, flaw,
    decision, parts, rule_version
FROM event
WHERE id > :after AND id < :before
  AND (CAST(:source AS TEXT) IS NULL OR source = :source)
ORDER BY id LIMIT :limit

-- past_count --
SELECT COUNT(*) AS events FROM event
WHERE id > :after AND id < :before
  AND (CAST(:source AS TEXT) IS NULL OR source = :source)

-- event --
SELECT id, source, type, delivery, digest, received_at, happened_at, resource, tells, verified, headers, body, flaw,
    decision, parts, rule_version,
    (SELECT COUNT(*) FROM call WHERE call.event_id = event.id) AS calls
FROM event WHERE id = :id

-- call --
SELECT id, kind, event_id, case_id, key, rule, provider, action, args, state, step, why, due_at, tries, doubts,
    room, mark, batch, hours, priority, looks, attempts, alias, seen, lease, created_at, settled_at
FROM call WHERE id = :id

-- calls --
-- Newest first; :before is the last id of the page before. Runs of watches are shown by `relay watches`.
SELECT id, kind, event_id, case_id, key, rule, provider, action, args, state, step, why, due_at, tries, doubts,
    room, mark, batch, hours, priority, looks, attempts, alias, seen, lease, created_at, settled_at
FROM call
WHERE kind <> 'page'
  AND (CAST(:before AS TEXT) IS NULL OR id < :before)
  AND (CAST(:event_id AS TEXT) IS NULL OR event_id = :event_id)
  AND (CAST(:case_id AS TEXT) IS NULL OR case_id = :case_id)
  AND (CAST(:provider AS TEXT) IS NULL OR provider = :provider)
  AND (CAST(:state AS TEXT) IS NULL OR state = :state)
ORDER BY id DESC LIMIT :limit

-- attempts --
SELECT call_id, number, step, began_at, ended_at, status, outcome, why, answer
FROM attempt WHERE call_id = :call_id ORDER BY number

-- open_case --
INSERT INTO cases (id, key, provider, rule, action, args, policy, state, why, flaw, event_id, call_id, retries, spent,
    aliases, storming, opened_at, accepted_at, deadline_at, ended_at, moments)
VALUES (:id, :key, :provider, :rule, :action, :args, :policy, :state, :why, :flaw, :event_id, :call_id, :retries,
    :spent, :aliases, :storming, :opened_at, :accepted_at, :deadline_at, :ended_at, :moments)

-- keep_case --
UPDATE cases SET args = :args, state = :state, why = :why, event_id = :event_id, call_id = :call_id, retries = :retries,
    spent = :spent, aliases = :aliases, storming = :storming, accepted_at = :accepted_at, deadline_at =
    :deadline_at, ended_at = :ended_at, moments = :moments
WHERE id = :id

-- take_case --
-- Touching the row makes it ours until the commit, on both engines.
UPDATE cases SET id = id WHERE id = :id
RETURNING id, key, provider, rule, action, args, policy, state, why, flaw, event_id, call_id, retries, spent,
    aliases, storming, opened_at, accepted_at, deadline_at, ended_at, moments

-- named --
-- The last case that bore a name.
SELECT case_id FROM name WHERE provider = :provider AND name = :name

-- bears --
-- The last cases that bore a name, whatever the provider.
SELECT case_id FROM name WHERE name = :name ORDER BY case_id DESC

-- name --
INSERT INTO name (provider, name, case_id) VALUES (:provider, :name, :case_id)
ON CONFLICT (provider, name) DO UPDATE SET case_id = excluded.case_id

-- note --
INSERT INTO moment (case_id, number, at, kind, what, ref, who)
VALUES (:case_id, :number, :at, :kind, :what, :ref, :who)

-- under_way --
-- The retry of a case that waited has begun.
UPDATE cases SET state = 'retrying', why = :why WHERE call_id = :call_id AND state = 'open'

-- overdue --
SELECT id FROM cases WHERE deadline_at <= :now ORDER BY deadline_at LIMIT :limit

-- next_deadline --
SELECT MIN(deadline_at) AS at FROM cases WHERE deadline_at IS NOT NULL

-- case --
SELECT id, key, provider, rule, action, args, policy, state, why, flaw, event_id, call_id, retries, spent,
    aliases, storming, opened_at, accepted_at, deadline_at, ended_at, moments
FROM cases WHERE id = :id

-- cases --
-- Newest first; :before is the last id of the page before.
SELECT id, key, provider, rule, action, args, policy, state, why, flaw, event_id, call_id, retries, spent,
    aliases, storming, opened_at, accepted_at, deadline_at, ended_at, moments
FROM cases
WHERE (CAST(:before AS TEXT) IS NULL OR id < :before)
  AND (CAST(:state AS TEXT) IS NULL OR state = :state)
  AND (CAST(:provider AS TEXT) IS NULL OR provider = :provider)
  AND (CAST(:rule AS TEXT) IS NULL OR rule = :rule)
  AND (CAST(:key AS TEXT) IS NULL OR key = :key)
ORDER BY id DESC LIMIT :limit

-- moments --
SELECT number, at, kind, what, ref, who FROM moment WHERE case_id = :case_id ORDER BY number

-- told --
-- The cases that an event opened, joined or ended.
SELECT DISTINCT case_id FROM moment WHERE ref = :ref ORDER BY case_id

-- tries_made --
SELECT COUNT(*) AS tries FROM call JOIN attempt ON attempt.call_id = call.id WHERE call.case_id = :case_id

-- tries_of --
-- All tries for a case.
SELECT call.kind, attempt.call_id, attempt.number, attempt.step, attempt.began_at, attempt.ended_at, attempt.status,
    attempt.outcome, attempt.why
FROM call JOIN attempt ON attempt.call_id = call.id
WHERE call.case_id = :case_id ORDER BY attempt.began_at, attempt.call_id, attempt.number

-- new_weather --
INSERT INTO weather (provider, began_at, width, rests, rests_until, tally)
VALUES (:provider, 0, 1, 0, 0, '') ON CONFLICT (provider) DO NOTHING

-- take_weather --
UPDATE weather SET provider = provider WHERE provider = :provider
RETURNING provider, began_at, width, rests, rests_until, tally

-- keep_weather --
UPDATE weather SET began_at = :began_at, width = :width, rests = :rests, rests_until = :rests_until, tally = :tally
WHERE provider = :provider

-- weathers --
SELECT provider, began_at, width, rests, rests_until, tally FROM weather ORDER BY provider

-- rested --
-- Storms whose rest is over.
SELECT provider FROM weather WHERE rests_until > 0 AND rests_until <= :now

-- next_rested --
SELECT MIN(rests_until) AS at FROM weather WHERE rests_until > 0

-- lately --
-- How many cases a provider opened since, counting no further than :limit.
SELECT COUNT(*) AS cases FROM (
    SELECT id FROM cases WHERE provider = :provider AND opened_at > :since LIMIT :limit
) AS opened

-- storming --
-- How many of a provider's cases a storm holds up, or has let go, counting no further than :limit.
SELECT COUNT(*) AS cases FROM (
    SELECT id FROM cases WHERE provider = :provider AND storming = :storming AND ended_at IS NULL LIMIT :limit
) AS stormed

-- ready --
-- Cases that a storm holds up and whose own time has come, the longest waiting first.
SELECT cases.id FROM cases JOIN call ON call.id = cases.call_id
WHERE cases.provider = :provider AND cases.storming = 'parked' AND cases.ended_at IS NULL
  AND call.state = 'queued' AND call.due_at <= :by
ORDER BY cases.call_id LIMIT :limit

-- calm --
-- Wait no longer for what is out.
UPDATE cases SET storming = 'calm' WHERE provider = :provider AND storming = 'out' AND ended_at IS NULL

-- caught --
-- A provider's live cases when a storm begins, with how their call stands.
SELECT cases.id, call.state, call.tries, call.kind
FROM cases JOIN call ON call.id = cases.call_id
WHERE cases.provider = :provider AND cases.ended_at IS NULL AND cases.storming = 'calm'
  AND cases.state IN ('open', 'retrying', 'watching')
ORDER BY cases.id

-- arm_watch --
INSERT INTO watch (name, provider, listing, armed_at, run_at, run_items, run_fresh, ran_at, took_ms, items, fresh, failures, why)
VALUES (:name, :provider, :listing, :armed_at, NULL, 0, 0, NULL, NULL, 0, 0, 0, '')
ON CONFLICT (name) DO UPDATE SET provider = excluded.provider, listing = excluded.listing

-- watch --
SELECT name, provider, listing, armed_at, run_at, run_items, run_fresh, ran_at, took_ms, items, fresh, failures, why
FROM watch WHERE name = :name

-- keep_watch --
UPDATE watch SET run_at = :run_at, run_items = :run_items, run_fresh = :run_fresh, ran_at = :ran_at,
    took_ms = :took_ms, items = :items, fresh = :fresh, failures = :failures, why = :why
WHERE name = :name

-- watches --
-- What each watch has done, and when it runs next.
SELECT name, provider, listing, armed_at, run_at, run_items, run_fresh, ran_at, took_ms, items, fresh, failures, why,
    (SELECT COUNT(*) FROM sighting WHERE sighting.watch = watch.name) AS standing,
    (SELECT MIN(due_at) FROM call
        WHERE call.kind = 'page' AND call.key = watch.name AND call.settled_at IS NULL) AS next_at
FROM watch ORDER BY name

-- runs --
-- The runs of watches that are not ended.
SELECT id, kind, event_id, case_id, key, rule, provider, action, args, state, step, why, due_at, tries, doubts,
    room, mark, batch, hours, priority, looks, attempts, alias, seen, lease, created_at, settled_at
FROM call WHERE kind = 'page' AND settled_at IS NULL ORDER BY key, id

-- old_runs --
-- Ended runs of a watch, but the last few.
SELECT id FROM call WHERE kind = 'page' AND key = :key AND settled_at IS NOT NULL
ORDER BY id DESC LIMIT 1000 OFFSET :kept

-- drop_tries --
DELETE FROM attempt WHERE call_id = :id

-- drop_call --
DELETE FROM call WHERE id = :id

-- sighting --
SELECT event_id, case_id FROM sighting WHERE watch = :watch AND item = :item

-- sighted --
INSERT INTO sighting (watch, item, event_id, case_id, run_at, missed)
VALUES (:watch, :item, :event_id, :case_id, :run_at, 0)
ON CONFLICT (watch, item) DO UPDATE SET event_id = excluded.event_id, case_id = excluded.case_id,
    run_at = excluded.run_at, missed = 0

-- still_there --
UPDATE sighting SET run_at = :run_at, missed = 0 WHERE watch = :watch AND item = :item

-- missed --
-- Count a run that did not see them.
UPDATE sighting SET missed = missed + 1 WHERE watch = :watch AND run_at < :run_at

-- unsee --
DELETE FROM sighting WHERE watch = :watch AND missed >= :missed

-- unwatch --
DELETE FROM sighting WHERE watch = :watch

-- gone_watch --
DELETE FROM watch WHERE name = :name

-- standing_watches --
SELECT name FROM watch ORDER BY name
