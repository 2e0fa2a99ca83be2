-- What is told to others: a row for each entry of the audit that somebody wants to hear of, and each channel that wants
-- it. Made from the sealed chain, in its order, in the transaction that moves the cursor; so nothing is forgotten, and
-- nothing told twice by two daemons.
CREATE TABLE notice_cursor (
    only_row  boolean PRIMARY KEY DEFAULT true,
    position  bigint NOT NULL,
    -- When the last digest was made.
    digest_at timestamptz NOT NULL,
    CONSTRAINT notice_cursor_only_row CHECK (only_row)
);
-- Nothing that happened before is told.
INSERT INTO notice_cursor (position, digest_at) SELECT position, now() FROM audit_head;

-- `subject`: notices of one subject go out in the chain's order, one after the other. `body`: what is told.
CREATE TABLE notice (
    id            uuid PRIMARY KEY,
    channel       text NOT NULL,
    subject       text NOT NULL,
    topic         text NOT NULL,
    position      bigint NOT NULL,
    audit_id      uuid NOT NULL,
    body          jsonb NOT NULL,
    created_at    timestamptz NOT NULL,
    waits_since   timestamptz NOT NULL,
    due_at        timestamptz NOT NULL,
    attempts      integer NOT NULL DEFAULT 0,
    claim_token   uuid,
    claimed_until timestamptz,
    told_at       timestamptz,
    dead_at       timestamptz,
    last_error    text,
    CONSTRAINT notice_once UNIQUE (audit_id, channel),
    CONSTRAINT notice_told_or_dead CHECK (num_nonnulls(told_at, dead_at) < 2)
);
CREATE INDEX notice_waiting ON notice (channel, subject, position) WHERE told_at IS NULL AND dead_at IS NULL;
CREATE INDEX notice_dead ON notice (dead_at) WHERE dead_at IS NOT NULL;
CREATE INDEX notice_told ON notice (told_at) WHERE told_at IS NOT NULL;
