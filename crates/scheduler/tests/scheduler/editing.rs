//! What is changed about a bot after it was made: by its tenant, by operators, and by having been forgotten.

use std::time::Duration;

use futures::future::join_all;
use greenroom_contracts::messages::{Enqueue, Release};
use greenroom_contracts::proto::internal::v1::Caller;
use greenroom_contracts::proto::v1::runner_report::Report;
use greenroom_contracts::proto::v1::{
    AutomaticLeave, Bot, BotSettings, Desired, InCall, Leaving, Meeting, UpdateBotRequest,
};
use greenroom_contracts::{proto_timestamp, timestamp};
use greenroom_domain::TenantId;
use greenroom_domain::bot::BotState;
use tonic::{Code, Response, Status};

use crate::house::{As, House, OfBot, asked, id_of, new_bot, runner_of};

const HOUR: Duration = Duration::from_secs(3600);

impl House {
    async fn try_update(&self, bot: &Bot, paths: &[&str], new: BotSettings) -> Result<Bot, Status> {
        let paths = paths.iter().map(|path| (*path).to_owned()).collect();
        let update_mask = Some(prost_types::FieldMask { paths });
        let message = UpdateBotRequest { bot_id: bot.id.clone(), settings: Some(new), update_mask };
        let request = As { message, caller: self.creation(self.tenant, new_bot(), "").caller };
        self.scheduler.clone().update_bot(request).await.map(Response::into_inner)
    }

    async fn start_at(&self, bot: &Bot, after: Duration) -> Result<Bot, Status> {
        let start_time = Some(proto_timestamp(self.now() + after));
        self.try_update(bot, &["start_time"], BotSettings { start_time, ..BotSettings::default() }).await
    }

    async fn end_at(&self, bot: &Bot, after: Duration) -> Result<Bot, Status> {
        let end_time = Some(proto_timestamp(self.now() + after));
        self.try_update(bot, &["end_time"], BotSettings { end_time, ..BotSettings::default() }).await
    }

    async fn patch_metadata(&self, bot: &Bot, patch: &str) -> Result<Bot, Status> {
        let new = BotSettings { metadata: patch.to_owned(), ..BotSettings::default() };
        self.try_update(bot, &["metadata"], new).await
    }

    fn operator<T: OfBot>(&self, bot: &Bot) -> As<T> {
        As { caller: Some(Caller { operator: true, ..self.caller() }), ..self.request(bot) }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scheduled_bot_is_edited_and_a_repeat_changes_nothing() {
    let house = House::new().await;
    let bot = house.create_later(HOUR).await;
    let new = BotSettings {
        start_time: Some(proto_timestamp(house.now() + 2 * HOUR)),
        display_name: "Ada".to_owned(),
        priority: Some(300),
        platforms: vec!["two".to_owned()],
        automatic_leave: Some(AutomaticLeave { max_duration_ms: Some(5), ..AutomaticLeave::default() }),
        meeting: Some(Meeting { password: "other".to_owned(), ..Meeting::default() }),
        metadata: r#"{"a":1}"#.to_owned(),
        // Not named, so not read.
        max_retries: Some(0),
        ..BotSettings::default()
    };
    let mask = [
        "start_time",
        "display_name",
        "priority",
        "platforms",
        "automatic_leave.max_duration_ms",
        "meeting.password",
        "metadata",
        // Once is enough for the timeline.
        "priority",
    ];
    let edited = house.try_update(&bot, &mask, new.clone()).await.expect("edited");
    assert_eq!((edited.state().word(), edited.sequence), ("SCHEDULED", 2));
    assert_eq!(
        (asked(&edited).display_name.as_str(), asked(&edited).priority, edited.platforms.len()),
        ("Ada", Some(300), 1)
    );
    let again = house.try_update(&bot, &mask, new).await.expect("the same");
    assert_eq!(again, edited);
    let read = house.get(&bot).await;
    assert_eq!(Bot { timeline: Vec::new(), ..read.clone() }, edited);
    let line = read.timeline.last().expect("a line");
    assert_eq!(line.what, "edited");
    assert_eq!(line.detail, "startTime, displayName, priority, platforms, automaticLeave, meeting, metadata");
    house.until_sequence(&bot, 2).await;
    let kept: (String, String, i64, i32) = sqlx::query_as(
        "SELECT settings #>> '{meeting,url}', settings #>> '{meeting,password}',
                (settings #> '{automatic_leave,max_duration_ms}')::bigint, (settings -> 'max_retries')::integer
           FROM scheduler.bots WHERE id = $1",
    )
    .bind(id_of(&bot).uuid())
    .fetch_one(&house.sql)
    .await
    .expect("a row");
    assert_eq!(kept, (crate::house::URL.to_owned(), "other".to_owned(), 5, 3));

    // Moved to now it goes at once, with all that was edited.
    let due = house.start_at(&bot, Duration::ZERO).await.expect("due");
    assert_eq!((due.state().word(), due.sequence), ("QUEUED", 3));
    let wish = &house.heard.until::<Enqueue>(id_of(&bot).uuid(), 1).await[0];
    assert_eq!((wish.priority, wish.platforms.len()), (300, 1));
    house.until_sequence(&bot, 3).await;
}

/// Without an order the queue would wait for a platform that nobody has named.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bot_without_platforms_that_is_moved_to_now_gets_the_order_that_holds() {
    let house = House::new().await;
    let bot = house.create_later(HOUR).await;
    let due = house.start_at(&bot, Duration::ZERO).await.expect("due");
    assert_eq!(
        (due.state().word(), due.platforms.as_slice()),
        ("QUEUED", ["one".to_owned(), "two".to_owned()].as_slice())
    );
    assert_eq!(asked(&due).platforms, [""; 0], "it has asked for none");
    let wish = &house.heard.until::<Enqueue>(id_of(&bot).uuid(), 1).await[0];
    assert_eq!(wish.platforms.len(), 2);
    assert_eq!(house.get(&bot).await.platforms, due.platforms);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn used_settings_cannot_be_edited() {
    let house = House::new().await;
    let (bot, _) = house.at(BotState::InCall).await;
    let status = house.start_at(&bot, HOUR).await.expect_err("it is under way");
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().starts_with("the bot is IN_CALL"), "{status:?}");
    let ending = house.end_at(&bot, HOUR).await.expect("its end may change");
    assert!(asked(&ending).end_time.is_some());
    let status = house.try_update(
        &bot,
        &["end_time"],
        BotSettings { end_time: Some(proto_timestamp(house.now() - HOUR)), ..BotSettings::default() },
    );
    let status = status.await.expect_err("it has been");
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().starts_with("settings.end_time: "), "{status:?}");
    let metadata = BotSettings { metadata: r#"{"b":2}"#.to_owned(), ..BotSettings::default() };
    let noted = house.try_update(&bot, &["metadata"], metadata).await.expect("nobody else reads it");
    assert_eq!(asked(&noted).metadata, r#"{"b":2}"#);
    house.cancel(&bot).await;
    let status = house.end_at(&bot, 2 * HOUR).await.expect_err("it is over");
    assert!(status.message().starts_with("the bot is CANCELLED"), "{status:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_that_cannot_be_is_refused_by_name() {
    let house = House::new().await;
    let bot = house.create_later(HOUR).await;
    let nowhere = Some(Meeting { provider: "web".to_owned(), ..Meeting::default() });
    for (field, path, new) in [
        ("settings.meeting.url:", "meeting", BotSettings { meeting: nowhere, ..BotSettings::default() }),
        (
            "settings.platforms[0]:",
            "platforms",
            BotSettings { platforms: vec!["three".to_owned()], ..BotSettings::default() },
        ),
        ("settings.priority:", "priority", BotSettings { priority: Some(99), ..BotSettings::default() }),
        ("settings.start_time:", "start_time", BotSettings::default()),
        (
            "settings.display_name:",
            "display_name",
            BotSettings { display_name: "\0".to_owned(), ..BotSettings::default() },
        ),
        ("update_mask:", "colour", BotSettings::default()),
        ("update_mask:", "automatic_leave.never", BotSettings::default()),
        ("update_mask:", "start_time.seconds", BotSettings::default()),
    ] {
        let status = house.try_update(&bot, &[path], new).await.expect_err(field);
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        assert!(status.message().starts_with(field), "{field} {status:?}");
    }
    let deep = format!(r#"{}1{}"#, r#"{"a":"#.repeat(2_500), "}".repeat(2_500));
    for (metadata, problem) in [
        (deep.as_str(), "settings.metadata: must not be nested deeper than 127 levels"),
        (r#"{"a": 1, "\u0061": 2}"#, "settings.metadata.a: must not be given twice"),
        ("[]", "settings.metadata: must be a JSON object"),
    ] {
        let status = house.patch_metadata(&bot, metadata).await.expect_err(problem);
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        assert!(status.message().starts_with(problem), "{status:?}");
    }
    let many = vec!["image"; 101];
    let status = house.try_update(&bot, &many, BotSettings::default()).await.expect_err("too many");
    assert!(status.message().starts_with("update_mask: must not name more than 100"), "{status:?}");
    let message = UpdateBotRequest { bot_id: bot.id.clone(), ..UpdateBotRequest::default() };
    let request = As { message, caller: house.creation(TenantId::generate(), new_bot(), "").caller };
    let status = house.scheduler.clone().update_bot(request).await.expect_err("another tenant's");
    assert_eq!(status.code(), Code::NotFound);
    assert_eq!(house.get(&bot).await.sequence, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_patches_of_metadata_are_all_kept() {
    let house = House::new().await;
    let (other, _) = house.replica().await;
    let bot =
        house.create(BotSettings { metadata: r#"{"kept": 1.10, "gone": {"a": 1}}"#.to_owned(), ..new_bot() }).await;
    join_all((0..24).map(|n| {
        let patch = if n == 7 { r#"{"gone": null}"#.to_owned() } else { format!(r#"{{"n": {{"{n}": {n}}}}}"#) };
        let mut door = if n % 2 == 0 { house.scheduler.clone() } else { other.clone() };
        let message = UpdateBotRequest {
            bot_id: bot.id.clone(),
            settings: Some(BotSettings { metadata: patch, ..BotSettings::default() }),
            update_mask: Some(prost_types::FieldMask { paths: vec!["metadata".to_owned()] }),
        };
        let request = As { message, caller: house.creation(house.tenant, new_bot(), "").caller };
        async move { door.update_bot(request).await.expect("patched") }
    }))
    .await;
    let seen = house.get(&bot).await;
    let metadata: serde_json::Value = serde_json::from_str(&asked(&seen).metadata).expect("JSON");
    let numbers: serde_json::Map<_, _> = (0..24).filter(|n| *n != 7).map(|n| (n.to_string(), n.into())).collect();
    assert_eq!(metadata, serde_json::json!({"kept": 1.10, "n": numbers}));
    assert!(asked(&seen).metadata.contains("1.10"), "what nobody named keeps its text: {}", asked(&seen).metadata);

    // What changes nothing changes nothing, and what would be too large is refused by name.
    let again = house.patch_metadata(&bot, r#"{"gone": null, "n": {"3": 3}}"#).await.expect("granted");
    assert_eq!(again.sequence, seen.sequence);
    for n in 0..2 {
        let patch = format!(r#"{{"large{n}": "{}"}}"#, "x".repeat(9_000));
        let answer = house.patch_metadata(&bot, &patch).await;
        assert_eq!(answer.is_ok(), n == 0, "two of them are more than 16 KiB");
        if let Err(status) = answer {
            assert_eq!(status.code(), Code::InvalidArgument);
            assert!(status.message().starts_with("settings.metadata: "), "{status:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timeout_of_nothing_is_never() {
    let house = House::new().await;
    let never =
        AutomaticLeave { waiting_room_timeout_ms: Some(0), max_duration_ms: Some(0), ..AutomaticLeave::default() };
    let made = house.create(BotSettings { automatic_leave: Some(never), ..new_bot() }).await;
    let edited = house.create_later(HOUR).await;
    let new = BotSettings { automatic_leave: Some(never), ..BotSettings::default() };
    house.try_update(&edited, &["automatic_leave"], new).await.expect("edited");
    for bot in [made, edited] {
        let kept: (i64, i64) = sqlx::query_as(
            "SELECT (settings #> '{automatic_leave,waiting_room_timeout_ms}')::bigint,
                        (settings #> '{automatic_leave,max_duration_ms}')::bigint FROM scheduler.bots WHERE id = $1",
        )
        .bind(id_of(&bot).uuid())
        .fetch_one(&house.sql)
        .await
        .expect("a row");
        assert_eq!(kept, (86_400_000, 86_400_000));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deployed_early_it_keeps_its_start() {
    let house = House::new().await;
    let bot = house.create_later(HOUR).await;
    let mut scheduler = house.scheduler.clone();
    let deployed = scheduler.deploy_bot(house.request(&bot)).await.expect("on its way").into_inner();
    assert_eq!((deployed.state().word(), &asked(&deployed).start_time), ("QUEUED", &asked(&bot).start_time));
    let again = scheduler.deploy_bot(house.request(&bot)).await.expect("as it is").into_inner();
    assert_eq!(again, deployed);
    let wish = &house.heard.until::<Enqueue>(id_of(&bot).uuid(), 1).await[0];
    let start = timestamp("", asked(&bot).start_time.as_ref().expect("a start")).expect("a time");
    assert!(wish.deadline > start, "it may wait as long as if it had gone in time");
    assert_eq!(
        house.get(&bot).await.timeline.last().map(|line| line.what.clone()).as_deref(),
        Some("deploy_requested")
    );
    house.cancel(&bot).await;
    let status = scheduler.deploy_bot(house.request(&bot)).await.expect_err("it is over");
    assert_eq!(status.code(), Code::FailedPrecondition);
}

/// A row from before starts were bounded. To send such a bot once ended a lane for good, and with it leaving, cancelling and
/// admission for everybody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_at_the_end_of_time_stops_nobody() {
    let house = House::new().await;
    let mut scheduler = house.scheduler.clone();
    for _ in 0..3 {
        let bot = house.create_later(HOUR).await;
        let sql = "UPDATE scheduler.bots SET start_at = '9999-12-30T22:00:00Z' WHERE id = $1";
        sqlx::query(sql).bind(id_of(&bot).uuid()).execute(&house.sql).await.expect("written");
        let deployed = scheduler.deploy_bot(house.request(&bot)).await.expect("on its way").into_inner();
        assert_eq!(deployed.state().word(), "QUEUED");
        house.heard.until::<Enqueue>(id_of(&bot).uuid(), 1).await;
        house.cancel(&bot).await;
    }
    let other = house.create_later(HOUR).await;
    house.cancel(&other).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_replace_a_runner_and_end_a_bot() {
    let house = House::new().await;
    let (bot, _) = house.at(BotState::InCall).await;
    let mut scheduler = house.scheduler.clone();
    for _ in 0..2 {
        let asked = scheduler.restart_bot(house.operator(&bot)).await.expect("asked").into_inner();
        assert_eq!((asked.state().word(), asked.attempt), ("IN_CALL", 1), "until it is proven gone");
    }
    let key = id_of(&bot).uuid();
    assert_eq!(house.heard.until::<Release>(key, 1).await[0].runner, runner_of(&bot, 1));
    house.gone(runner_of(&bot, 1)).await;
    let next = house.get(&bot).await;
    assert_eq!((next.state().word(), next.attempt, next.reason.as_str()), ("QUEUED", 2, "restart_requested"));
    let status = scheduler.restart_bot(house.operator(&bot)).await.expect_err("there is none");
    assert_eq!(status.code(), Code::FailedPrecondition);

    let failed = scheduler.fail_bot(house.operator(&bot)).await.expect("over").into_inner();
    assert_eq!((failed.state().word(), failed.reason.as_str()), ("FATAL", "forced"));
    assert_eq!(scheduler.fail_bot(house.operator(&bot)).await.expect("as it is").into_inner(), failed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bots_due_during_an_outage_start_late_or_are_missed() {
    let house = House::fast().await;
    let (missed, late) = (house.create_later(HOUR).await, house.create_later(HOUR).await);
    // An hour, twenty times as fast, is three minutes.
    for (bot, seconds) in [(&missed, 181.0), (&late, 60.0)] {
        sqlx::query(
            "UPDATE scheduler.bots SET start_at = created_at - make_interval(secs => $2), wake_at = created_at
              WHERE id = $1",
        )
        .bind(id_of(bot).uuid())
        .bind(seconds)
        .execute(&house.sql)
        .await
        .expect("moved");
    }
    let seen = house.until_state(&missed, BotState::Fatal).await;
    assert_eq!(seen.reason, "missed_start");
    house.until_state(&late, BotState::Queued).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_queue_hears_of_an_end_that_is_moved() {
    let house = House::new().await;
    let (bot, _) = house.at(BotState::Queued).await;
    let first = house.heard.until::<Enqueue>(id_of(&bot).uuid(), 1).await[0].clone();
    for (hours, times) in [(1, 2), (2, 3)] {
        let edited = house.end_at(&bot, hours * Duration::from_secs(60)).await.expect("edited");
        assert_eq!(edited.state().word(), "QUEUED");
        let heard = house.heard.until::<Enqueue>(id_of(&bot).uuid(), times).await;
        let (newest, end) = (&heard[times - 1], edited.settings.and_then(|settings| settings.end_time));
        let end = timestamp("end_time", &end.expect("an end")).expect("a time");
        assert_eq!((newest.runner, newest.deadline), (first.runner, end.min(first.deadline)));
        assert!(newest.revision > first.revision);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runner_that_joins_after_its_end_hears_so_with_its_next_report() {
    let house = House::new().await;
    let (bot, instance) = house.at(BotState::JoiningCall).await;
    let runner = runner_of(&bot, 1);
    let in_call = |sequence| [(sequence, Report::InCall(InCall {}))];
    house.end_at(&bot, Duration::from_millis(200)).await.expect("edited");
    house.until_state(&bot, BotState::Leaving).await;
    let answer = house.report(runner, instance, in_call(1)).await.expect("taken");
    assert_eq!(answer.desired(), Desired::Leave);
    let leaving = Report::Leaving(Leaving { reason: "leave_requested".to_owned() });
    let answer = house.report(runner, instance, [(2, leaving)]).await.expect("taken");
    assert_eq!(answer.desired(), Desired::Continue, "it knows");
    let (bot, instance) = house.at(BotState::JoiningCall).await;
    let answer = house.report(runner_of(&bot, 1), instance, in_call(1)).await.expect("taken");
    assert_eq!(answer.desired(), Desired::Continue);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bot_that_was_sent_early_may_end_before_the_start_it_was_made_for() {
    let house = House::new().await;
    let bot = house.create_later(3 * HOUR).await;
    let refused = house.end_at(&bot, HOUR).await.expect_err("it would end before its start");
    assert_eq!(refused.code(), Code::InvalidArgument);
    house.scheduler.clone().deploy_bot(house.request(&bot)).await.expect("sent");
    let edited = house.end_at(&bot, HOUR).await.expect("edited");
    assert_eq!(edited.state().word(), "QUEUED");
    assert_eq!(house.end_at(&bot, Duration::ZERO).await.expect_err("it has passed").code(), Code::InvalidArgument);
}
