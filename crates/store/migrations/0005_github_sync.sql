-- GitHub Apps of accounts, and the repositories that are kept equal to one at GitHub.

CREATE TABLE github_apps (
    account_id     TEXT   NOT NULL PRIMARY KEY REFERENCES accounts (id),
    -- The number that GitHub gave it. Several accounts may use one app.
    app_id         TEXT   NOT NULL,
    -- RSA, in PEM.
    private_key    TEXT   NOT NULL,
    webhook_secret TEXT   NOT NULL,
    api_url        TEXT   NOT NULL,
    created_at     BIGINT NOT NULL
);

CREATE INDEX github_apps_of_id ON github_apps (app_id);

CREATE TABLE github_syncs (
    repository_id   TEXT   NOT NULL PRIMARY KEY REFERENCES repositories (id) ON DELETE CASCADE,
    -- owner/name
    github_name     TEXT   NOT NULL,
    -- Grows with everything that is a reason to sync; `done` follows when a sync has ended.
    wanted          BIGINT NOT NULL,
    done            BIGINT NOT NULL,
    next_attempt_at BIGINT NOT NULL,
    -- Syncs that failed one after the other, the last one included.
    failures        BIGINT NOT NULL,
    error           TEXT,
    -- What only a person can decide, a JSON array.
    conflicts       TEXT   NOT NULL,
    created_at      BIGINT NOT NULL,
    synced_at       BIGINT
);

-- Where each branch and tag was when it was last the same on both sides.
CREATE TABLE github_refs (
    repository_id TEXT NOT NULL REFERENCES github_syncs (repository_id) ON DELETE CASCADE,
    name          TEXT NOT NULL,
    target        TEXT NOT NULL,
    PRIMARY KEY (repository_id, name)
);
