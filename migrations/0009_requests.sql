-- Who must agree: requests that wait for others, and what was said to them.

-- Whom a service acts for: an agent's request is its person's, who does not agree to it.
ALTER TABLE principal ADD COLUMN acts_for uuid CONSTRAINT principal_acts_for REFERENCES principal (id);
CREATE INDEX principal_acting_for ON principal (acts_for) WHERE acts_for IS NOT NULL;

-- Who made a token for somebody else, and who made what it was made with: whoever holds another's token by
-- making it does not agree to their own request with it.
ALTER TABLE token ADD COLUMN makers uuid[] NOT NULL DEFAULT '{}';

-- What was asked for, as it was then: `profile_version` and the names beside it bind what is agreed to. `needs` is
-- what the profile said of who must agree, `approvers` all the rules in it, by which requests are found. `lapse_at`: when it lapses unanswered; `use_by`: when the agreement does.
-- `extends`: the lease that is to last longer, if it is not a new one that is asked for.
CREATE TABLE request (
    id               uuid PRIMARY KEY,
    state            text NOT NULL,
    principal_id     uuid NOT NULL CONSTRAINT request_principal REFERENCES principal (id),
    profile_id       uuid CONSTRAINT request_profile REFERENCES profile (id) ON DELETE SET NULL,
    profile          text NOT NULL,
    profile_version  integer NOT NULL,
    target_id        uuid NOT NULL CONSTRAINT request_target REFERENCES target (id),
    database         text NOT NULL,
    tool             text NOT NULL,
    ttl              jsonb NOT NULL,
    agreed_seconds   bigint,
    reason           text,
    ticket           text,
    extends          uuid CONSTRAINT request_extends REFERENCES lease (id),
    needs            jsonb NOT NULL,
    approvers        text[] NOT NULL,
    start_at         timestamptz,
    created_at       timestamptz NOT NULL,
    lapse_at         timestamptz NOT NULL,
    decided_at       timestamptz,
    use_by           timestamptz,
    ended_at         timestamptz,
    lease_id         uuid CONSTRAINT request_lease REFERENCES lease (id) DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT request_state CHECK (state IN ('pending', 'approved', 'denied', 'withdrawn', 'lapsed', 'claimed', 'failed')),
    CONSTRAINT request_use_by CHECK (state <> 'approved' OR use_by IS NOT NULL),
    CONSTRAINT request_claimed CHECK (state <> 'claimed' OR lease_id IS NOT NULL),
    CONSTRAINT request_agreed CHECK (agreed_seconds > 0)
);
CREATE INDEX request_of_principal ON request (principal_id, id DESC);
CREATE INDEX request_pending ON request (lapse_at) WHERE state = 'pending';
CREATE INDEX request_agreed_to ON request (use_by) WHERE state IN ('approved', 'claimed');
CREATE INDEX request_for ON request USING gin (approvers);
CREATE INDEX request_of_lease ON request (lease_id) WHERE lease_id IS NOT NULL;

-- One person says one thing to a request, once.
CREATE TABLE vote (
    request_id   uuid NOT NULL CONSTRAINT vote_request REFERENCES request (id),
    principal_id uuid NOT NULL CONSTRAINT vote_principal REFERENCES principal (id),
    step         integer NOT NULL,
    verdict      text NOT NULL,
    comment      text,
    via          text NOT NULL,
    created_at   timestamptz NOT NULL,
    CONSTRAINT vote_once PRIMARY KEY (request_id, principal_id),
    CONSTRAINT vote_verdict CHECK (verdict IN ('agreed', 'denied'))
);
CREATE INDEX vote_of_principal ON vote (principal_id, created_at);

-- A key's first request may have been answered with a lease, or with a request that waits.
ALTER TABLE idempotency
    ALTER COLUMN lease_id DROP NOT NULL,
    ADD COLUMN request_id uuid CONSTRAINT idempotency_request REFERENCES request (id),
    ADD CONSTRAINT idempotency_answer CHECK (num_nonnulls(lease_id, request_id) = 1);
