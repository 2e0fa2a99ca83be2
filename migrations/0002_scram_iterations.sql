-- How often a login's password is hashed, chosen for each target. What was recorded before had PostgreSQL's own number.
ALTER TABLE target
    ADD COLUMN scram_iterations integer NOT NULL DEFAULT 4096
        CONSTRAINT target_scram_iterations CHECK (scram_iterations BETWEEN 1 AND 1000000);
