-- What the rules made of each event, rule by rule; windows of rules; which call goes first.

ALTER TABLE event ADD COLUMN happened_at BIGINT;
ALTER TABLE event ADD COLUMN parts TEXT NOT NULL DEFAULT '[]';
-- A column's check can't be changed, on one of the engines: it goes with its column.
ALTER TABLE event ADD COLUMN decided TEXT NOT NULL DEFAULT 'no_rule'
    CHECK (decided IN ('matched', 'ignored', 'suppressed', 'unjudged', 'no_rule', 'unparsable'));
UPDATE event SET decided = decision;
ALTER TABLE event DROP COLUMN decision;
ALTER TABLE event RENAME COLUMN decided TO decision;

ALTER TABLE call ADD COLUMN priority BIGINT NOT NULL DEFAULT 1 CHECK (priority BETWEEN 0 AND 2);
DROP INDEX call_due;
CREATE INDEX call_due ON call (provider, priority, due_at, id) WHERE state IN ('queued', 'unknown');

-- A rule's windows. One of a rule and key takes events in; others of it have ended, and have still to act.
CREATE TABLE span (
    rule      TEXT   NOT NULL,
    key       TEXT   NOT NULL,
    kind      TEXT   NOT NULL CHECK (kind IN ('once_within', 'once_after', 'accumulate_within', 'expect')),
    event_id  TEXT   NOT NULL REFERENCES event (id),
    events    BIGINT NOT NULL,
    threshold BIGINT NOT NULL,
    opened_at BIGINT NOT NULL,
    ends_at   BIGINT NOT NULL,
    seen_at   BIGINT NOT NULL,
    ended     BIGINT NOT NULL DEFAULT 0 CHECK (ended IN (0, 1)),
    PRIMARY KEY (rule, key, event_id)
);
CREATE UNIQUE INDEX span_open ON span (rule, key) WHERE ended = 0;
CREATE INDEX span_opened ON span (opened_at);
CREATE INDEX span_ends ON span (ends_at) WHERE kind <> 'once_within';
-- Nobody is woken when one of these ends.
CREATE INDEX span_quiet ON span (ends_at) WHERE kind = 'once_within';

-- The events of a window that acts for all of them at its end.
CREATE TABLE span_event (
    rule      TEXT   NOT NULL,
    opened_by TEXT   NOT NULL,
    mark      TEXT   NOT NULL,
    number    BIGINT NOT NULL,
    event_id  TEXT   NOT NULL REFERENCES event (id),
    PRIMARY KEY (rule, opened_by, mark)
);
CREATE UNIQUE INDEX span_event_number ON span_event (rule, opened_by, number);
