-- Applied in the schema of every service that has a store (the connection's search_path names it).
-- Append-only, in partitions by day, dropped after a day: nothing is ever deleted row by row.
CREATE TABLE outbox (
    id         uuid        NOT NULL,
    created_at timestamptz NOT NULL,
    subject    text        NOT NULL,
    body       bytea       NOT NULL,
    -- Where the stream has it: which making of the stream (microseconds since 1970), and which place in it.
    epoch      bigint,
    sequence   bigint,
    PRIMARY KEY (created_at, id)
) PARTITION BY RANGE (created_at);

-- What is not sent yet: almost always empty, so the poll costs nothing.
CREATE INDEX outbox_unsent ON outbox (created_at) WHERE sequence IS NULL;
