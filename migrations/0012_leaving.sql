-- Emergencies and their reviews, the sealed codes that open one without a sign-in, and the end of all that
-- somebody has who leaves.

-- Who made the tokens that were made for others before that was recorded: the audit says so.
UPDATE token t SET makers = ARRAY[p.id]
FROM audit_entry a JOIN principal p
    ON a.body::jsonb -> 'actor' ->> 'id' = 'prn_' || replace(p.id::text, '-', '')
WHERE a.kind = 'token.created' AND t.makers = '{}' AND p.id <> t.principal_id
  AND a.body::jsonb -> 'event' ->> 'token_id' = 'tok_' || replace(t.id::text, '-', '');
CREATE INDEX token_made_by ON token USING gin (makers);

-- A sealed code of a person, by its number in their set. What is kept is a hash (argon2id, PHC string). Which were
-- used stands in `spent_token`, under the id. `profiles`: the only ones that it opens; any of the preset, if empty.
CREATE TABLE emergency_code (
    id           uuid PRIMARY KEY,
    principal_id uuid NOT NULL CONSTRAINT emergency_code_principal REFERENCES principal (id),
    number       integer NOT NULL,
    hash         text NOT NULL,
    profiles     text[] NOT NULL,
    made_by      uuid NOT NULL CONSTRAINT emergency_code_made_by REFERENCES principal (id),
    created_at   timestamptz NOT NULL,
    ends_at      timestamptz NOT NULL,
    CONSTRAINT emergency_code_number UNIQUE (principal_id, number)
);
CREATE INDEX emergency_code_made_by ON emergency_code (made_by);

-- A lease under a profile for emergencies, recorded with its intent, and the review that somebody else closes.
-- `code`: the number of the sealed code that it was asked for with, and `code_made_by` who has seen that code.
CREATE TABLE emergency (
    lease_id     uuid PRIMARY KEY CONSTRAINT emergency_of_lease REFERENCES lease (id),
    code         integer,
    code_made_by uuid CONSTRAINT emergency_code_maker REFERENCES principal (id),
    verdict      text,
    comment      text,
    closed_by    uuid CONSTRAINT emergency_closed_by REFERENCES principal (id),
    closed_at    timestamptz,
    CONSTRAINT emergency_verdict CHECK (verdict IN ('justified', 'unjustified')),
    CONSTRAINT emergency_closed CHECK (num_nulls(verdict, comment, closed_by, closed_at) IN (0, 4)),
    CONSTRAINT emergency_with_code CHECK (num_nulls(code, code_made_by) IN (0, 2))
);
CREATE INDEX emergency_open ON emergency (lease_id) WHERE closed_at IS NULL;

-- Somebody leaves. What they have left to lose is read from the record each time; a row says since when, and for
-- whom sealed codes were withdrawn that they had made. `ended_at`: they were let in again.
CREATE TABLE offboarding (
    id              uuid PRIMARY KEY,
    principal_id    uuid NOT NULL CONSTRAINT offboarding_principal REFERENCES principal (id),
    started_at      timestamptz NOT NULL,
    started_by      uuid NOT NULL CONSTRAINT offboarding_started_by REFERENCES principal (id),
    codes_withdrawn text[] NOT NULL,
    finished_at     timestamptz,
    ended_at        timestamptz
);
CREATE UNIQUE INDEX offboarding_open ON offboarding (principal_id) WHERE ended_at IS NULL;
CREATE INDEX offboarding_unfinished ON offboarding (started_at) WHERE finished_at IS NULL AND ended_at IS NULL;
CREATE INDEX offboarding_of_principal ON offboarding (principal_id, id DESC);

-- The logins of standing roles whose password they were given, and that were not gone when they left.
CREATE TABLE offboarding_secret (
    offboarding_id uuid NOT NULL CONSTRAINT offboarding_secret_of REFERENCES offboarding (id),
    lease_id       uuid NOT NULL CONSTRAINT offboarding_secret_lease REFERENCES lease (id),
    standing_role  text NOT NULL,
    read_at        timestamptz NOT NULL,
    CONSTRAINT offboarding_secret_key PRIMARY KEY (offboarding_id, lease_id)
);
