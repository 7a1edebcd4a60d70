-- Whoever pays.
CREATE TABLE accounts.tenants (
    id         uuid        PRIMARY KEY,
    name       text        NOT NULL UNIQUE CHECK (name <> ''),
    plan       text        NOT NULL DEFAULT 'standard'
               CHECK (plan IN ('free', 'standard', 'professional', 'enterprise')),
    -- The next six are the tenant's own, instead of its plan's; NULL: as the plan says.
    -- Of its bots, where they say nothing themselves; lower is first.
    priority   integer     CHECK (priority >= 0),
    -- Share of its bots' turns among equals.
    weight     integer     CHECK (weight > 0),
    -- Bots a day and at a time; 0: any number.
    daily_limit       integer CHECK (daily_limit >= 0),
    concurrency_limit integer CHECK (concurrency_limit >= 0),
    -- What its bots' runners ask for: thousandths of a processor, MiB. No plan says anything of it; NULL: as for everybody.
    cpu_millis        integer CHECK (cpu_millis > 0),
    memory_mb         integer CHECK (memory_mb > 0),
    -- IANA name; what a "day" is for this tenant.
    timezone   text        NOT NULL DEFAULT 'UTC',
    created_at timestamptz NOT NULL
);

CREATE TABLE accounts.api_keys (
    id         uuid        PRIMARY KEY,
    tenant_id  uuid        NOT NULL REFERENCES accounts.tenants (id),
    -- For people, in lists.
    label      text        NOT NULL DEFAULT '',
    -- It may do what concerns everybody.
    operator   boolean     NOT NULL DEFAULT false,
    -- The key has 256 random bits, so a plain hash is as good as a slow one. The key itself is never stored.
    key_sha256 bytea       NOT NULL UNIQUE CHECK (octet_length(key_sha256) = 32),
    created_at timestamptz NOT NULL,
    revoked_at timestamptz
);

-- A tenant's keys, for lists.
CREATE INDEX api_keys_tenant ON accounts.api_keys (tenant_id, id);
