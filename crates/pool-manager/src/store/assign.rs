//! Giving slots: what there is to give, and the one statement that gives it.

use std::collections::{BTreeMap, BTreeSet};

use greenroom_domain::{AssignmentId, PlatformName, Provider, RunnerId, SlotId, Standing, Timestamp};
use greenroom_store::{Error, Outbox, sql_time};
use serde::Deserialize;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{PgConnection, Row};

use crate::room::{Cap, Gate, Idle, Room, Rooms, Warm};

/// What `pool.room_was_taken` raises.
const ROOM_WAS_TAKEN: &str = "GR001";

/// Locks platforms in the order of their names: until the transaction ends nobody else takes room on them.
pub async fn lock_platforms(connection: &mut PgConnection, names: &BTreeSet<&PlatformName>) -> Result<(), Error> {
    let sql = "SELECT name FROM pool.platforms WHERE name = ANY($1) ORDER BY name FOR UPDATE";
    let names: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
    sqlx::query(sql).bind(names).execute(&mut *connection).await?;
    // After the platforms, as whoever gives does.
    let sql = "SELECT version FROM pool.installation WHERE slot_limit IS NOT NULL OR permits IS NOT NULL FOR UPDATE";
    sqlx::query(sql).execute(connection).await?;
    Ok(())
}

/// What platforms can give, to at most so many, with slots that are warm for these among them. A platform that is not there is
/// missing.
pub async fn rooms(
    connection: &mut PgConnection,
    names: &BTreeSet<&PlatformName>,
    warm: &BTreeMap<Warm, usize>,
    most: usize,
) -> Result<Rooms, Error> {
    // Permits: assignments_in_flight. Slots: slots_idle and slots_warm. Who is above a lowered limit: the key (platform,
    // pool, number). Shares and what all platforms may have together are counted where there are such limits.
    let rows = sqlx::query(
        "SELECT p.name, p.version, p.draining, p.pooled, v.permits, o.slots, i.version AS cap_version, i.slots AS cap_slots,
                i.permits AS cap_permits,
                (SELECT coalesce(jsonb_object_agg(l.provider, greatest(0, l.slot_limit - (
                            SELECT count(*) FROM pool.slots s
                             WHERE s.platform = p.name AND s.provider = l.provider
                               AND s.state IN ('deploying', 'busy', 'releasing', 'error')))), '{}')
                   FROM (SELECT e.provider, min(e.slot_limit) AS slot_limit
                           FROM (SELECT provider, slot_limit FROM pool.provider_limits WHERE platform = p.name
                                 UNION ALL
                                 SELECT provider, size_limit FROM pool.pools WHERE platform = p.name AND p.pooled) e
                          GROUP BY e.provider) l) AS providers,
                (SELECT coalesce(jsonb_object_agg(b.provider, b.state = 'half_open' AND b.probe_kind IS NULL), '{}')
                   FROM pool.breakers b
                  WHERE b.platform = p.name AND b.state <> 'closed') AS gates,
                (SELECT coalesce(jsonb_agg(f), '[]')
                   FROM ((SELECT s.id, s.number, s.last_used_at, s.provider, s.image, s.pool, s.generation
                            FROM pool.slots s
                           WHERE s.platform = p.name AND s.state = 'idle' AND s.number <= p.row_limit AND s.pool = ''
                             AND NOT s.cordoned
                           ORDER BY s.last_used_at NULLS FIRST, s.number
                           LIMIT least($2, v.permits))
                         UNION
                         SELECT w.*
                           FROM unnest($3::text[], $4::text[], $5::bigint[]) AS k (provider, image, most)
                          CROSS JOIN LATERAL (
                                SELECT s.id, s.number, s.last_used_at, s.provider, s.image, s.pool, s.generation
                                  FROM pool.slots s
                                 WHERE s.platform = p.name AND s.provider = k.provider AND s.image = k.image
                                   AND s.state = 'idle' AND s.number <= p.row_limit AND s.pool = '' AND NOT s.cordoned
                                 ORDER BY s.last_used_at, s.number
                                 LIMIT least(k.most, v.permits)) w
                         UNION
                         -- Standing slots are for their provider alone, whatever they were used for.
                         SELECT w.*
                           FROM (SELECT DISTINCT provider FROM unnest($3::text[]) AS a (provider)) AS k
                          CROSS JOIN LATERAL (
                                SELECT s.id, s.number, s.last_used_at, s.provider, s.image, s.pool, s.generation
                                  FROM pool.slots s
                                 WHERE p.pooled AND s.platform = p.name AND s.provider = k.provider AND s.pool = k.provider
                                   AND s.state = 'idle' AND NOT s.cordoned
                                 ORDER BY s.last_used_at NULLS FIRST, s.number
                                 LIMIT least($2, v.permits)) w) f) AS idle
           FROM pool.platforms p
          CROSS JOIN LATERAL (
                SELECT greatest(0, p.permits - count(*)) AS permits
                  FROM pool.assignments a
                 WHERE a.platform = p.name AND a.state = 'assigned') v
          CROSS JOIN LATERAL (
                -- As many standing slots as there may be runners, and more while the limit is lowered.
                -- (In the order of the key: Postgres believes that a third is above, and would read them all.)
                SELECT CASE WHEN p.pooled OR (
                            SELECT s.number FROM pool.slots s
                             WHERE s.platform = p.name AND s.pool = '' AND s.number > p.slot_limit
                               AND s.state IN ('deploying', 'busy', 'releasing', 'error')
                             ORDER BY s.number LIMIT 1) IS NOT NULL
                       THEN greatest(0, p.slot_limit - (
                            SELECT count(*) FROM pool.slots s
                             WHERE s.platform = p.name AND s.state IN ('deploying', 'busy', 'releasing', 'error')))
                       END AS slots) o
           LEFT JOIN (
                SELECT c.version,
                       CASE WHEN c.slot_limit IS NOT NULL THEN greatest(0, c.slot_limit - (
                            SELECT count(*) FROM pool.slots s
                             WHERE s.state IN ('deploying', 'busy', 'releasing', 'error'))) END AS slots,
                       CASE WHEN c.permits IS NOT NULL THEN greatest(0, c.permits - (
                            SELECT count(*) FROM pool.assignments a WHERE a.state = 'assigned')) END AS permits
                  FROM pool.installation c
                 WHERE c.slot_limit IS NOT NULL OR c.permits IS NOT NULL) i ON true
          WHERE p.name = ANY($1)",
    )
    .bind(names.iter().map(|name| name.as_str()).collect::<Vec<_>>())
    .bind(i64::try_from(most).unwrap_or(i64::MAX))
    .bind(warm.keys().map(Warm::provider).collect::<Vec<_>>())
    .bind(warm.keys().map(Warm::image).collect::<Vec<_>>())
    .bind(warm.values().map(|most| i64::try_from(*most).unwrap_or(i64::MAX)).collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    let mut rooms = Rooms::default();
    for row in &rows {
        let count = |name| row.try_get(name).map(|n: Option<i64>| n.and_then(|n| usize::try_from(n).ok()));
        if let Some(version) = row.try_get("cap_version")? {
            rooms.cap = Some(Cap { version, slots: count("cap_slots")?, permits: count("cap_permits")? });
        }
        let name: String = row.try_get("name")?;
        let name = PlatformName::new(name).map_err(|error| Error::row("platforms.name", error))?;
        rooms.platforms.insert(name, room(row, warm)?);
    }
    Ok(rooms)
}

fn room(row: &PgRow, warm: &BTreeMap<Warm, usize>) -> Result<Room, Error> {
    #[derive(Deserialize)]
    struct IdleJson {
        id: SlotId,
        number: i32,
        last_used_at: Option<Timestamp>,
        provider: Option<String>,
        image: String,
        pool: String,
        generation: i32,
    }
    let count = |n: i64| usize::try_from(n).unwrap_or(0);
    let Json(providers): Json<BTreeMap<String, usize>> = row.try_get("providers")?;
    let providers = providers.into_iter().map(|(name, room)| Ok((Provider::new(name)?, room)));
    let Json(gates): Json<BTreeMap<String, bool>> = row.try_get("gates")?;
    let gates =
        gates.into_iter().map(|(name, probe)| Ok((Provider::new(name)?, if probe { Gate::Probe } else { Gate::Shut })));
    let Json(idle): Json<Vec<IdleJson>> = row.try_get("idle")?;
    let mut room = Room {
        version: row.try_get("version")?,
        draining: row.try_get("draining")?,
        permits: count(row.try_get("permits")?),
        slots: row.try_get::<Option<i64>, _>("slots")?.map(count),
        providers: providers
            .collect::<Result<_, _>>()
            .map_err(|error: greenroom_domain::InvalidName| Error::row("provider_limits.provider", error))?,
        gates: gates
            .collect::<Result<_, _>>()
            .map_err(|error: greenroom_domain::InvalidName| Error::row("breakers.provider", error))?,
        pooled: row.try_get("pooled")?,
        looked_for: warm.keys().cloned().collect(),
        ..Room::default()
    };
    for slot in idle {
        room.insert(Idle {
            id: slot.id,
            number: slot.number,
            last_used_at: slot.last_used_at,
            warm: slot.provider.map(|provider| Warm::new(provider, slot.image)),
            stands: super::stands(&slot.pool, slot.generation)?,
        });
    }
    Ok(room)
}

/// A slot for a runner.
#[derive(Debug, Clone)]
pub struct Gift {
    pub runner: RunnerId,
    pub id: AssignmentId,
    pub platform: PlatformName,
    pub slot: Idle,
    pub slot_name: String,
    pub provider: Provider,
    pub image: String,
    pub spec: String,
    pub traceparent: Option<String>,
    /// It is the one that a breaker lets through.
    pub probe: bool,
}

impl Gift {
    /// The standing slot in which the runner is to run, where it is one.
    pub fn standing(&self) -> Option<Standing> {
        let stands = self.slot.stands.as_ref()?;
        Some(Standing { slot: self.slot.id, generation: stands.generation })
    }
}

/// When they are given, and until when they hold.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    pub now: Timestamp,
    pub start_by: Timestamp,
    pub wake_at: Timestamp,
}

/// Gives slots and says so, in one statement: all of it or, when a platform's version is another one by now, nothing. False:
/// nothing. `cap` is the installation's version, where it has limits.
pub async fn give(
    connection: &mut PgConnection,
    versions: &BTreeMap<&PlatformName, i64>,
    cap: Option<i64>,
    gifts: &[Gift],
    times: Times,
    outbox: &Outbox,
) -> Result<bool, Error> {
    let runners: Vec<RunnerId> = gifts.iter().map(|gift| gift.runner).collect();
    let (kinds, owners, attempts) = super::keys(&runners);
    let probes: Vec<&Gift> = gifts.iter().filter(|gift| gift.probe).collect();
    let (probe_kinds, probe_owners, probe_attempts) =
        super::keys(&probes.iter().map(|gift| gift.runner).collect::<Vec<_>>());
    let given = sqlx::query(
        "WITH moved AS (
             UPDATE pool.platforms p
                SET version = p.version + 1
               FROM unnest($1::text[], $2::bigint[]) AS e (name, version)
              WHERE p.name = e.name AND p.version = e.version
             RETURNING p.name),
         moved_all AS (
             UPDATE pool.installation SET version = version + 1 WHERE version = $21 RETURNING single),
         taken AS (
             UPDATE pool.slots s
                SET state = 'deploying', provider = g.provider, image = g.image, last_used_at = $14, uses = s.uses + 1,
                    idle_since = NULL
               FROM unnest($8::uuid[], $10::text[], $22::text[]) AS g (slot_id, provider, image)
              -- So that no index fits the state: Postgres would rather read all idle slots than look up a few.
              WHERE s.id = g.slot_id AND (s.state = 'idle') IS TRUE
             RETURNING s.id),
         probing AS (
             UPDATE pool.breakers b
                SET probe_kind = e.kind, probe_owner_id = e.owner_id, probe_attempt = e.attempt
               FROM unnest($23::text[], $24::text[], $25::text[], $26::uuid[], $27::integer[])
                    AS e (platform, provider, kind, owner_id, attempt)
              WHERE b.platform = e.platform AND b.provider = e.provider AND b.state = 'half_open' AND b.probe_kind IS NULL
             RETURNING b.platform),
         -- Counted, and not joined: a join of what comes out of arrays is one of everything with everything.
         held AS MATERIALIZED (
             SELECT CASE WHEN (SELECT count(*) FROM moved) = cardinality($1) AND (SELECT count(*) FROM taken) = cardinality($8)
                          AND ($21::bigint IS NULL OR EXISTS (SELECT 1 FROM moved_all))
                          AND (SELECT count(*) FROM probing) = cardinality($23)
                         THEN true ELSE pool.room_was_taken() END AS held),
         said AS (
             INSERT INTO pool.outbox (created_at, id, subject, body)
             SELECT o.*
               FROM unnest($17::timestamptz[], $18::uuid[], $19::text[], $20::bytea[]) AS o
              WHERE (SELECT held FROM held))
         INSERT INTO pool.assignments (kind, owner_id, attempt, id, platform, slot_id, slot_name, provider, spec, traceparent,
                assigned_at, generation, state, start_by, observed, grace_ms, wake_at, asserts,
                starts)
         SELECT g.*, 'assigned', $15, false, 0, $16, 0, 1
           FROM unnest($3::text[], $4::uuid[], $5::integer[], $6::uuid[], $7::text[], $8::uuid[], $9::text[], $10::text[],
                       $11::text[], $12::text[], $13::timestamptz[], $28::integer[]) AS g
          WHERE (SELECT held FROM held)",
    )
    .bind(versions.keys().map(|name| name.as_str()).collect::<Vec<_>>())
    .bind(versions.values().copied().collect::<Vec<_>>())
    .bind(kinds)
    .bind(owners)
    .bind(attempts)
    .bind(gifts.iter().map(|gift| gift.id.uuid()).collect::<Vec<_>>())
    .bind(gifts.iter().map(|gift| gift.platform.as_str()).collect::<Vec<_>>())
    .bind(gifts.iter().map(|gift| gift.slot.id.uuid()).collect::<Vec<_>>())
    .bind(gifts.iter().map(|gift| gift.slot_name.as_str()).collect::<Vec<_>>())
    .bind(gifts.iter().map(|gift| gift.provider.as_str()).collect::<Vec<_>>())
    .bind(gifts.iter().map(|gift| gift.spec.as_str()).collect::<Vec<_>>())
    .bind(gifts.iter().map(|gift| gift.traceparent.as_deref()).collect::<Vec<_>>())
    // Another replica's clock may be ahead, and a slot is never given before it came back.
    .bind(
        gifts
            .iter()
            .map(|gift| sql_time(gift.slot.last_used_at.map_or(times.now, |at| at.max(times.now))))
            .collect::<Vec<_>>(),
    )
    .bind(sql_time(times.now))
    .bind(sql_time(times.start_by))
    .bind(sql_time(times.wake_at))
    .bind(outbox.created_at())
    .bind(outbox.ids())
    .bind(outbox.subjects())
    .bind(outbox.bodies())
    .bind(cap)
    .bind(gifts.iter().map(|gift| gift.image.as_str()).collect::<Vec<_>>())
    .bind(probes.iter().map(|gift| gift.platform.as_str()).collect::<Vec<_>>())
    .bind(probes.iter().map(|gift| gift.provider.as_str()).collect::<Vec<_>>())
    .bind(probe_kinds)
    .bind(probe_owners)
    .bind(probe_attempts)
    .bind(
        gifts
            .iter()
            .map(|gift| gift.slot.stands.as_ref().map(|stands| i32::try_from(stands.generation).unwrap_or(i32::MAX)))
            .collect::<Vec<_>>(),
    )
    .execute(connection)
    .await
    .map_err(Error::from);
    match given {
        Ok(_) => Ok(true),
        Err(error) if error.has_code(ROOM_WAS_TAKEN) => Ok(false),
        Err(error) => Err(error),
    }
}
