-- Where sound is missing between two pieces of the joined file: [{"at_ms": …, "missing_ms": …}, …], in order.
ALTER TABLE recordings.recordings ADD COLUMN gaps jsonb NOT NULL DEFAULT '[]';
