-- Owners may move the deadline of an entry. Of two messages about it, the one with the higher revision holds.
ALTER TABLE queue.entries ADD COLUMN revision bigint NOT NULL DEFAULT 0;
