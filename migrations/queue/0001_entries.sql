-- A runner that waits for a slot.
CREATE TABLE queue.entries (
    kind         text        NOT NULL,
    owner_id     uuid        NOT NULL,
    attempt      integer     NOT NULL,
    spec         text        NOT NULL,
    platforms    text[]      NOT NULL,
    -- How many of its platforms it waits for, from the first.
    opened       integer     NOT NULL,
    -- When it opens the next.
    open_at      timestamptz,
    priority     integer     NOT NULL,
    queued_at    timestamptz NOT NULL,
    not_before   timestamptz NOT NULL,
    deadline     timestamptz NOT NULL,
    -- A dispatcher is asking for it until then.
    asked_until  timestamptz,
    traceparent  text,
    PRIMARY KEY (kind, owner_id, attempt)
) WITH (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.02);

CREATE INDEX entries_deadline ON queue.entries (deadline);
CREATE INDEX entries_open ON queue.entries (open_at) WHERE open_at IS NOT NULL;
CREATE INDEX entries_later ON queue.entries (not_before);

-- One row for each platform that an entry waits for, in the order in which they are served: taking the next one costs the
-- same however many wait.
CREATE TABLE queue.waits (
    platform  text        NOT NULL,
    priority  integer     NOT NULL,
    queued_at timestamptz NOT NULL,
    owner_id  uuid        NOT NULL,
    attempt   integer     NOT NULL,
    kind      text        NOT NULL,
    PRIMARY KEY (platform, priority, queued_at, owner_id, attempt, kind)
) WITH (autovacuum_vacuum_scale_factor = 0.02);

CREATE INDEX waits_of_entry ON queue.waits (owner_id, attempt);
