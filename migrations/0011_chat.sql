-- What was said in chat, and who is who there.

-- A way for a person to link an account of a chat to themselves. `key` is a hash of what the link holds; it is used
-- once. An account has one at most.
CREATE TABLE chat_link (
    key       bytea PRIMARY KEY,
    issuer    text NOT NULL,
    subject   text NOT NULL,
    user_name text NOT NULL,
    ends_at   timestamptz NOT NULL,
    CONSTRAINT chat_link_of_account UNIQUE (issuer, subject)
);
CREATE INDEX chat_link_over ON chat_link (ends_at);

-- A message of ours: one for each part of what is said about a subject. Who holds the claim may speak. `tried_at`
-- without `ts`: it may have been posted, which Slack is asked before it is posted again. `said` is a hash of what
-- it says.
CREATE TABLE chat_message (
    subject       text NOT NULL,
    part          text NOT NULL,
    created_at    timestamptz NOT NULL,
    channel       text,
    ts            text,
    tried_at      timestamptz,
    said          bytea,
    claim         uuid,
    claimed_until timestamptz,
    CONSTRAINT chat_message_once PRIMARY KEY (subject, part),
    CONSTRAINT chat_message_placed CHECK (ts IS NULL OR channel IS NOT NULL)
);
CREATE INDEX chat_message_old ON chat_message (created_at);
