-- Statements about windows of rules; queries.sql has the others, and the house rules.

-- take_span --
-- The window that takes in events of a rule and key. Touching the row makes it ours until the commit, on both engines.
UPDATE span SET rule = rule WHERE rule = :rule AND key = :key AND ended = 0
RETURNING rule, key, kind, event_id, events, threshold, opened_at, ends_at, seen_at

-- open_span --
INSERT INTO span (rule, key, kind, event_id, events, threshold, opened_at, ends_at, seen_at)
VALUES (:rule, :key, :kind, :event_id, :events, :threshold, :opened_at, :ends_at, :seen_at)

-- keep_span --
UPDATE span SET events = :events, threshold = :threshold, opened_at = :opened_at, ends_at = :ends_at, seen_at = :seen_at
WHERE rule = :rule AND key = :key AND event_id = :event_id

-- end_span --
-- Let a window take in nothing more; it has still to act.
UPDATE span SET ended = 1 WHERE rule = :rule AND key = :key AND event_id = :event_id

-- close_span --
-- Take a window away, if it still stands as it was.
DELETE FROM span WHERE rule = :rule AND key = :key AND event_id = :event_id AND events = :events
RETURNING event_id

-- quiet_spans --
-- Take windows away whose end brings nothing about.
DELETE FROM span WHERE (rule, key, event_id) IN (
    SELECT rule, key, event_id FROM span WHERE kind = 'once_within' AND ends_at <= :now ORDER BY ends_at LIMIT :limit
)

-- ended_spans --
SELECT rule, key, kind, event_id, events, threshold, opened_at, ends_at, seen_at FROM span
WHERE kind <> 'once_within' AND ends_at <= :now ORDER BY ends_at LIMIT :limit

-- next_span --
SELECT MIN(ends_at) AS at FROM span WHERE kind <> 'once_within'

-- wind_back --
-- After a clock jumped back, no window lasts longer from now than it would have at first.
UPDATE span SET ends_at = ends_at - opened_at + :now, opened_at = :now WHERE opened_at > :now

-- marked --
-- Whether a window has one of this mark.
SELECT number FROM span_event WHERE rule = :rule AND opened_by = :opened_by AND mark = :mark

-- collect --
INSERT INTO span_event (rule, opened_by, mark, number, event_id)
VALUES (:rule, :opened_by, :mark, :number, :event_id)

-- collected --
-- The first events of a window, and how long they are.
SELECT event.id, LENGTH(event.body) AS bytes
FROM span_event JOIN event ON event.id = span_event.event_id
WHERE span_event.rule = :rule AND span_event.opened_by = :opened_by
ORDER BY span_event.number LIMIT :limit

-- uncollect --
DELETE FROM span_event WHERE rule = :rule AND opened_by = :opened_by

-- spans --
-- Windows that are open or have still to act, the next that ends first.
SELECT rule, key, kind, event_id, events, threshold, opened_at, ends_at, seen_at FROM span
WHERE ends_at > :now OR kind IN ('once_after', 'expect')
ORDER BY ends_at, rule, key LIMIT :limit
