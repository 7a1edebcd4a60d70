-- How often in a row joining failed for a reason that may pass: how long to wait before the next try follows from it.
ALTER TABLE recordings.recordings ADD COLUMN waits integer NOT NULL DEFAULT 0;
-- How much a bot's runners have uploaded as parts.
ALTER TABLE recordings.recordings ADD COLUMN bytes bigint NOT NULL DEFAULT 0;

-- Bots that are over upload nothing more but what is late: theirs need not be counted.
UPDATE recordings.recordings r
   SET bytes = p.bytes
  FROM (SELECT tenant_id, bot_id, sum(size_bytes)::bigint AS bytes
          FROM recordings.parts
         GROUP BY tenant_id, bot_id) p
 WHERE r.tenant_id = p.tenant_id AND r.bot_id = p.bot_id AND r.over_at IS NULL;
