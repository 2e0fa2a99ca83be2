-- What a profile gives inside its database: grants, row-level security, context, checks, as its file says it.
ALTER TABLE profile ADD COLUMN rights jsonb NOT NULL DEFAULT '{}';
ALTER TABLE profile DROP CONSTRAINT profile_preset;
ALTER TABLE profile ADD CONSTRAINT profile_preset
    CHECK (preset IN ('readonly', 'readwrite', 'admin', 'custom', 'break-glass'));
-- A given group role may be shared; one that pgvalet makes is one profile's.
DROP INDEX profile_group_role;
CREATE UNIQUE INDEX profile_group_role ON profile (target_id, effective_group_role) WHERE group_role IS NULL;
-- Which of the settings in `rights.log` our admin may give to logins, as it was when it was last prepared.
ALTER TABLE profile ADD COLUMN settable text[] NOT NULL DEFAULT '{}';
-- When its checks were last run, and on which version; what failed, if something did.
ALTER TABLE profile ADD COLUMN checked_version integer, ADD COLUMN checked_at timestamptz,
    ADD COLUMN failed_checks jsonb NOT NULL DEFAULT '[]';

-- What is claimed of a principal, by name: what the templates of a context are filled with.
ALTER TABLE principal ADD COLUMN claims jsonb NOT NULL DEFAULT '{}';
-- The context of a lease, filled in when it was issued; a fresh login under it gets the same.
ALTER TABLE lease ADD COLUMN context jsonb NOT NULL DEFAULT '{}';

-- How a target differs from a profile, as it was last seen to. A row is there as long as it does.
CREATE TABLE drift (
    profile_id uuid PRIMARY KEY CONSTRAINT drift_profile REFERENCES profile (id) ON DELETE CASCADE,
    found_at   timestamptz NOT NULL,
    looked_at  timestamptz NOT NULL,
    statements text[] NOT NULL,
    notes      text[] NOT NULL
);
