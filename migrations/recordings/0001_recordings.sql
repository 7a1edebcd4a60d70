-- A bot's recording: what was heard about it, what has to be done next, and what came of it.
CREATE TABLE recordings.recordings (
    tenant_id      uuid        NOT NULL,
    bot_id         uuid        NOT NULL,
    -- When the bot was over, and which attempt was its last (0: it never had one).
    over_at        timestamptz,
    over_attempt   integer,
    -- The newest attempt whose runner is proven gone.
    gone_attempt   integer     NOT NULL DEFAULT 0,
    parts          integer     NOT NULL DEFAULT 0,
    last_part_at   timestamptz,
    -- What came of it, and for how many parts that holds: with more parts it is joined again.
    verdict        text        CHECK (verdict IN ('ready', 'failed', 'none')),
    settled_parts  integer,
    -- When the bot's owner was asked last whether it is over: its event may have been lost.
    asked_at       timestamptz,
    tries          integer     NOT NULL DEFAULT 0,
    retry_at       timestamptz,
    -- When to look at it; NULL: when something is heard.
    due_at         timestamptz,
    -- Who is joining it, and until when that holds.
    lease          uuid,
    leased_until   timestamptz,
    -- Of the last public event.
    sequence       bigint      NOT NULL DEFAULT 0,
    -- The joined file.
    object         text,
    media_type     text,
    duration_ms    bigint,
    size_bytes     bigint,
    mean_volume_db double precision,
    -- For a person.
    detail         text        NOT NULL DEFAULT '',
    created_at     timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, bot_id)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);

-- Events of runners name no tenant.
CREATE UNIQUE INDEX recordings_bot ON recordings.recordings (bot_id);
-- What the sweep claims; short, as nothing is due while a bot lives or after it is settled.
CREATE INDEX recordings_due ON recordings.recordings (due_at) WHERE due_at IS NOT NULL;
-- Bots that are not over: what the sweep asks their owner about. No column in it changes while parts come in.
CREATE INDEX recordings_live ON recordings.recordings (bot_id) WHERE over_at IS NULL;

-- A part: its object is there before its row is.
CREATE TABLE recordings.parts (
    tenant_id  uuid        NOT NULL,
    bot_id     uuid        NOT NULL,
    attempt    integer     NOT NULL,
    index      integer     NOT NULL,
    offset_ms  bigint      NOT NULL,
    media_type text        NOT NULL,
    size_bytes bigint      NOT NULL,
    sha256     bytea       NOT NULL CHECK (octet_length(sha256) = 32),
    object     text        NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, bot_id, attempt, index)
);

-- A screenshot; its name holds attempt, label and a piece of its digest, so the same one sent twice is one.
CREATE TABLE recordings.screenshots (
    tenant_id  uuid        NOT NULL,
    bot_id     uuid        NOT NULL,
    name       text        NOT NULL,
    media_type text        NOT NULL,
    size_bytes bigint      NOT NULL,
    object     text        NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, bot_id, name)
);
