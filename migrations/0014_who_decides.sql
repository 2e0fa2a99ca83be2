-- Who may decide about a request, what counts of what was said to it, and what of requests is open.

SET LOCAL statement_timeout = 0;

-- Who made the token that it was asked with for somebody else, and who made what that was made with: none of them
-- decides about it. Of what waits already it is not known which token it was: then whoever made any of theirs.
ALTER TABLE request ADD COLUMN asker_makers uuid[] NOT NULL DEFAULT '{}';
UPDATE request r SET asker_makers = ARRAY(
    SELECT DISTINCT m.id FROM token t CROSS JOIN unnest(t.makers) AS m (id) WHERE t.principal_id = r.principal_id)
WHERE r.ended_at IS NULL;
ALTER TABLE emergency ADD COLUMN asker_makers uuid[] NOT NULL DEFAULT '{}';
UPDATE emergency e SET asker_makers = ARRAY(
    SELECT DISTINCT m.id FROM token t CROSS JOIN unnest(t.makers) AS m (id) WHERE t.principal_id = l.principal_id)
FROM lease l WHERE l.id = e.lease_id AND e.closed_at IS NULL;

-- In which state a request is: a lease that was made and failed spends nothing, so what was agreed to is there again.
CREATE FUNCTION request_state(state text, extends uuid, lease_cause text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT CASE WHEN state = 'claimed' AND extends IS NULL AND lease_cause = 'failed' THEN 'approved' ELSE state END $$;

-- Since when what somebody agreed to counts no more, since they were shut out before it was used.
ALTER TABLE vote ADD COLUMN void_at timestamptz;
UPDATE vote v SET void_at = p.disabled_at FROM principal p, request r
WHERE p.id = v.principal_id AND p.disabled_at IS NOT NULL AND v.verdict = 'agreed'
  AND r.id = v.request_id AND r.ended_at IS NULL
  AND request_state(r.state, r.extends, (SELECT l.cause FROM lease l WHERE l.id = r.lease_id)) IN ('pending', 'approved');
UPDATE request r SET state = 'pending', use_by = NULL, decided_at = NULL
WHERE r.ended_at IS NULL AND request_state(r.state, r.extends, (SELECT l.cause FROM lease l WHERE l.id = r.lease_id)) = 'approved'
  AND EXISTS (SELECT FROM vote v WHERE v.request_id = r.id AND v.void_at IS NOT NULL);

-- What may still change, by when its time is over, and by whose it is. One that was claimed ends when its lease did not
-- fail and its time is over.
UPDATE request r SET ended_at = r.use_by FROM lease l
WHERE l.id = r.lease_id AND r.ended_at IS NULL AND r.use_by <= now() AND l.state <> 'provisioning'
  AND request_state(r.state, r.extends, l.cause) = 'claimed';
-- A row that is changed twice is looked at by its constraints at the end; no index is made before that.
SET CONSTRAINTS ALL IMMEDIATE;
CREATE INDEX request_due ON request ((coalesce(use_by, lapse_at))) WHERE ended_at IS NULL;
CREATE INDEX request_open ON request (principal_id, id) WHERE ended_at IS NULL;
DROP INDEX request_pending, request_agreed_to;
