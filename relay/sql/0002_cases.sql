-- Cases, and what follows them up. A call now says what it is for; runs of watches have neither event nor case.

CREATE TABLE cases (
    id          TEXT   PRIMARY KEY,
    key         TEXT   NOT NULL,
    provider    TEXT   NOT NULL,
    rule        TEXT   NOT NULL,
    action      TEXT   NOT NULL,
    args        TEXT   NOT NULL,
    policy      TEXT   NOT NULL,
    state       TEXT   NOT NULL CHECK (state IN (
                    'open', 'retrying', 'watching', 'needs_person', 'recovered', 'gave_up', 'closed')),
    why         TEXT   NOT NULL,
    flaw        TEXT   NOT NULL,
    event_id    TEXT   NOT NULL REFERENCES event (id),
    call_id     TEXT,
    retries     BIGINT NOT NULL,
    spent       TEXT   NOT NULL,
    aliases     TEXT   NOT NULL,
    storming    TEXT   NOT NULL CHECK (storming IN ('calm', 'parked', 'out')),
    opened_at   BIGINT NOT NULL,
    accepted_at BIGINT,
    deadline_at BIGINT,
    ended_at    BIGINT,
    moments     BIGINT NOT NULL,
    CHECK ((state IN ('recovered', 'gave_up', 'closed')) = (ended_at IS NOT NULL)),
    CHECK (ended_at IS NULL OR deadline_at IS NULL)
);
-- One resource, one case that is not ended: on all nodes together.
CREATE UNIQUE INDEX cases_live ON cases (provider, key) WHERE ended_at IS NULL;
CREATE INDEX cases_deadline ON cases (deadline_at) WHERE deadline_at IS NOT NULL;
CREATE INDEX cases_opened ON cases (provider, opened_at);
CREATE INDEX cases_storming ON cases (provider, storming, call_id) WHERE ended_at IS NULL;
CREATE INDEX cases_state ON cases (state, id);
CREATE INDEX cases_call ON cases (call_id);

-- Each key and alias leads to the last case that bore it.
CREATE TABLE name (
    provider TEXT NOT NULL,
    name     TEXT NOT NULL,
    case_id  TEXT NOT NULL REFERENCES cases (id),
    PRIMARY KEY (provider, name)
);
CREATE INDEX name_name ON name (name);

CREATE TABLE moment (
    case_id TEXT   NOT NULL REFERENCES cases (id),
    number  BIGINT NOT NULL,
    at      BIGINT NOT NULL,
    kind    TEXT   NOT NULL,
    what    TEXT   NOT NULL,
    ref     TEXT,
    who     TEXT,
    PRIMARY KEY (case_id, number)
);
CREATE INDEX moment_ref ON moment (ref);

-- How a provider's resources fare, as the gate says how the provider does.
CREATE TABLE weather (
    provider    TEXT   PRIMARY KEY,
    began_at    BIGINT NOT NULL,
    width       BIGINT NOT NULL,
    rests       BIGINT NOT NULL,
    rests_until BIGINT NOT NULL,
    tally       TEXT   NOT NULL
);

CREATE TABLE watch (
    name      TEXT   PRIMARY KEY,
    provider  TEXT   NOT NULL,
    listing   TEXT   NOT NULL,
    armed_at  BIGINT NOT NULL,
    run_at    BIGINT,
    run_items BIGINT NOT NULL,
    run_fresh BIGINT NOT NULL,
    ran_at    BIGINT,
    took_ms   BIGINT,
    items     BIGINT NOT NULL,
    fresh     BIGINT NOT NULL,
    failures  BIGINT NOT NULL,
    why       TEXT   NOT NULL
);

-- What a watch has seen and told, for as long as it goes on seeing it.
CREATE TABLE sighting (
    watch    TEXT   NOT NULL,
    item     TEXT   NOT NULL,
    event_id TEXT   NOT NULL REFERENCES event (id),
    case_id  TEXT,
    run_at   BIGINT NOT NULL,
    missed   BIGINT NOT NULL,
    PRIMARY KEY (watch, item)
);

CREATE TABLE call_2 (
    id         TEXT   PRIMARY KEY,
    kind       TEXT   NOT NULL CHECK (kind IN ('retry', 'check', 'page')),
    event_id   TEXT   REFERENCES event (id),
    case_id    TEXT   REFERENCES cases (id),
    key        TEXT   NOT NULL,
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
    doubts     BIGINT NOT NULL,
    room       BIGINT NOT NULL,
    mark       TEXT   NOT NULL,
    batch      TEXT   NOT NULL,
    hours      TEXT   NOT NULL,
    looks      BIGINT NOT NULL,
    attempts   BIGINT NOT NULL,
    alias      TEXT,
    seen       TEXT   CHECK (seen IN ('failed', 'running', 'recovered')),
    lease      TEXT,
    created_at BIGINT NOT NULL,
    settled_at BIGINT,
    CHECK ((state = 'running') = (lease IS NOT NULL)),
    CHECK ((state IN ('done', 'dead', 'cancelled')) = (settled_at IS NOT NULL))
);
-- Calls from before had no case: they end as they would have, and nobody follows them up.
INSERT INTO call_2
SELECT id, 'retry', event_id, NULL, case_key, rule, provider, action, args, state, step, why, due_at, tries, 0, 1000,
    '', '', '', looks, attempts, alias, NULL, lease, created_at, settled_at
FROM call;

CREATE TABLE attempt_2 (
    call_id  TEXT   NOT NULL REFERENCES call_2 (id),
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
INSERT INTO attempt_2 SELECT call_id, number, step, began_at, ended_at, status, outcome, why, answer FROM attempt;

DROP TABLE attempt;
DROP TABLE call;
ALTER TABLE call_2 RENAME TO call;
ALTER TABLE attempt_2 RENAME TO attempt;

CREATE INDEX call_due ON call (provider, due_at, id) WHERE state IN ('queued', 'unknown');
CREATE INDEX call_leased ON call (due_at) WHERE state = 'running';
CREATE INDEX call_event ON call (event_id);
CREATE INDEX call_case ON call (case_id);
CREATE INDEX call_key ON call (key, id) WHERE kind = 'page';
CREATE INDEX call_state ON call (state, id);
