-- Identities, their tokens and what they may use. What ended has no row: nothing has to remember to
-- pass it over.

CREATE TABLE identities (
    id         TEXT   NOT NULL PRIMARY KEY,
    account_id TEXT   NOT NULL REFERENCES accounts (id),
    created_at BIGINT NOT NULL
);

CREATE INDEX identities_of_account ON identities (account_id, created_at);

CREATE TABLE identity_tokens (
    id          TEXT   NOT NULL PRIMARY KEY,
    identity_id TEXT   NOT NULL REFERENCES identities (id) ON DELETE CASCADE,
    -- SHA-256 of the whole token, in hex.
    secret_hash TEXT   NOT NULL UNIQUE CHECK (length(secret_hash) = 64),
    created_at  BIGINT NOT NULL
);

CREATE INDEX identity_tokens_of_identity ON identity_tokens (identity_id, created_at);

CREATE TABLE vm_grants (
    id            TEXT   NOT NULL PRIMARY KEY,
    identity_id   TEXT   NOT NULL REFERENCES identities (id) ON DELETE CASCADE,
    vm_id         TEXT   NOT NULL REFERENCES vms (id),
    -- Names of Linux users, a JSON array; NULL: any.
    allowed_users TEXT,
    granted_at    BIGINT NOT NULL,
    -- The API key that was used.
    granted_by    TEXT   NOT NULL REFERENCES api_keys (id),
    UNIQUE (identity_id, vm_id)
);

CREATE INDEX vm_grants_of_vm ON vm_grants (vm_id);

CREATE TABLE git_grants (
    identity_id   TEXT   NOT NULL REFERENCES identities (id) ON DELETE CASCADE,
    -- Checked when it is inserted.
    repository_id TEXT   NOT NULL,
    level         TEXT   NOT NULL,
    granted_at    BIGINT NOT NULL,
    -- The API key that was used.
    granted_by    TEXT   NOT NULL REFERENCES api_keys (id),
    PRIMARY KEY (identity_id, repository_id)
);

CREATE INDEX git_grants_of_repository ON git_grants (repository_id);
