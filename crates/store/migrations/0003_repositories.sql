CREATE TABLE repositories (
    -- The name on disk and in URLs; `git` makes and parses it.
    id         TEXT    NOT NULL PRIMARY KEY,
    account_id TEXT    NOT NULL REFERENCES accounts (id),
    name       TEXT,
    public     BOOLEAN NOT NULL,
    -- 'creating', 'ready' or 'deleting'. A deleted one has no row.
    state      TEXT    NOT NULL,
    created_at BIGINT  NOT NULL
);

CREATE INDEX repositories_of_account ON repositories (account_id, created_at);
CREATE INDEX repositories_unfinished ON repositories (created_at) WHERE state <> 'ready';
