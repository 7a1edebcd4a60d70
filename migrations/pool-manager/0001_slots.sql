-- A named place where runners run.
CREATE TABLE pool.platforms (
    name       text        PRIMARY KEY,
    kind       text        NOT NULL,
    region     text        NOT NULL,
    -- What holds: the least of what stands below.
    slot_limit integer     NOT NULL,
    -- Deployments in flight: the least as well.
    permits    integer     NOT NULL,
    preset_limit     integer,
    setting_limit    integer NOT NULL,
    operator_limit   integer,
    setting_permits  integer NOT NULL,
    operator_permits integer,
    -- Nothing is given here; what runs goes on.
    draining   boolean     NOT NULL DEFAULT false,
    -- Rises with everything that takes room here: what was decided on an older one is refused.
    version    bigint      NOT NULL DEFAULT 1,
    -- Somebody was told that it is full: room that comes free is announced.
    wanted     boolean     NOT NULL DEFAULT false,
    -- Operators were told that every slot is taken, and none has been free since.
    exhausted  boolean     NOT NULL DEFAULT false,
    -- Its slots are standing ones, which are prepared before anybody has them.
    pooled     boolean     NOT NULL DEFAULT false,
    -- How many rows of slots are made for it: none where they are made by preparing.
    row_limit  integer     NOT NULL GENERATED ALWAYS AS (CASE WHEN pooled THEN 0 ELSE slot_limit END) STORED,
    updated_at timestamptz NOT NULL
);

-- How many of a platform's slots one provider may have: a row as long as somebody says so.
CREATE TABLE pool.provider_limits (
    platform       text    NOT NULL REFERENCES pool.platforms (name),
    provider       text    NOT NULL,
    setting_limit  integer,
    operator_limit integer,
    -- What holds: the lesser.
    slot_limit     integer NOT NULL GENERATED ALWAYS AS (least(setting_limit, operator_limit)) STORED,
    PRIMARY KEY (platform, provider)
);

-- The installation, in one row: what all platforms together may have. Null: no limit of its own.
CREATE TABLE pool.installation (
    single     boolean PRIMARY KEY DEFAULT true CHECK (single),
    -- Rises with everything that takes room, as long as there is a limit.
    version    bigint  NOT NULL DEFAULT 1,
    slot_limit integer,
    permits    integer
);
INSERT INTO pool.installation DEFAULT VALUES;

-- The right to run one runner on one platform.
CREATE TABLE pool.slots (
    id           uuid        PRIMARY KEY,
    platform     text        NOT NULL REFERENCES pool.platforms (name),
    -- The provider whose runners alone it is given to; empty on platforms that are not pooled.
    pool         text        NOT NULL DEFAULT '',
    number       integer     NOT NULL,
    -- idle, deploying, busy, releasing, error, cordoned; of standing slots also preparing, failed, retiring, which people see
    -- as deploying, error, releasing
    state        text        NOT NULL,
    -- Who used it last, or does now.
    provider     text,
    image        text        NOT NULL DEFAULT '',
    last_used_at timestamptz,
    -- An operator's word: it is not given any more. While somebody has it, its state is another one.
    cordoned     boolean     NOT NULL DEFAULT false,
    -- What follows is of standing slots. (slot, generation) is what its platform knows: renewed, it is the next one.
    generation   integer     NOT NULL DEFAULT 0,
    uses         integer     NOT NULL DEFAULT 0,
    -- It was given back without proof: it is renewed before anybody else has it.
    dirty        boolean     NOT NULL DEFAULT false,
    -- preparing: by which command, prepare or reset. retiring: whether the next generation follows.
    reset        boolean     NOT NULL DEFAULT false,
    renew        boolean     NOT NULL DEFAULT false,
    -- When this generation was ready for the first time, and since when it is idle.
    prepared_at  timestamptz,
    idle_since   timestamptz,
    -- preparing: when it was commanded first (null: it waits for its turn), and until when.
    commanded_at timestamptz,
    prepare_by   timestamptz,
    -- When the sweep looks at it next, and how often it has commanded the same.
    wake_at      timestamptz,
    asserts      integer     NOT NULL DEFAULT 0,
    -- How often preparing this generation has failed, and what its platform said.
    attempts     integer     NOT NULL DEFAULT 0,
    last_error   text,
    -- What its platform was told to show beside it.
    description  text        NOT NULL DEFAULT '',
    UNIQUE (platform, pool, number)
) WITH (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.02);

-- Least recently used first.
CREATE INDEX slots_idle ON pool.slots (platform, last_used_at NULLS FIRST, number) WHERE state = 'idle';

-- Standing slots are named after their pool alone, so a number is one platform's.
CREATE UNIQUE INDEX slots_names ON pool.slots (pool, number) WHERE pool <> '';
CREATE INDEX slots_wake ON pool.slots (platform, wake_at) WHERE wake_at IS NOT NULL;

-- The standing slots of one provider on one pooled platform.
CREATE TABLE pool.pools (
    platform    text    NOT NULL REFERENCES pool.platforms (name),
    provider    text    NOT NULL,
    -- By the settings: how many there may be, 0 where there are to be none, and how many there are at least.
    size_limit  integer NOT NULL,
    prewarm     integer NOT NULL,
    -- How many runners were told that no slot is ready, and when the last of them was.
    waiting     integer NOT NULL DEFAULT 0,
    waiting_at  timestamptz,
    -- What was decided last, and why.
    target      integer NOT NULL DEFAULT 0,
    why         text    NOT NULL DEFAULT '',
    last_out_at timestamptz,
    last_in_at  timestamptz,
    PRIMARY KEY (platform, provider)
);

-- How many of a pool's slots somebody had: kept for as long as the load is watched.
CREATE TABLE pool.samples (
    platform text        NOT NULL,
    provider text        NOT NULL,
    at       timestamptz NOT NULL,
    busy     integer     NOT NULL,
    PRIMARY KEY (platform, provider, at)
);

-- Decisions that changed something, kept for a week.
CREATE TABLE pool.scalings (
    platform text        NOT NULL,
    provider text        NOT NULL,
    at       timestamptz NOT NULL,
    change   integer     NOT NULL,
    target   integer     NOT NULL,
    why      text        NOT NULL,
    PRIMARY KEY (platform, provider, at)
);

-- Starts that failed in a row, by platform and provider: no row, no failure. Written under the platform's lock, or with the
-- platform's version by whoever gives a probe.
CREATE TABLE pool.breakers (
    platform       text    NOT NULL REFERENCES pool.platforms (name),
    provider       text    NOT NULL,
    -- closed, open or half_open
    state          text    NOT NULL,
    failures       integer NOT NULL,
    -- Open: when a probe is let through.
    probe_at       timestamptz,
    -- How often it opened without a success between.
    trips          integer NOT NULL,
    -- Half open: the probe in flight.
    probe_kind     text,
    probe_owner_id uuid,
    probe_attempt  integer,
    PRIMARY KEY (platform, provider)
);

-- How full platforms were: a row a minute, kept for a day.
CREATE TABLE pool.history (
    platform   text        NOT NULL,
    at         timestamptz NOT NULL,
    used       integer     NOT NULL,
    slot_limit integer     NOT NULL,
    PRIMARY KEY (platform, at)
);
-- Those that somebody used last: they are warm for the same again.
CREATE INDEX slots_warm ON pool.slots (platform, provider, image, last_used_at, number) WHERE state = 'idle';

-- This runner has this slot, had it, or never gets one.
CREATE TABLE pool.assignments (
    kind         text        NOT NULL,
    owner_id     uuid        NOT NULL,
    attempt      integer     NOT NULL,
    id           uuid        NOT NULL,
    -- assigned: the start is unresolved, and holds a permit; accepted; stopping; over; closed: never had a slot.
    state        text        NOT NULL,
    platform     text,
    slot_id      uuid,
    slot_name    text        NOT NULL,
    -- Of the standing slot; null where it is none.
    generation   integer,
    provider     text        NOT NULL,
    spec         text        NOT NULL,
    traceparent  text,
    assigned_at  timestamptz NOT NULL,
    start_by     timestamptz NOT NULL,
    accepted_at  timestamptz,
    observed     boolean     NOT NULL,
    grace_ms     bigint      NOT NULL,
    -- When the sweep looks at it next.
    wake_at      timestamptz,
    asserts      integer     NOT NULL,
    ended_at     timestamptz,
    PRIMARY KEY (kind, owner_id, attempt)
) WITH (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.02);

-- A slot has at most one owner, whatever the code believes.
CREATE UNIQUE INDEX assignments_one_owner ON pool.assignments (slot_id) WHERE state IN ('assigned', 'accepted', 'stopping');
CREATE INDEX assignments_wake ON pool.assignments (wake_at) WHERE wake_at IS NOT NULL;
-- Permits are counted here: never more rows than permits.
CREATE INDEX assignments_in_flight ON pool.assignments (platform) WHERE state = 'assigned';
-- Whom to expect, in pages.
CREATE INDEX assignments_expected ON pool.assignments (owner_id, attempt) WHERE state = 'accepted';
CREATE INDEX assignments_ended ON pool.assignments (ended_at) WHERE ended_at IS NOT NULL;

-- What platforms showed: the pages of the newest lists. Two lists in a row are compared.
CREATE TABLE pool.lists (
    platform text        NOT NULL,
    -- runners or slots
    shows    text        NOT NULL,
    list     uuid        NOT NULL,
    page     integer     NOT NULL,
    last     boolean     NOT NULL,
    began_at timestamptz NOT NULL,
    ended_at timestamptz NOT NULL,
    names    text[]      NOT NULL,
    PRIMARY KEY (platform, list, page)
);

-- Ends a statement that gives slots which somebody else took in between: all of it or nothing.
CREATE FUNCTION pool.room_was_taken() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'room was taken in between' USING ERRCODE = 'GR001';
END
$$;
