-- Private networks of VMs, and the computers that join them over WireGuard.

CREATE TABLE vpcs (
    id         TEXT   NOT NULL PRIMARY KEY,
    account_id TEXT   NOT NULL REFERENCES accounts (id),
    name       TEXT,
    -- A range in CIDR notation. Never changes.
    cidr       TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    deleted_at BIGINT
);

CREATE INDEX vpcs_of_account ON vpcs (account_id, created_at) WHERE deleted_at IS NULL;

-- The NIC of a VM, which has at most one: all three columns, or none.
ALTER TABLE vms ADD COLUMN vpc_id TEXT REFERENCES vpcs (id);
-- With the prefix length of the VPC's range.
ALTER TABLE vms ADD COLUMN vpc_address TEXT
    CHECK ((vpc_id IS NULL) = (vpc_address IS NULL));
ALTER TABLE vms ADD COLUMN vpc_default BOOLEAN
    CHECK ((vpc_id IS NULL) = (vpc_default IS NULL));

-- A VM that is gone gives its address back.
CREATE UNIQUE INDEX vms_of_vpc ON vms (vpc_id, vpc_address)
    WHERE vpc_id IS NOT NULL AND deleted_at IS NULL;

CREATE TABLE wireguard_peers (
    id             TEXT   NOT NULL PRIMARY KEY,
    vpc_id         TEXT   NOT NULL REFERENCES vpcs (id),
    -- The only thing that tells whose handshake has arrived. In base64.
    public_key     TEXT   NOT NULL UNIQUE CHECK (length(public_key) = 44),
    tunnel_address TEXT   NOT NULL,
    -- The VM it goes with; NULL: an ephemeral session, which goes when it is not used.
    gateway_vm_id  TEXT   REFERENCES vms (id),
    -- Where it was last heard from.
    endpoint       TEXT,
    created_at     BIGINT NOT NULL,
    last_seen_at   BIGINT NOT NULL,
    -- Of one VPC only: what one account uses up is never another's.
    UNIQUE (vpc_id, tunnel_address)
);
