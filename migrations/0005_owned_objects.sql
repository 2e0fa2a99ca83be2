-- What becomes of the objects that a login owns when it is removed. Copied onto the lease, which outlives its profile.
ALTER TABLE profile ADD COLUMN owned_objects text NOT NULL DEFAULT 'graveyard'
    CONSTRAINT profile_owned_objects CHECK (owned_objects IN ('graveyard', 'group'));
ALTER TABLE lease ADD COLUMN owned_objects text NOT NULL DEFAULT 'graveyard'
    CONSTRAINT lease_owned_objects CHECK (owned_objects IN ('graveyard', 'group'));
