-- A runner that wants a slot. Where it is, is one of three places: `later`, `waits` or `claims`.
CREATE TABLE queue.entries (
    kind         text        NOT NULL,
    owner_id     uuid        NOT NULL,
    attempt      integer     NOT NULL,
    tenant_id    uuid        NOT NULL,
    provider     text        NOT NULL,
    spec         text        NOT NULL,
    platforms    text[]      NOT NULL,
    -- How many of its platforms it waits for, from the first.
    opened       integer     NOT NULL,
    -- When it opens the next.
    open_at      timestamptz,
    -- The priority it came with.
    tier         integer     NOT NULL,
    -- The one it has: waiting raises it.
    priority     integer     NOT NULL,
    -- When it is raised next.
    rise_at      timestamptz,
    weight       integer     NOT NULL,
    -- Its place in its lane, which is what one tenant has waiting at one priority.
    lane_at      timestamptz NOT NULL,
    turn         bigint      NOT NULL,
    queued_at    timestamptz NOT NULL,
    not_before   timestamptz NOT NULL,
    -- Since when it could have had a slot.
    since        timestamptz NOT NULL,
    deadline     timestamptz NOT NULL,
    traceparent  text,
    PRIMARY KEY (owner_id, attempt, kind)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02);

CREATE INDEX entries_lane ON queue.entries (priority, tenant_id, lane_at, queued_at, owner_id);
CREATE INDEX entries_deadline ON queue.entries (deadline);
CREATE INDEX entries_open ON queue.entries (open_at) WHERE open_at IS NOT NULL;
CREATE INDEX entries_rise ON queue.entries (rise_at) WHERE rise_at IS NOT NULL;

-- Who can be asked for now: one row for each platform that an entry waits for, in the order in which they are served. What
-- cannot be asked for (it backs off, somebody asks for it at this moment) has no row, so nothing is passed over: the next one
-- is the first of its provider, however many wait.
CREATE TABLE queue.waits (
    platform  text        NOT NULL,
    provider  text        NOT NULL,
    priority  integer     NOT NULL,
    turn      bigint      NOT NULL,
    queued_at timestamptz NOT NULL,
    owner_id  uuid        NOT NULL,
    attempt   integer     NOT NULL,
    kind      text        NOT NULL,
    tier      integer     NOT NULL,
    since     timestamptz NOT NULL,
    PRIMARY KEY (platform, provider, priority, turn, queued_at, owner_id, attempt, kind)
) WITH (autovacuum_vacuum_scale_factor = 0.02);

-- Who has waited longest.
CREATE INDEX waits_oldest ON queue.waits (platform, tier, since);

-- Who is being asked for, and until when the dispatcher has to be done with it.
CREATE TABLE queue.claims (
    kind     text        NOT NULL,
    owner_id uuid        NOT NULL,
    attempt  integer     NOT NULL,
    platform text        NOT NULL,
    provider text        NOT NULL,
    until    timestamptz NOT NULL,
    PRIMARY KEY (owner_id, attempt, kind)
) WITH (fillfactor = 60);

CREATE INDEX claims_until ON queue.claims (until);
CREATE INDEX claims_pool ON queue.claims (platform, provider);

-- Who backs off.
CREATE TABLE queue.later (
    not_before timestamptz NOT NULL,
    kind       text        NOT NULL,
    owner_id   uuid        NOT NULL,
    attempt    integer     NOT NULL,
    PRIMARY KEY (not_before, owner_id, attempt, kind)
);

-- How many wait on a platform, kept by the statements that store and forget them: counting a million takes a second. In
-- parts, so that those statements need not wait for each other; a number is the sum of its parts.
CREATE TABLE queue.lengths (
    platform text    NOT NULL,
    tier     integer NOT NULL,
    part     integer NOT NULL,
    waiting  bigint  NOT NULL,
    PRIMARY KEY (platform, tier, part)
) WITH (fillfactor = 20);

-- Who got a slot after waiting, in spans of ten seconds: how many, how long all of them waited, and how long some of them.
CREATE TABLE queue.turnover (
    at        timestamptz NOT NULL,
    platform  text        NOT NULL,
    tier      integer     NOT NULL,
    served    bigint      NOT NULL,
    waited_ms bigint      NOT NULL,
    sample_ms bigint[]    NOT NULL,
    PRIMARY KEY (at, platform, tier)
) WITH (fillfactor = 50);

-- The highest turn that was served at a priority: where a tenant begins that has nothing waiting.
CREATE TABLE queue.turns (
    priority integer PRIMARY KEY,
    turn     bigint  NOT NULL
) WITH (fillfactor = 20);
