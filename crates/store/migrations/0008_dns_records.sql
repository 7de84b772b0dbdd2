-- DNS records in domains that were proven. Names are absolute, in lower case, in ASCII. What ended has
-- no row.

CREATE TABLE dns_records (
    name       TEXT   NOT NULL,
    kind       TEXT   NOT NULL,
    value      TEXT   NOT NULL,
    -- Of an MX record.
    priority   BIGINT,
    -- Seconds.
    ttl        BIGINT NOT NULL,
    -- The most exact ownership of the name when it was made: who owns that owns the record.
    domain_id  TEXT   NOT NULL REFERENCES domains (id) ON DELETE CASCADE,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (name, kind, value)
);

CREATE INDEX dns_records_of_domain ON dns_records (domain_id, name);
