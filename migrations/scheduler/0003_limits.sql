-- The tenant's concurrency limit as it was last heard of: it holds for bots whose time has come while the accounts service does
-- not answer. NULL: any number, or not heard of.
ALTER TABLE scheduler.usage ADD COLUMN concurrency_limit integer;

-- Bots that are due and wait until their tenant has room, the next one first. Empty most of the time.
CREATE INDEX bots_waiting_for_room ON scheduler.bots (tenant_id, priority, queued_at, id)
 WHERE state = 'SCHEDULED' AND reason = 'concurrency_limit';
