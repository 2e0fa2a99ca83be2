-- Access reviews: who can reach what is looked at, and taken away where nobody can say what for.

-- There may be many leases.
SET LOCAL statement_timeout = 0;

-- What reviews left of somebody's access under a profile, as a list: it stands beside what the profile's file says, so
-- that to apply the file again does not give back what was taken away.
ALTER TABLE profile ADD COLUMN bounds jsonb NOT NULL DEFAULT '[]';

-- How somebody used a profile is looked up for each of them.
CREATE INDEX lease_of_reach ON lease (profile_id, principal_id, created_at DESC);

-- `principal_id`: of whom alone, if it is not of everybody. `announced_at`: when it was said that the time is nearly over,
-- and `on_due` what happens then; `settled_at`: when what nobody answered in time was removed, or others were told.
CREATE TABLE review (
    id            uuid PRIMARY KEY,
    state         text NOT NULL,
    cause         text NOT NULL,
    principal_id  uuid CONSTRAINT review_principal REFERENCES principal (id),
    opened_at     timestamptz NOT NULL,
    due_at        timestamptz NOT NULL,
    announced_at  timestamptz,
    on_due        text,
    settled_at    timestamptz,
    signed_off_at timestamptz,
    signed_off_by uuid CONSTRAINT review_signed_off_by REFERENCES principal (id),
    CONSTRAINT review_state CHECK (state IN ('open', 'signed-off')),
    CONSTRAINT review_on_due CHECK ((on_due IS NULL) = (announced_at IS NULL) AND on_due IN ('escalate', 'remove')),
    CONSTRAINT review_signed_off CHECK ((state = 'signed-off') = (signed_off_at IS NOT NULL AND signed_off_by IS NOT NULL))
);
-- One of everybody is open at a time, and one of each principal.
CREATE UNIQUE INDEX review_of_everybody ON review (state) WHERE state = 'open' AND principal_id IS NULL;
CREATE UNIQUE INDEX review_of_one ON review (principal_id) WHERE state = 'open' AND principal_id IS NOT NULL;
CREATE INDEX review_open ON review (due_at) WHERE state = 'open';

-- One for each principal and profile that a rule brings together; without a principal it is of the rule `anyone`. `facts`
-- are of the day on which the review was opened. Decided without a principal: by pgvalet, when the time was over.
CREATE TABLE review_item (
    id              uuid PRIMARY KEY,
    review_id       uuid NOT NULL CONSTRAINT review_item_review REFERENCES review (id),
    profile_id      uuid CONSTRAINT review_item_profile REFERENCES profile (id) ON DELETE SET NULL,
    profile         text NOT NULL,
    principal_id    uuid CONSTRAINT review_item_principal REFERENCES principal (id),
    rule            text NOT NULL,
    facts           jsonb NOT NULL,
    verdict         text,
    max_ttl_seconds bigint,
    reason          text,
    decided_at      timestamptz,
    decided_by      uuid CONSTRAINT review_item_decided_by REFERENCES principal (id),
    via             text,
    CONSTRAINT review_item_verdict CHECK (verdict IN ('keep', 'narrow', 'remove')),
    CONSTRAINT review_item_decided CHECK ((verdict IS NULL) = (decided_at IS NULL) AND (verdict IS NULL) = (reason IS NULL)),
    CONSTRAINT review_item_narrowed CHECK ((max_ttl_seconds IS NOT NULL) = (verdict IS NOT DISTINCT FROM 'narrow'))
);
CREATE INDEX review_item_of ON review_item (review_id, id);

-- Who is to be looked at, because their groups changed or because they are let in again: opened by a loop, so that nobody
-- waits for it. `groups`: those that they were in before.
CREATE TABLE review_wanted (
    principal_id uuid PRIMARY KEY CONSTRAINT review_wanted_principal REFERENCES principal (id),
    cause        text NOT NULL,
    groups       text[] NOT NULL,
    wanted_at    timestamptz NOT NULL
);

-- The profiles that a review is about. `exercise`: what is known of how their grants were exercised; null until the target
-- was asked, which it is at `ask_at`, and again while it does not say.
CREATE TABLE review_profile (
    review_id  uuid NOT NULL CONSTRAINT review_profile_review REFERENCES review (id),
    profile_id uuid NOT NULL,
    profile    text NOT NULL,
    exercise   jsonb,
    ask_at     timestamptz,
    PRIMARY KEY (review_id, profile_id)
);
CREATE INDEX review_profile_to_ask ON review_profile (ask_at) WHERE ask_at IS NOT NULL;

-- Who was given which password of a standing role, and when last: what the audit says, kept where it is found without
-- reading all of that. `kept_at`: since when they are kept from it, so that it is replaced and ends without a grace.
CREATE TABLE standing_reading (
    lease_id     uuid NOT NULL CONSTRAINT standing_reading_lease REFERENCES lease (id),
    principal_id uuid NOT NULL CONSTRAINT standing_reading_principal REFERENCES principal (id),
    read_at      timestamptz NOT NULL,
    kept_at      timestamptz,
    PRIMARY KEY (lease_id, principal_id)
);
CREATE INDEX standing_reading_of ON standing_reading (principal_id);
CREATE INDEX standing_reading_kept ON standing_reading (lease_id) WHERE kept_at IS NOT NULL;
INSERT INTO standing_reading (lease_id, principal_id, read_at)
SELECT l.id, p.id, max(a.created_at)
FROM lease l
JOIN audit_entry a ON a.lease_id = 'lse_' || replace(l.id::text, '-', '') AND a.kind = 'standing-role.read'
JOIN principal p ON a.body::jsonb -> 'actor' ->> 'id' = 'prn_' || replace(p.id::text, '-', '')
WHERE l.standing_role IS NOT NULL AND l.ended_at IS NULL
GROUP BY l.id, p.id;
-- Of those who are leaving, what is not replaced yet.
UPDATE standing_reading r SET kept_at = o.started_at
FROM offboarding_secret s
JOIN offboarding o ON o.id = s.offboarding_id AND o.ended_at IS NULL
JOIN principal p ON p.id = o.principal_id OR p.acts_for = o.principal_id
WHERE s.lease_id = r.lease_id AND r.principal_id = p.id;

-- These principals, and those whom they act for, each once: what an agent makes, its person may have made.
CREATE FUNCTION with_whom_they_act_for(uuid[]) RETURNS uuid[] LANGUAGE sql STABLE AS $$
    SELECT ARRAY(
        SELECT unnest($1) UNION SELECT acts_for FROM principal WHERE id = ANY ($1) AND acts_for IS NOT NULL)
$$;

-- Who made tokens of a principal that are still good, and for whom these act.
CREATE INDEX token_lent ON token (principal_id) WHERE makers <> '{}' AND revoked_at IS NULL;
CREATE FUNCTION token_makers_of(uuid) RETURNS uuid[] LANGUAGE sql STABLE AS $$
    SELECT with_whom_they_act_for(ARRAY(
        SELECT DISTINCT unnest(makers) FROM token
        WHERE principal_id = $1 AND makers <> '{}' AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())))
$$;

-- When the next review by schedule is opened. One row: whoever moves it on, of several daemons, opens it.
CREATE TABLE review_schedule (
    single   boolean PRIMARY KEY DEFAULT true CONSTRAINT review_schedule_once CHECK (single),
    schedule text NOT NULL,
    next_at  timestamptz
);
