//! Callers share transactions: one whose request cannot be stored fails alone.

use std::time::Duration;

use futures::future::{join, join_all};
use greenroom_contracts::proto::v1::runner_report::Report;
use greenroom_contracts::proto::v1::{AutomaticLeave, Bot, BotSettings, Note, Resources, UpdateBotRequest};
use greenroom_domain::bot::BotState;
use tonic::{Code, Response, Status};

use crate::house::{As, House, PASSWORD, asked, new_bot, runner_of};

const HOUR: Duration = Duration::from_secs(3600);

impl House {
    async fn rename(&self, bot: &Bot, name: &str) -> Result<Bot, Status> {
        self.change(bot, "display_name", BotSettings { display_name: name.to_owned(), ..BotSettings::default() }).await
    }

    async fn change(&self, bot: &Bot, path: &str, new: BotSettings) -> Result<Bot, Status> {
        let message = UpdateBotRequest {
            bot_id: bot.id.clone(),
            settings: Some(new),
            update_mask: Some(prost_types::FieldMask { paths: vec![path.to_owned()] }),
        };
        let request = As { message, caller: self.creation(self.tenant, new_bot(), "").caller };
        self.scheduler.clone().update_bot(request).await.map(Response::into_inner)
    }

    async fn scheduled(&self, count: usize) -> Vec<Bot> {
        join_all((0..count).map(|_| self.create_later(HOUR))).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sequence_beyond_what_is_stored_is_refused_and_fails_nobody_else() {
    let house = House::new().await;
    let (bot, instance) = house.at(BotState::JoiningCall).await;
    let (bots, runner) = (house.scheduled(24).await, runner_of(&bot, 1));
    let note = || Report::Note(Note { text: "a line".to_owned() });
    for round in 0..4 {
        let reports = join_all((0..8).map(|_| house.report(runner, instance, [(u64::MAX, note())])));
        let name = format!("round {round}");
        let renames = join_all(bots.iter().map(|bot| house.rename(bot, &name)));
        let (reported, renamed) = join(reports, renames).await;
        for status in reported.into_iter().map(|answer| answer.expect_err("no column holds it")) {
            assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
            assert!(status.message().starts_with("reports[0].sequence: "), "{status:?}");
        }
        for bot in renamed {
            assert_eq!(asked(&bot.expect("has nothing to do with it")).display_name, name);
        }
    }
    house.report(runner, instance, [(1, note())]).await.expect("it may go on");
    let last = i64::MAX as u64;
    let kept = house.report(runner, instance, [(last, note())]).await.expect("the last there is");
    assert_eq!(kept.acknowledged, last);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_row_fails_alone() {
    let house = House::new().await;
    let bots = house.scheduled(40).await;
    // Whatever it is that the database will not have: nobody could have known it at the door.
    sqlx::query("ALTER TABLE scheduler.bots ADD CONSTRAINT spoilt CHECK (settings->>'display_name' <> 'spoilt')")
        .execute(&house.sql)
        .await
        .expect("a constraint");
    let culprits = [0, 17, 39];
    let renames = bots.iter().enumerate().map(|(at, bot)| {
        let name = if culprits.contains(&at) { "spoilt" } else { "Ada" };
        house.rename(bot, name)
    });
    for (at, answer) in join_all(renames).await.into_iter().enumerate() {
        if culprits.contains(&at) {
            assert_eq!(answer.expect_err("a culprit").code(), Code::Internal, "{at}");
        } else {
            assert_eq!(asked(&answer.unwrap_or_else(|status| panic!("{at}: {status:?}"))).display_name, "Ada");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_due_bot_that_cannot_be_stored_keeps_no_other_from_its_start() {
    let house = House::fast().await;
    let bots = house.scheduled(20).await;
    house.rename(&bots[7], "spoilt").await.expect("a name as any other, so far");
    sqlx::query(
        "ALTER TABLE scheduler.bots ADD CONSTRAINT spoilt CHECK (settings->>'display_name' <> 'spoilt' OR state = 'SCHEDULED')",
    )
    .execute(&house.sql)
    .await
    .expect("a constraint");
    // All in one page of the sweep.
    sqlx::query("UPDATE scheduler.bots SET start_at = created_at, wake_at = created_at")
        .execute(&house.sql)
        .await
        .expect("due");
    for (at, bot) in bots.iter().enumerate().filter(|(at, _)| *at != 7) {
        let seen = house.until_state(bot, BotState::Queued).await;
        assert_eq!(seen.state().word(), "QUEUED", "{at}");
    }
    assert_eq!(house.get(&bots[7]).await.state().word(), "SCHEDULED");
}

/// Every number that a caller can give, as large as its type has it: refused by name at the door, and never by the database.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_number_of_a_request_is_one_that_no_column_holds() {
    let house = House::new().await;
    let bot = house.create_later(HOUR).await;
    let resources = |resources: Resources| BotSettings { resources: Some(resources), ..BotSettings::default() };
    let leave = |leave: AutomaticLeave| BotSettings { automatic_leave: Some(leave), ..BotSettings::default() };
    for (field, new) in [
        ("priority", BotSettings { priority: Some(u32::MAX), ..BotSettings::default() }),
        ("max_retries", BotSettings { max_retries: Some(u32::MAX), ..BotSettings::default() }),
        ("queue_timeout_ms", BotSettings { queue_timeout_ms: Some(u64::MAX), ..BotSettings::default() }),
        ("resources.cpu_millis", resources(Resources { cpu_millis: Some(u32::MAX), ..Resources::default() })),
        ("resources.memory_mb", resources(Resources { memory_mb: Some(u32::MAX), ..Resources::default() })),
        (
            "resources.cpu_limit_millis",
            resources(Resources { cpu_limit_millis: Some(u32::MAX), ..Resources::default() }),
        ),
        ("resources.memory_limit_mb", resources(Resources { memory_limit_mb: Some(u32::MAX), ..Resources::default() })),
        (
            "automatic_leave.waiting_room_timeout_ms",
            leave(AutomaticLeave { waiting_room_timeout_ms: Some(u64::MAX), ..AutomaticLeave::default() }),
        ),
        (
            "automatic_leave.no_one_joined_timeout_ms",
            leave(AutomaticLeave { no_one_joined_timeout_ms: Some(u64::MAX), ..AutomaticLeave::default() }),
        ),
        (
            "automatic_leave.everyone_left_timeout_ms",
            leave(AutomaticLeave { everyone_left_timeout_ms: Some(u64::MAX), ..AutomaticLeave::default() }),
        ),
        (
            "automatic_leave.inactivity_timeout_ms",
            leave(AutomaticLeave { inactivity_timeout_ms: Some(u64::MAX), ..AutomaticLeave::default() }),
        ),
        (
            "automatic_leave.max_duration_ms",
            leave(AutomaticLeave { max_duration_ms: Some(u64::MAX), ..AutomaticLeave::default() }),
        ),
    ] {
        let whole = BotSettings { meeting: new_bot().meeting, ..new.clone() };
        for status in [house.try_create(whole, "").await, house.change(&bot, field, new).await].map(Result::unwrap_err)
        {
            assert_eq!(status.code(), Code::InvalidArgument, "{field}: {status:?}");
            assert!(status.message().starts_with(&format!("settings.{field}: ")), "{status:?}");
        }
    }
}

/// Postgres says which row it refuses, and with it where the meeting is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_row_is_logged_without_its_data() {
    let house = House::new().await;
    house.create(new_bot()).await;
    let refused =
        sqlx::query("UPDATE scheduler.bots SET number = NULL").execute(&house.sql).await.expect_err("refused");
    assert!(format!("{refused:?}").contains("room-1"), "the row stands in it: {refused:?}");
    let said = greenroom_store::Error::from(refused).in_full();
    assert!(said.contains("not-null"), "it says why: {said}");
    for secret in [PASSWORD, "very-secret-room", "room-1"] {
        assert!(!said.contains(secret), "{said}");
    }
}
