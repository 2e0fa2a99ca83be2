-- Who may ask: identities that others vouch for, sessions, CI jobs, and what bounds a caller.

-- A name is one principal's, whoever vouches for it: rules name principals by kind and name, and two
-- issuers must not be able to make one rule mean two callers.
ALTER TABLE principal DROP CONSTRAINT principal_kind;
ALTER TABLE principal ADD CONSTRAINT principal_kind CHECK (kind IN ('person', 'service', 'ci'));
ALTER TABLE principal DROP CONSTRAINT principal_name;
ALTER TABLE principal ADD CONSTRAINT principal_name UNIQUE (kind, subject);

-- By what somebody else's word a principal is known: the provider's `sub`, a certificate's name. A principal
-- may have several; one of them is one principal's for ever.
CREATE TABLE identity (
    issuer       text NOT NULL,
    subject      text NOT NULL,
    principal_id uuid NOT NULL CONSTRAINT identity_principal REFERENCES principal (id),
    created_at   timestamptz NOT NULL,
    last_seen_at timestamptz,
    CONSTRAINT identity_known_as PRIMARY KEY (issuer, subject)
);
CREATE INDEX identity_of_principal ON identity (principal_id);

-- `session`: made by a sign-in, ends when it was not used for `idle_seconds`. `scopes`: what of its
-- principal's rights it carries; all, if null. `client`: what it was made for, and the only way it is taken.
-- `provider_token`: what the provider is asked with whether its person is still there; sealed.
ALTER TABLE token
    ADD COLUMN kind           text NOT NULL DEFAULT 'api',
    ADD COLUMN idle_seconds   bigint,
    ADD COLUMN scopes         text[],
    ADD COLUMN client         text,
    ADD COLUMN provider_token bytea,
    ADD COLUMN recheck_at     timestamptz,
    ADD CONSTRAINT token_kind CHECK (kind IN ('api', 'session')),
    ADD CONSTRAINT token_client CHECK (client IN ('command-line', 'browser')),
    ADD CONSTRAINT token_idle CHECK (idle_seconds > 0);
CREATE INDEX token_recheck ON token (recheck_at) WHERE recheck_at IS NOT NULL AND revoked_at IS NULL;

-- Which principals hold which role in pgvalet itself: rules as in a profile's `access.allow`.
CREATE TABLE administration (
    role  text PRIMARY KEY,
    allow text[] NOT NULL
);

-- Whose tokens of CI jobs are taken, and what a job must be to be one of ours.
CREATE TABLE issuer (
    name text PRIMARY KEY,
    url  text NOT NULL CONSTRAINT issuer_url UNIQUE,
    spec jsonb NOT NULL
);
CREATE TABLE ci_rule (
    name   text PRIMARY KEY,
    issuer text NOT NULL CONSTRAINT ci_rule_issuer REFERENCES issuer (name),
    spec   jsonb NOT NULL
);

-- A job's token hands out one credential. What is kept is a hash, until the token is over.
CREATE TABLE spent_token (
    hash     bytea PRIMARY KEY,
    lease_id uuid NOT NULL,
    ends_at  timestamptz NOT NULL
);
CREATE INDEX spent_token_over ON spent_token (ends_at);

-- Which job asked: its leases are its own, and not those of other jobs under the same rule.
ALTER TABLE lease ADD COLUMN job text;
CREATE INDEX lease_of_job ON lease (job) WHERE job IS NOT NULL;

-- From which networks, at which hours, how many, how often.
ALTER TABLE profile ADD COLUMN conditions jsonb NOT NULL DEFAULT '{}';
ALTER TABLE target ADD COLUMN max_live integer CONSTRAINT target_max_live CHECK (max_live > 0);

-- What limits count.
CREATE INDEX lease_live_of_principal ON lease (principal_id) WHERE state <> 'revoked';
CREATE INDEX lease_live_of_profile ON lease (profile_id) WHERE state <> 'revoked';

-- What signs in to a target. `admin_source`: where the daemon gets the administrator's password whenever it
-- connects; null if it is kept here, sealed. `ssl_key`: that of the certificate that is shown there; sealed.
ALTER TABLE target
    ALTER COLUMN admin_password DROP NOT NULL,
    ADD COLUMN admin_source jsonb,
    ADD COLUMN sslcert_pem  text,
    ADD COLUMN ssl_key      bytea,
    ADD CONSTRAINT target_admin_from_one_place CHECK (num_nulls(admin_password, admin_source) = 1),
    ADD CONSTRAINT target_ssl_key CHECK (num_nulls(sslcert_pem, ssl_key) <> 1);

-- The groups that its provider says a principal is in, beside those that were given here. Only a sign-in, or
-- the look whether the person is still there, replaces them.
ALTER TABLE principal ADD COLUMN provider_groups text[] NOT NULL DEFAULT '{}';

-- What the provider calls its person, for people to read, and for provisioning to look it up by. Never a key.
ALTER TABLE identity ADD COLUMN user_name text;

-- When the provider was last heard to say that a session's person is still there.
ALTER TABLE token ADD COLUMN checked_at timestamptz;

-- A sign-in under way. `key` is a hash of what the client alone holds; `sealed` is what only the daemons may
-- know of it: the provider's code for the device, or the nonce and the verifier of the code to come.
CREATE TABLE sign_in (
    key              bytea PRIMARY KEY,
    id               uuid NOT NULL,
    client           text NOT NULL,
    source           text,
    sealed           bytea NOT NULL,
    interval_seconds bigint NOT NULL,
    next_poll_at     timestamptz NOT NULL,
    ends_at          timestamptz NOT NULL,
    CONSTRAINT sign_in_client CHECK (client IN ('command-line', 'browser'))
);
CREATE INDEX sign_in_of_source ON sign_in (source, ends_at);
CREATE INDEX sign_in_over ON sign_in (ends_at);
