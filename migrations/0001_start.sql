-- The state of pgvalet. Names are singular; `_at` is an instant; states are text with a check.
-- Migrations only grow: a file that was released is never edited (a test compares checksums).

-- One row: what this installation is, and the proof that the daemon holds its master key.
CREATE TABLE installation (
    only_row        boolean PRIMARY KEY DEFAULT true,
    id              uuid NOT NULL,
    key_check       bytea NOT NULL,
    created_at      timestamptz NOT NULL,
    bootstrapped_at timestamptz,
    CONSTRAINT installation_only_row CHECK (only_row)
);

CREATE TABLE principal (
    id          uuid PRIMARY KEY,
    issuer      text NOT NULL,
    subject     text NOT NULL,
    kind        text NOT NULL,
    groups      text[] NOT NULL DEFAULT '{}',
    admin       boolean NOT NULL DEFAULT false,
    created_at  timestamptz NOT NULL,
    disabled_at timestamptz,
    CONSTRAINT principal_kind CHECK (kind IN ('person', 'service')),
    CONSTRAINT principal_name UNIQUE (issuer, kind, subject)
);

-- Hashes only (argon2id, PHC string): the secret stands in the answer that made it, and nowhere else.
CREATE TABLE token (
    id           uuid PRIMARY KEY,
    principal_id uuid NOT NULL CONSTRAINT token_principal REFERENCES principal (id),
    name         text NOT NULL,
    hash         text NOT NULL,
    created_at   timestamptz NOT NULL,
    expires_at   timestamptz,
    last_used_at timestamptz,
    revoked_at   timestamptz,
    made_with    uuid CONSTRAINT token_made_with REFERENCES token (id)
);
CREATE INDEX token_of_principal ON token (principal_id);
CREATE INDEX token_made_with ON token (made_with) WHERE made_with IS NOT NULL;

-- `admin_password` is sealed (AES-256-GCM) under the master key, bound to table, row and column.
-- `cluster_id` is the cluster's own system identifier: an address may lead to another one some day.
CREATE TABLE target (
    id              uuid PRIMARY KEY,
    name            text NOT NULL,
    version         integer NOT NULL,
    environment     text NOT NULL,
    host            text NOT NULL,
    port            integer NOT NULL,
    sslmode         text NOT NULL,
    sslrootcert_pem text,
    admin_user      text NOT NULL,
    admin_password  bytea NOT NULL,
    databases       text[] NOT NULL,
    cluster_id      bigint,
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL,
    removed_at      timestamptz,
    CONSTRAINT target_port CHECK (port BETWEEN 1 AND 65535),
    CONSTRAINT target_sslmode CHECK (sslmode IN ('disable', 'require', 'verify-ca', 'verify-full'))
);
-- Leases of the past go on naming a removed target; its name is free again.
CREATE UNIQUE INDEX target_name ON target (name) WHERE removed_at IS NULL;

-- `effective_group_role` is unique per target for roles that pgvalet makes: two profiles whose names
-- differ only in `-`, `_` and `.` would otherwise share their rights.
CREATE TABLE profile (
    id                   uuid PRIMARY KEY,
    name                 text NOT NULL CONSTRAINT profile_name UNIQUE,
    target_id            uuid NOT NULL CONSTRAINT profile_target REFERENCES target (id),
    version              integer NOT NULL,
    prepared_version     integer,
    description          text NOT NULL,
    database             text NOT NULL,
    preset               text NOT NULL,
    schemas              text[] NOT NULL,
    group_role           text,
    effective_group_role text NOT NULL,
    ttl_seconds          bigint NOT NULL,
    max_ttl_seconds      bigint NOT NULL,
    connection_limit     integer NOT NULL,
    settings             jsonb NOT NULL,
    allow                text[] NOT NULL,
    reason               text NOT NULL,
    created_at           timestamptz NOT NULL,
    updated_at           timestamptz NOT NULL,
    CONSTRAINT profile_preset CHECK (preset IN ('readonly', 'readwrite', 'custom')),
    CONSTRAINT profile_reason CHECK (reason IN ('optional', 'required')),
    CONSTRAINT profile_ttl CHECK (ttl_seconds BETWEEN 1 AND max_ttl_seconds),
    CONSTRAINT profile_connection_limit CHECK (connection_limit >= 1)
);
CREATE UNIQUE INDEX profile_group_role ON profile (target_id, effective_group_role) WHERE preset <> 'custom';

-- What a lease needs is copied from its profile: it outlives changes of the profile, and its end.
CREATE TABLE lease (
    id             uuid PRIMARY KEY,
    state          text NOT NULL,
    cause          text,
    profile_id     uuid CONSTRAINT lease_profile REFERENCES profile (id) ON DELETE SET NULL,
    profile        text NOT NULL,
    target_id      uuid NOT NULL CONSTRAINT lease_target REFERENCES target (id),
    database       text NOT NULL,
    group_role     text NOT NULL,
    connection_limit integer NOT NULL,
    settings       jsonb NOT NULL,
    principal_id   uuid NOT NULL CONSTRAINT lease_principal REFERENCES principal (id),
    tool           text NOT NULL,
    reason         text,
    ticket         text,
    login_id       uuid,
    ttl            jsonb NOT NULL,
    created_at     timestamptz NOT NULL,
    expires_at     timestamptz NOT NULL,
    max_expires_at timestamptz NOT NULL,
    ended_at       timestamptz,
    CONSTRAINT lease_state CHECK (state IN ('provisioning', 'active', 'revoking', 'revoked')),
    CONSTRAINT lease_cause CHECK (cause IN ('expired', 'revoked', 'failed', 'lost')),
    CONSTRAINT lease_ends_with_cause CHECK ((state IN ('revoking', 'revoked')) = (cause IS NOT NULL)),
    CONSTRAINT lease_ended CHECK ((state = 'revoked') = (ended_at IS NOT NULL)),
    CONSTRAINT lease_within_cap CHECK (expires_at <= max_expires_at)
);
CREATE INDEX lease_live ON lease (target_id) WHERE state <> 'revoked';
CREATE INDEX lease_of_principal ON lease (principal_id, id DESC);

-- One login role on one target. `due_at` is when it must be looked at next; work on it is claimed
-- with a token that is checked when the work is given back.
CREATE TABLE login (
    id            uuid PRIMARY KEY,
    lease_id      uuid NOT NULL CONSTRAINT login_lease REFERENCES lease (id),
    target_id     uuid NOT NULL CONSTRAINT login_target REFERENCES target (id),
    role_name     text NOT NULL,
    role_oid      bigint,
    state         text NOT NULL,
    cause         text,
    created_at    timestamptz NOT NULL,
    give_up_at    timestamptz NOT NULL,
    ends_at       timestamptz NOT NULL,
    superseded    boolean NOT NULL DEFAULT false,
    removed_at    timestamptz,
    proof         jsonb,
    due_at        timestamptz NOT NULL,
    attempts      integer NOT NULL DEFAULT 0,
    blocked_by    text,
    claim_token   uuid,
    claimed_until timestamptz,
    CONSTRAINT login_role UNIQUE (target_id, role_name),
    CONSTRAINT login_state CHECK (state IN ('provisioning', 'active', 'revoking', 'revoked')),
    CONSTRAINT login_cause CHECK (cause IN ('expired', 'revoked', 'failed', 'lost', 'rotated')),
    CONSTRAINT login_ends_with_cause CHECK ((state IN ('revoking', 'revoked')) = (cause IS NOT NULL)),
    CONSTRAINT login_gone_with_proof CHECK ((state = 'revoked') = (proof IS NOT NULL))
);
CREATE INDEX login_of_lease ON login (lease_id);
CREATE INDEX login_due ON login (due_at) WHERE state <> 'revoked';

ALTER TABLE lease ADD CONSTRAINT lease_login
    FOREIGN KEY (login_id) REFERENCES login (id) DEFERRABLE INITIALLY DEFERRED;

-- The same key twice gives the same answer, for a day.
CREATE TABLE idempotency (
    principal_id uuid NOT NULL CONSTRAINT idempotency_principal REFERENCES principal (id),
    key          text NOT NULL,
    request_hash bytea NOT NULL,
    lease_id     uuid NOT NULL CONSTRAINT idempotency_lease REFERENCES lease (id),
    created_at   timestamptz NOT NULL,
    CONSTRAINT idempotency_key PRIMARY KEY (principal_id, key)
);

-- `body` is the entry: the bytes that are hashed. The columns beside it are made from it, so that a
-- search cannot find something else than what the chain covers.
CREATE TABLE audit_entry (
    id         uuid PRIMARY KEY,
    body       text NOT NULL,
    kind       text GENERATED ALWAYS AS ((body::jsonb) -> 'event' ->> 'kind') STORED,
    lease_id   text GENERATED ALWAYS AS ((body::jsonb) -> 'event' ->> 'lease_id') STORED,
    created_at timestamptz NOT NULL,
    position   bigint CONSTRAINT audit_entry_position UNIQUE,
    hash       bytea,
    CONSTRAINT audit_entry_sealed CHECK ((position IS NULL) = (hash IS NULL))
);
CREATE INDEX audit_entry_unsealed ON audit_entry (id) WHERE position IS NULL;
CREATE INDEX audit_entry_kind ON audit_entry (kind, id DESC);
CREATE INDEX audit_entry_lease ON audit_entry (lease_id, id DESC) WHERE lease_id IS NOT NULL;

-- One row: the head of the chain. Whoever seals holds its lock.
CREATE TABLE audit_head (
    only_row boolean PRIMARY KEY DEFAULT true,
    position bigint NOT NULL,
    hash     bytea NOT NULL,
    CONSTRAINT audit_head_only_row CHECK (only_row)
);
INSERT INTO audit_head (position, hash) VALUES (0, decode(repeat('00', 32), 'hex'));

CREATE TABLE audit_checkpoint (
    position   bigint PRIMARY KEY,
    head       bytea NOT NULL,
    signed_at  timestamptz NOT NULL,
    public_key bytea NOT NULL,
    signature  bytea NOT NULL
);

-- What must still be told to others.
CREATE TABLE outbox (
    audit_id uuid PRIMARY KEY CONSTRAINT outbox_audit_entry REFERENCES audit_entry (id)
);
