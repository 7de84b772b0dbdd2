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

CREATE TABLE snapshots (
    id           TEXT   NOT NULL PRIMARY KEY,
    account_id   TEXT   NOT NULL REFERENCES accounts (id),
    -- 'kept': its owner's. 'suspend', 'fork': the server's own, shown to nobody.
    purpose      TEXT   NOT NULL,
    -- The VM and the run that it was taken of. Checked when it is inserted, and VMs are never
    -- removed; a foreign key would go round in a circle with vms.
    vm_id        TEXT,
    instance_id  TEXT,
    name         TEXT,
    state        TEXT   NOT NULL,
    failure      TEXT,
    persistence  TEXT   NOT NULL,
    vcpus        BIGINT NOT NULL,
    memory_mib   BIGINT NOT NULL,
    disk_mib     BIGINT NOT NULL,
    -- Content hash of the base image that its disk stands on.
    image        TEXT   NOT NULL,
    -- Hash of the spec that it was built from.
    content      TEXT,
    -- Either may be recorded before the other, so no foreign key.
    build_id     TEXT,
    memory_bytes BIGINT,
    disk_bytes   BIGINT,
    created_at   BIGINT NOT NULL,
    last_used_at BIGINT NOT NULL,
    deleted_at   BIGINT,
    CHECK ((state IN ('failed', 'lost')) = (failure IS NOT NULL)),
    CHECK (deleted_at IS NULL OR state <> 'building'),
    CHECK (purpose <> 'suspend' OR vm_id IS NOT NULL)
);

CREATE INDEX snapshots_of_account ON snapshots (account_id, created_at);
CREATE INDEX snapshots_of_content ON snapshots (account_id, content, created_at)
    WHERE content IS NOT NULL;
CREATE INDEX snapshots_live ON snapshots (created_at) WHERE deleted_at IS NULL;

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
    -- The snapshot that it was created from; NULL: the base image. Kept for ever.
    origin                   TEXT    REFERENCES snapshots (id),
    -- The memory that it goes on with when it wakes.
    suspended                TEXT    UNIQUE REFERENCES snapshots (id),
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
    CHECK (phase IN ('stopped', 'suspended', 'deleted') OR instance_id IS NOT NULL),
    CHECK ((phase = 'suspended') = (suspended IS NOT NULL)),
    CHECK (phase <> 'ready' OR account_id IS NULL),
    CHECK (account_id IS NOT NULL OR (origin IS NULL AND suspended IS NULL))
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

CREATE TABLE builds (
    id             TEXT   NOT NULL PRIMARY KEY,
    account_id     TEXT   NOT NULL REFERENCES accounts (id),
    -- What it makes. A build comes first, so no foreign keys.
    snapshot_id    TEXT,
    vm_id          TEXT,
    -- Hash of the spec.
    content        TEXT,
    planned_phases TEXT   NOT NULL,
    phases         TEXT   NOT NULL,
    state          TEXT   NOT NULL,
    error          TEXT,
    created_at     BIGINT NOT NULL,
    updated_at     BIGINT NOT NULL,
    finished_at    BIGINT,
    CHECK ((state = 'running') = (finished_at IS NULL)),
    CHECK ((state = 'failed') = (error IS NOT NULL))
);

CREATE INDEX builds_of_vm ON builds (vm_id, created_at) WHERE vm_id IS NOT NULL;
CREATE INDEX builds_running ON builds (created_at) WHERE state = 'running';
