//! What is left after a story: what the databases say, what a subscriber heard, what the platform saw.

use std::io;
use std::time::{Duration, Instant};

use greenroom_domain::bot::BotState;
use greenroom_domain::{SlotId, Standing};
use serde::{Deserialize, Serialize};
use sqlx::{Connection, PgConnection, Row};

use crate::Sandbox;
use crate::checker::slots_at_rest;
use crate::order::Order;
use crate::simulated::Fact;
use crate::simulated::SimulatedPlatform;
use crate::story::{Acknowledged, Listener};

/// Everything that a checker needs to know.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Evidence {
    /// Bots that users were told they have.
    pub acknowledged: Vec<Acknowledged>,
    /// Bots as the scheduler has them.
    pub bots: Vec<BotEnd>,
    /// Their timelines, each in the order of its sequence.
    pub timeline: Vec<Line>,
    /// Assignments, over or not.
    pub assignments: Vec<AssignmentEnd>,
    /// (name, state) of the slots.
    pub slots: Vec<(String, String)>,
    /// Those of them that are standing ones, as the pool manager has them.
    #[serde(default)]
    pub standing: Vec<StandingEnd>,
    /// (platform, slot) of the standing slots that platforms have.
    #[serde(default)]
    pub standing_there: Vec<(String, Standing)>,
    /// Entries that are still in the queue.
    pub waiting: i64,
    /// What a subscriber heard.
    pub heard: Vec<Heard>,
    /// What the platform saw.
    pub facts: Vec<Fact>,
    /// Runners that the platform still has.
    pub left: Vec<String>,
    /// How many starts might still make a runner there when this was read. What is left may change until there are none.
    pub starts_under_way: usize,
    /// Whether slots went by priority.
    #[serde(default)]
    pub order: Order,
    /// How long it took from the last request until every bot was over.
    pub drained: Duration,
    /// How long it may take.
    pub drain_limit: Duration,
}

/// A bot at the end.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BotEnd {
    /// Its id.
    pub id: String,
    /// Its state.
    pub state: String,
    /// Why.
    pub reason: Option<String>,
    /// Of its last public event.
    pub sequence: i64,
}

/// A line of a timeline.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Line {
    /// Whose.
    pub bot: String,
    /// Its place.
    pub sequence: i64,
    /// What happened.
    pub what: String,
    /// The state after it.
    pub state: String,
    /// To which attempt.
    pub attempt: i32,
}

/// An assignment at the end.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AssignmentEnd {
    /// `bot-<id>-<attempt>`.
    pub runner: String,
    /// Its slot.
    pub slot: String,
    /// Its state.
    pub state: String,
    /// From, in microseconds.
    pub from: i64,
    /// To, in microseconds; none while it has the slot.
    pub to: Option<i64>,
}

/// A standing slot at the end, as the pool manager has it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StandingEnd {
    /// Where.
    pub platform: String,
    /// Which, and its present generation.
    pub standing: Standing,
    /// Its state.
    pub state: String,
}

/// An event that a subscriber heard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// The CloudEvent's id.
    pub id: String,
    /// Its type.
    pub message_type: String,
    /// Whom it is about.
    pub subject: String,
    /// Its place.
    pub sequence: i64,
    /// The state it tells of.
    pub state: Option<String>,
}

impl Evidence {
    /// Reads what the databases and the platform say. Nothing is running against it any more, or soon nothing will.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn collect(sandbox: &Sandbox) -> io::Result<Self> {
        Self::of(&sandbox.database_url(), &sandbox.platform).await
    }

    /// The same of any Greenroom whose runners are on a simulated platform.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn of(database_url: &str, platform: &SimulatedPlatform) -> io::Result<Self> {
        let mut connection = PgConnection::connect(database_url).await.map_err(io::Error::other)?;
        // One moment of all tables: a bot and its timeline, a slot and its assignment.
        let snapshot = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        sqlx::raw_sql(snapshot).execute(&mut connection).await.map_err(io::Error::other)?;
        let evidence = Self {
            // First: a start that ends after this shows in the rest.
            starts_under_way: platform.starts_under_way(),
            facts: Fact::read(platform.facts())?,
            standing_there: platform.standing_anywhere(),
            left: platform.left_anywhere().iter().map(ToString::to_string).collect(),
            ..Self::read(&mut connection).await.map_err(io::Error::other)?
        };
        Ok(evidence)
    }

    /// Waits until every bot is over, the listener has heard everything and the platform is empty; then all there is to
    /// check. When it does not come to that within a time, the evidence says what hangs.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn settled(
        sandbox: &Sandbox,
        acknowledged: Vec<Acknowledged>,
        listener: &Listener,
        within: Duration,
    ) -> io::Result<Self> {
        let end = Instant::now() + within;
        loop {
            let evidence = Self::collect(sandbox).await?;
            let is_over = |bot: &BotEnd| bot.state.parse::<BotState>().is_ok_and(BotState::is_terminal);
            let up_to = listener.complete_up_to();
            let heard = evidence.bots.iter().all(|bot| up_to.get(&bot.id) == Some(&bot.sequence));
            let ended = evidence.assignments.iter().all(|assignment| assignment.state == "over");
            let still = evidence.starts_under_way == 0 && slots_at_rest(&evidence).is_empty();
            if (evidence.bots.iter().all(is_over) && heard && ended && still) || Instant::now() > end {
                return Ok(Self { acknowledged, heard: listener.heard(), ..evidence });
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn read(connection: &mut PgConnection) -> Result<Self, sqlx::Error> {
        let bots = sqlx::query("SELECT id::text, state, reason, sequence FROM scheduler.bots ORDER BY id")
            .fetch_all(&mut *connection)
            .await?;
        let bots = bots.iter().map(|row| {
            Ok(BotEnd {
                id: row.try_get(0)?,
                state: row.try_get(1)?,
                reason: row.try_get(2)?,
                sequence: row.try_get(3)?,
            })
        });
        let lines = sqlx::query(
            "SELECT bot_id::text, sequence, what, state, attempt FROM scheduler.timeline ORDER BY bot_id, sequence",
        )
        .fetch_all(&mut *connection)
        .await?;
        let lines = lines.iter().map(|row| {
            Ok(Line {
                bot: row.try_get(0)?,
                sequence: row.try_get(1)?,
                what: row.try_get(2)?,
                state: row.try_get(3)?,
                attempt: row.try_get(4)?,
            })
        });
        let assignments = sqlx::query(
            "SELECT kind || '-' || owner_id || '-' || attempt, slot_name, state,
                    (extract(epoch FROM assigned_at) * 1000000)::bigint, (extract(epoch FROM ended_at) * 1000000)::bigint
               FROM pool.assignments WHERE state <> 'closed' ORDER BY slot_name, assigned_at",
        )
        .fetch_all(&mut *connection)
        .await?;
        let assignments = assignments.iter().map(|row| {
            Ok(AssignmentEnd {
                runner: row.try_get(0)?,
                slot: row.try_get(1)?,
                state: row.try_get(2)?,
                from: row.try_get(3)?,
                to: row.try_get(4)?,
            })
        });
        let slots = sqlx::query(
            "SELECT platform || '-' || pool || number, state, platform, id, generation, pool
               FROM pool.slots ORDER BY platform, pool, number",
        )
        .fetch_all(&mut *connection)
        .await?;
        let standing = slots.iter().filter(|row| row.try_get::<&str, _>(5).is_ok_and(|pool| !pool.is_empty()));
        let standing = standing.map(|row| {
            let (slot, generation) = (SlotId::from_uuid(row.try_get(3)?), row.try_get::<i32, _>(4)?);
            let standing = Standing { slot, generation: u32::try_from(generation).unwrap_or_default() };
            Ok(StandingEnd { platform: row.try_get(2)?, standing, state: row.try_get(1)? })
        });
        let standing = standing.collect::<Result<_, sqlx::Error>>()?;
        let slots = slots.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
        let slots = slots.collect::<Result<_, sqlx::Error>>()?;
        let bots = bots.collect::<Result<_, sqlx::Error>>()?;
        let timeline = lines.collect::<Result<_, sqlx::Error>>()?;
        let assignments = assignments.collect::<Result<_, sqlx::Error>>()?;
        let waiting = sqlx::query_scalar("SELECT count(*) FROM queue.entries").fetch_one(&mut *connection).await?;
        Ok(Self { bots, timeline, assignments, slots, standing, waiting, ..Self::default() })
    }
}
