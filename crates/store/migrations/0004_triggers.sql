-- Webhooks of repositories, and what is to be sent to them.

CREATE TABLE triggers (
    id            TEXT   NOT NULL PRIMARY KEY,
    repository_id TEXT   NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
    -- Patterns, a JSON array; NULL: every branch, every file.
    branches      TEXT,
    globs         TEXT,
    endpoint      TEXT   NOT NULL,
    created_at    BIGINT NOT NULL
);

CREATE INDEX triggers_of_repository ON triggers (repository_id, created_at);

-- Where the branches of a repository with triggers were when something was last recorded of them.
-- One that is not here did not exist.
CREATE TABLE recorded_branches (
    repository_id TEXT NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
    name          TEXT NOT NULL,
    tip           TEXT NOT NULL,
    PRIMARY KEY (repository_id, name)
);

CREATE TABLE deliveries (
    id              TEXT   NOT NULL PRIMARY KEY,
    trigger_id      TEXT   NOT NULL REFERENCES triggers (id) ON DELETE CASCADE,
    -- The deliveries of a trigger are made in this order, one after the other.
    position        BIGINT NOT NULL,
    branch          TEXT   NOT NULL,
    old_tip         TEXT,
    new_tip         TEXT   NOT NULL,
    -- The delivery that this one repeats, which may be forgotten already.
    redelivery_of   TEXT,
    -- 'pending', 'delivered' or 'dead'.
    state           TEXT   NOT NULL,
    -- What came of each attempt, a JSON array.
    attempts        TEXT   NOT NULL,
    failure         TEXT,
    next_attempt_at BIGINT,
    created_at      BIGINT NOT NULL,
    finished_at     BIGINT,
    UNIQUE (trigger_id, position),
    CHECK ((state = 'pending') = (next_attempt_at IS NOT NULL)),
    CHECK ((state = 'pending') = (finished_at IS NULL)),
    CHECK ((state = 'dead') = (failure IS NOT NULL))
);

CREATE INDEX deliveries_pending ON deliveries (trigger_id, position) WHERE state = 'pending';
CREATE INDEX deliveries_finished ON deliveries (finished_at) WHERE finished_at IS NOT NULL;
