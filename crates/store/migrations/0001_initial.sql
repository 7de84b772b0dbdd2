-- Times are Unix milliseconds. Types are ones that SQLite and PostgreSQL both take.

CREATE TABLE accounts (
    id         TEXT   NOT NULL PRIMARY KEY,
    name       TEXT   NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE api_keys (
    id          TEXT   NOT NULL PRIMARY KEY,
    account_id  TEXT   NOT NULL REFERENCES accounts (id),
    name        TEXT   NOT NULL,
    -- SHA-256 of the whole key, in hex.
    secret_hash TEXT   NOT NULL UNIQUE CHECK (length(secret_hash) = 64),
    created_at  BIGINT NOT NULL,
    revoked_at  BIGINT
);

CREATE INDEX api_keys_of_account ON api_keys (account_id, created_at);

CREATE TABLE vms (
    id                       TEXT    NOT NULL PRIMARY KEY,
    -- NULL: held ready in the pool, nobody's.
    account_id               TEXT    REFERENCES accounts (id),
    name                     TEXT,
    vcpus                    BIGINT  NOT NULL,
    memory_mib               BIGINT  NOT NULL,
    disk_mib                 BIGINT  NOT NULL,
    -- Content hash of the base image.
    image                    TEXT    NOT NULL,
    phase                    TEXT    NOT NULL,
    -- The current run, from before its process starts until after it ended.
    instance_id              TEXT    UNIQUE,
    -- The host's resources of that run: addresses and names are computed from it.
    slot                     BIGINT  UNIQUE,
    persistence              TEXT    NOT NULL,
    idle_timeout_seconds     BIGINT,
    activity_threshold_bytes BIGINT,
    recreate                 BOOLEAN NOT NULL,
    created_at               BIGINT  NOT NULL,
    deleted_at               BIGINT,
    last_exit                TEXT,
    CHECK ((instance_id IS NULL) = (slot IS NULL)),
    CHECK ((phase = 'deleted') = (deleted_at IS NOT NULL)),
    CHECK (deleted_at IS NULL OR instance_id IS NULL),
    CHECK (phase IN ('stopped', 'deleted') OR instance_id IS NOT NULL),
    CHECK (phase <> 'ready' OR account_id IS NULL)
);

CREATE INDEX vms_of_account ON vms (account_id, created_at);
CREATE INDEX vms_live ON vms (created_at) WHERE deleted_at IS NULL;
CREATE INDEX vms_ready ON vms (image, vcpus, memory_mib, disk_mib) WHERE phase = 'ready';

-- Unfinished operations only: a finished one is removed, so one row per VM is one at a time.
CREATE TABLE operations (
    id         TEXT   NOT NULL PRIMARY KEY,
    vm_id      TEXT   NOT NULL UNIQUE REFERENCES vms (id),
    kind       TEXT   NOT NULL,
    started_at BIGINT NOT NULL
);
