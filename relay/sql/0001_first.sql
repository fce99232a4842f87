-- Both engines read this text: TEXT, BIGINT and BYTEA mean the same in each. Instants are milliseconds since
-- 1970; ids are made in Python and sort by time; what is JSON is never looked into by SQL.

CREATE TABLE event (
    id           TEXT   PRIMARY KEY,
    source       TEXT   NOT NULL,
    type         TEXT,
    delivery     TEXT,
    digest       TEXT   NOT NULL,
    received_at  BIGINT NOT NULL,
    verified     TEXT   NOT NULL CHECK (verified IN ('verified', 'authenticated', 'unattempted')),
    headers      TEXT   NOT NULL,
    body         BYTEA  NOT NULL,
    flaw         TEXT   NOT NULL,
    decision     TEXT   NOT NULL CHECK (decision IN ('matched', 'no_rule', 'unparsable')),
    rule_version TEXT   NOT NULL
);

-- Deliveries that are known as duplicates until a certain day: by the sender's id, and by the signed bytes.
CREATE TABLE seen (
    source    TEXT   NOT NULL,
    mark      TEXT   NOT NULL,
    event_id  TEXT   NOT NULL REFERENCES event (id),
    until     BIGINT NOT NULL,
    PRIMARY KEY (source, mark)
);
CREATE INDEX seen_until ON seen (until);

CREATE TABLE call (
    id         TEXT   PRIMARY KEY,
    event_id   TEXT   NOT NULL REFERENCES event (id),
    case_key   TEXT   NOT NULL,
    rule       TEXT   NOT NULL,
    provider   TEXT   NOT NULL,
    action     TEXT   NOT NULL,
    args       TEXT   NOT NULL,
    state      TEXT   NOT NULL
                      CHECK (state IN ('queued', 'running', 'unknown', 'held', 'done', 'dead', 'cancelled')),
    step       TEXT   NOT NULL CHECK (step IN ('look', 'send')),
    why        TEXT   NOT NULL,
    due_at     BIGINT NOT NULL,
    tries      BIGINT NOT NULL,
    looks      BIGINT NOT NULL,
    attempts   BIGINT NOT NULL,
    alias      TEXT,
    lease      TEXT,
    created_at BIGINT NOT NULL,
    settled_at BIGINT,
    CHECK ((state = 'running') = (lease IS NOT NULL)),
    CHECK ((state IN ('done', 'dead', 'cancelled')) = (settled_at IS NOT NULL))
);
CREATE INDEX call_due ON call (provider, due_at, id) WHERE state IN ('queued', 'unknown');
CREATE INDEX call_leased ON call (due_at) WHERE state = 'running';
CREATE INDEX call_event ON call (event_id);
CREATE INDEX call_state ON call (state, id);

CREATE TABLE attempt (
    call_id  TEXT   NOT NULL REFERENCES call (id),
    number   BIGINT NOT NULL,
    step     TEXT   NOT NULL CHECK (step IN ('look', 'send')),
    began_at BIGINT NOT NULL,
    ended_at BIGINT,
    status   BIGINT,
    outcome  TEXT,
    why      TEXT   NOT NULL,
    answer   BYTEA  NOT NULL,
    PRIMARY KEY (call_id, number),
    CHECK ((ended_at IS NULL) = (outcome IS NULL))
);

CREATE TABLE gate (
    provider        TEXT   PRIMARY KEY,
    spent_at        BIGINT NOT NULL,
    throttled_until BIGINT NOT NULL,
    shut_until      BIGINT NOT NULL,
    failures        BIGINT NOT NULL,
    tripped_at      BIGINT NOT NULL,
    trips           BIGINT NOT NULL,
    paused          TEXT   NOT NULL
);

-- One row that /readyz writes, to know that an insert would work now.
CREATE TABLE pulse (
    one BIGINT PRIMARY KEY CHECK (one = 1),
    at  BIGINT NOT NULL
);
