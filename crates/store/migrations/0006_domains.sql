-- Domains: who is about to prove that one is theirs, whose they are, and where they lead. Names are in
-- lower case, in ASCII. What ended has no row.

CREATE TABLE domain_verifications (
    id         TEXT   NOT NULL PRIMARY KEY,
    account_id TEXT   NOT NULL REFERENCES accounts (id),
    domain     TEXT   NOT NULL,
    -- What the TXT record has to say.
    code       TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (account_id, domain)
);

-- Whoever owns a domain owns what is below it, apart from what somebody owns more exactly.
CREATE TABLE domains (
    id         TEXT    NOT NULL PRIMARY KEY,
    account_id TEXT    NOT NULL REFERENCES accounts (id),
    domain     TEXT    NOT NULL UNIQUE,
    -- Below a suffix of the server: nobody proved it, and it is owned for as long as it is mapped.
    preview    BOOLEAN NOT NULL,
    created_at BIGINT  NOT NULL
);

CREATE INDEX domains_of_account ON domains (account_id, created_at);

CREATE TABLE domain_mappings (
    id         TEXT   NOT NULL PRIMARY KEY,
    -- After `*.`: all hosts right below it.
    domain     TEXT   NOT NULL UNIQUE,
    -- Who owns that owns the mapping.
    domain_id  TEXT   NOT NULL REFERENCES domains (id) ON DELETE CASCADE,
    vm_id      TEXT   NOT NULL REFERENCES vms (id),
    port       BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE INDEX domain_mappings_of_domain ON domain_mappings (domain_id, created_at);
CREATE INDEX domain_mappings_of_vm ON domain_mappings (vm_id);
