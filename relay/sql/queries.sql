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
INSERT INTO event (id, source, type, delivery, digest, received_at, verified, headers, body, flaw, decision, rule_version)
VALUES (:id, :source, :type, :delivery, :digest, :received_at, :verified, :headers, :body, :flaw, :decision, :rule_version)

-- queue --
INSERT INTO call (id, event_id, case_key, rule, provider, action, args, state, step, why, due_at, tries, looks, attempts, alias, lease, created_at, settled_at)
VALUES (:id, :event_id, :case_key, :rule, :provider, :action, :args, :state, :step, :why, :due_at, 0, 0, 0, NULL, NULL, :created_at, :settled_at)

-- due --
-- How many of a provider's calls are due, counting no further than :limit.
SELECT COUNT(*) AS due FROM (
    SELECT id FROM call
    WHERE provider = :provider AND state IN ('queued', 'unknown') AND due_at <= :now
    ORDER BY due_at, id LIMIT :limit
) AS waiting

-- next_due --
SELECT MIN(due_at) AS due_at FROM call WHERE provider = :provider AND state IN ('queued', 'unknown')

-- claim --
-- Lease a provider's due calls until :until, oldest first. The CTE is materialized so that LIMIT holds whatever
-- plan PostgreSQL picks.
WITH due AS MATERIALIZED (
    SELECT id FROM call
    WHERE provider = :provider AND state IN ('queued', 'unknown') AND due_at <= :now
    ORDER BY due_at, id LIMIT :limit
    {lock}
)
UPDATE call SET state = 'running', lease = :lease, due_at = :until, attempts = call.attempts + 1
FROM due
WHERE call.id = due.id
RETURNING call.id, call.event_id, call.case_key, call.rule, call.provider, call.action, call.args, call.state,
    call.step, call.why, call.due_at, call.tries, call.looks, call.attempts, call.alias, call.lease, call.created_at,
    call.settled_at

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
UPDATE call SET state = :state, step = :step, why = :why, due_at = :due_at, tries = :tries, looks = :looks,
    alias = :alias, lease = NULL, settled_at = :settled_at
WHERE id = :id AND state = 'running' AND lease = :lease
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
    why = :why, step = 'look', due_at = :now, lease = NULL
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
-- Where the calls of each provider stand.
SELECT provider, state, COUNT(*) AS calls FROM call GROUP BY provider, state ORDER BY provider, state

-- events --
-- Newest first; :before is the last id of the page before.
SELECT id, source, type, delivery, digest, received_at, verified, headers, body, flaw, decision, rule_version,
    (SELECT COUNT(*) FROM call WHERE call.event_id = event.id) AS calls
FROM event
WHERE (CAST(:before AS TEXT) IS NULL OR id < :before)
  AND (CAST(:id AS TEXT) IS NULL OR id = :id)
  AND (CAST(:source AS TEXT) IS NULL OR source = :source)
  AND (CAST(:decision AS TEXT) IS NULL OR decision = :decision)
ORDER BY id DESC LIMIT :limit

-- calls --
-- Newest first; :before is the last id of the page before.
SELECT id, event_id, case_key, rule, provider, action, args, state, step, why, due_at, tries, looks, attempts,
    alias, lease, created_at, settled_at
FROM call
WHERE (CAST(:before AS TEXT) IS NULL OR id < :before)
  AND (CAST(:id AS TEXT) IS NULL OR id = :id)
  AND (CAST(:event_id AS TEXT) IS NULL OR event_id = :event_id)
  AND (CAST(:provider AS TEXT) IS NULL OR provider = :provider)
  AND (CAST(:state AS TEXT) IS NULL OR state = :state)
ORDER BY id DESC LIMIT :limit

-- attempts --
SELECT call_id, number, step, began_at, ended_at, status, outcome, why, answer
FROM attempt WHERE call_id = :call_id ORDER BY number
