-- What the sweep found, and when the daemon became cautious.

-- `seen_at` is when a daemon last found all well, by its clock: a clock that jumped shows against it.
-- While `cautious_since` is there, nothing that was recorded before it is removed.
ALTER TABLE installation
    ADD COLUMN seen_at          timestamptz,
    ADD COLUMN cautious_since   timestamptz,
    ADD COLUMN cautious_because text,
    ADD CONSTRAINT installation_cautious CHECK ((cautious_since IS NULL) = (cautious_because IS NULL));

-- Logins of this installation on a target that no lease is known of.
CREATE TABLE orphan (
    target_id      uuid NOT NULL CONSTRAINT orphan_target REFERENCES target (id),
    role_oid       bigint NOT NULL,
    role_name      text NOT NULL,
    found_at       timestamptz NOT NULL,
    quarantined_at timestamptz,
    removed_at     timestamptz,
    proof          jsonb,
    CONSTRAINT orphan_key PRIMARY KEY (target_id, role_oid, role_name),
    CONSTRAINT orphan_gone_with_proof CHECK ((removed_at IS NULL) = (proof IS NULL))
);
CREATE INDEX orphan_open ON orphan (target_id) WHERE removed_at IS NULL;

-- Sessions are told by the OID of their login, whose role may be gone.
CREATE INDEX login_of_role ON login (target_id, role_oid) WHERE role_oid IS NOT NULL;
