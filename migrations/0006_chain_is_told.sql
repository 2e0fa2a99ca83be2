-- What others were told of is how far they were told the chain: its entries come in order, and none is missing. A row for each
-- entry that still had to be told, made and deleted, cost as much as the entry itself.
CREATE TABLE audit_told (
    only_row boolean PRIMARY KEY DEFAULT true,
    position bigint NOT NULL,
    CONSTRAINT audit_told_only_row CHECK (only_row)
);
INSERT INTO audit_told (position)
SELECT coalesce((SELECT min(a.position) - 1 FROM outbox o JOIN audit_entry a ON a.id = o.audit_id), h.position)
FROM audit_head h;
DROP TABLE outbox;

-- Written so that a lease that becomes active, or is being ended, changes nothing that is indexed.
DROP INDEX lease_live;
CREATE INDEX lease_live ON lease (target_id) WHERE ended_at IS NULL;
