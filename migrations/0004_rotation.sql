-- Rotation on schedule: standing roles, and the administrator's own credential of each target.

-- One long-lived application login. `lease_id` is the lease whose login its consumers are given now, and `password`
-- that login's: sealed, bound to the lease. It is the one password of a login that the store keeps. `due_at` is when
-- it is to be rotated, `again_at` when it is looked at next; work on it is claimed with a token.
CREATE TABLE standing_role (
    id             uuid PRIMARY KEY,
    name           text NOT NULL CONSTRAINT standing_role_name UNIQUE,
    version        integer NOT NULL,
    description    text NOT NULL,
    profile_id     uuid NOT NULL CONSTRAINT standing_role_profile REFERENCES profile (id),
    principal_id   uuid NOT NULL CONSTRAINT standing_role_principal REFERENCES principal (id),
    rotate         text NOT NULL,
    window_seconds bigint NOT NULL,
    jitter_seconds bigint,
    grace_seconds  bigint NOT NULL,
    allow          text[] NOT NULL,
    lease_id       uuid CONSTRAINT standing_role_lease REFERENCES lease (id),
    password       bytea,
    generation     integer NOT NULL DEFAULT 0,
    rotated_at     timestamptz,
    due_at         timestamptz NOT NULL,
    again_at       timestamptz NOT NULL,
    attempts       integer NOT NULL DEFAULT 0,
    blocked_by     text,
    overdue_at     timestamptz,
    claim_token    uuid,
    claimed_until  timestamptz,
    created_at     timestamptz NOT NULL,
    updated_at     timestamptz NOT NULL,
    CONSTRAINT standing_role_has_both CHECK ((lease_id IS NULL) = (password IS NULL))
);

-- The standing role that a lease is of, by name: it may be gone before its leases are.
ALTER TABLE lease ADD COLUMN standing_role text;
CREATE INDEX lease_of_standing_role ON lease (standing_role) WHERE standing_role IS NOT NULL;

-- How often the administrator's password is renewed. Of what was recorded before, only once somebody says so.
-- `admin_version` grows with each change of the passwords that may hold on the target, so that a daemon that has
-- older ones reads them anew.
ALTER TABLE target
    ADD COLUMN rotate_admin text NOT NULL DEFAULT 'never',
    ADD COLUMN admin_version integer NOT NULL DEFAULT 1;

-- A row for each target whose administrator's password was ever to be renewed. `next_password` is sealed, and there
-- from before it is set until it is known to hold or not to.
CREATE TABLE admin_rotation (
    target_id     uuid PRIMARY KEY CONSTRAINT admin_rotation_target REFERENCES target (id),
    next_password bytea,
    next_at       timestamptz,
    rotated_at    timestamptz,
    due_at        timestamptz,
    again_at      timestamptz,
    attempts      integer NOT NULL DEFAULT 0,
    blocked_by    text,
    overdue_at    timestamptz,
    refused_at    timestamptz,
    claim_token   uuid,
    claimed_until timestamptz,
    CONSTRAINT admin_rotation_next CHECK ((next_password IS NULL) = (next_at IS NULL)),
    CONSTRAINT admin_rotation_due CHECK ((due_at IS NULL) = (again_at IS NULL))
);
