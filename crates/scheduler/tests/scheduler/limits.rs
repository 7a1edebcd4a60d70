//! What a tenant may have, and words that are taken.

use std::time::Duration;

use futures::future::join_all;
use greenroom_contracts::messages::{BotCreated, Enqueue};
use greenroom_contracts::proto::internal::v1::Caller;
use greenroom_contracts::proto::v1::{
    Bot, BotSettings, CreateBotRequest, DeployBotRequest, ListBotsRequest, UpdateBotRequest,
};
use greenroom_contracts::{proto_timestamp, refusal};
use greenroom_domain::TenantId;
use tonic::{Code, Response, Status};
use tonic_types::StatusExt;

use crate::heard::until;
use crate::house::{As, Client, House, asked, id_of, new_bot, runner_of};

const HOUR: Duration = Duration::from_secs(3600);

impl House {
    fn limited(
        &self,
        daily: Option<u32>,
        concurrent: Option<u32>,
        bot: BotSettings,
        key: &str,
    ) -> As<CreateBotRequest> {
        let mut request = self.creation(self.tenant, bot, key);
        let caller = request.caller.as_mut().expect("a caller");
        (caller.daily_limit, caller.concurrency_limit) = (daily, concurrent);
        request
    }

    fn later(&self) -> BotSettings {
        BotSettings { start_time: Some(proto_timestamp(self.now() + HOUR)), ..new_bot() }
    }

    async fn made(&self) -> i64 {
        let made = sqlx::query_scalar("SELECT made FROM scheduler.usage WHERE tenant_id = $1");
        made.bind(self.tenant.uuid()).fetch_optional(&self.sql).await.expect("asked").unwrap_or(0)
    }
}

async fn create(door: &Client, request: As<CreateBotRequest>) -> Result<Bot, Status> {
    door.clone().create_bot(request).await.map(Response::into_inner)
}

fn word(word: &str) -> BotSettings {
    BotSettings { deduplication_key: word.to_owned(), ..new_bot() }
}

fn part(status: &Status, name: &str) -> String {
    let details = status.get_error_details();
    let info = details.error_info().expect("parts");
    assert_eq!(info.domain, refusal::DOMAIN);
    info.metadata.get(name).cloned().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_word_is_one_living_bots() {
    let house = House::new().await;
    let first = house.create(word("standup")).await;
    assert_eq!(asked(&first).deduplication_key, "standup");
    let status = house.try_create(word("standup"), "k").await.expect_err("it is taken");
    assert_eq!((status.code(), part(&status, "botId")), (Code::AlreadyExists, first.id.clone()));
    assert!(status.message().starts_with("settings.deduplication_key: "), "{status:?}");
    // Another word, and another tenant's.
    house.create(word("retro")).await;
    let theirs = house.creation(TenantId::generate(), word("standup"), "");
    create(&house.scheduler, theirs).await.expect("another tenant's");
    // Over, it is free again; what was refused has used no key.
    house.cancel(&first).await;
    let second = house.try_create(word("standup"), "k").await.expect("free");
    assert_eq!(house.try_create(word("standup"), "k").await.expect("a repeat").id, second.id);
    // A bot that waits for its time is alive as well.
    house.create(BotSettings { deduplication_key: "later".to_owned(), ..house.later() }).await;
    house.try_create(word("later"), "").await.expect_err("taken");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_many_concurrent_deduplication_keys_wins() {
    let house = House::new().await;
    let (other, _) = house.replica().await;
    let creating = (0..60).map(|n| {
        let door = if n % 2 == 0 { &house.scheduler } else { &other };
        let bot = if n % 3 == 0 { new_bot() } else { word(if n % 3 == 1 { "a" } else { "b" }) };
        create(door, house.creation(house.tenant, bot, &format!("key-{n}")))
    });
    let answers = join_all(creating).await;
    let made = answers.iter().flatten().count();
    assert_eq!(made, 20 + 2, "twenty without a word, and one of each");
    assert!(answers.iter().flatten().filter(|bot| !asked(bot).deduplication_key.is_empty()).count() == 2);
    assert!(
        answers.iter().filter_map(|answer| answer.as_ref().err()).all(|status| status.code() == Code::AlreadyExists)
    );
    let keys: i64 =
        sqlx::query_scalar("SELECT count(*) FROM scheduler.idempotency").fetch_one(&house.sql).await.expect("a row");
    assert_eq!(keys, 22, "who was refused has left nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_two_replicas_exceed_a_limit_together() {
    let house = House::new().await;
    let (other, _) = house.replica().await;
    for (daily, concurrent, made) in [(Some(30), None, 30), (Some(50), Some(7), 37)] {
        // The second time, thirty are under way: they are ended first, and count for their day nevertheless.
        if concurrent.is_some() {
            sqlx::query("UPDATE scheduler.bots SET state = 'CANCELLED'").execute(&house.sql).await.expect("ended");
        }
        let creating = (0..100).map(|n| {
            let door = if n % 2 == 0 { &house.scheduler } else { &other };
            create(door, house.limited(daily, concurrent, new_bot(), &format!("{concurrent:?}-{n}")))
        });
        let answers = join_all(creating).await;
        let refused: Vec<&Status> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
        assert!(refused.iter().all(|status| status.code() == Code::ResourceExhausted), "{refused:?}");
        assert_eq!(house.made().await, made);
    }
    let bots: i64 =
        sqlx::query_scalar("SELECT count(*) FROM scheduler.bots").fetch_one(&house.sql).await.expect("a row");
    assert_eq!(bots, 37);
    until("all are announced", async || (house.heard.all::<BotCreated>().len() >= 37).then_some(())).await;
    assert_eq!(house.heard.all::<BotCreated>().len(), 37, "nobody else was");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_daily_limit_says_when_the_next_day_begins() {
    let house = House::new().await;
    let ask = |key: &str| {
        let mut request = house.limited(Some(2), None, new_bot(), key);
        let caller: &mut Caller = request.caller.as_mut().expect("a caller");
        caller.time_zone = "Pacific/Auckland".to_owned();
        request
    };
    let first = create(&house.scheduler, ask("one")).await.expect("a bot");
    create(&house.scheduler, ask("two")).await.expect("a bot");
    let status = create(&house.scheduler, ask("three")).await.expect_err("one too many");
    assert_eq!(status.code(), Code::ResourceExhausted);
    let parts = ["limit", "value", "used"].map(|name| part(&status, name));
    assert_eq!(parts, ["daily", "2", "2"]);
    let retry_at: greenroom_domain::Timestamp = part(&status, "retryAt").parse().expect("a time");
    let midnight = retry_at.to_zoned(jiff::tz::TimeZone::get("Pacific/Auckland").expect("a zone"));
    assert_eq!((midnight.hour(), midnight.minute(), retry_at > house.now()), (0, 0, true));
    assert!(status.get_error_details().retry_info().is_some());
    // A repeat is answered, and not counted; on the next day there is room again.
    assert_eq!(create(&house.scheduler, ask("one")).await.expect("a repeat").id, first.id);
    assert_eq!(house.made().await, 2);
    sqlx::query("UPDATE scheduler.usage SET day = day - 1").execute(&house.sql).await.expect("a day passes");
    create(&house.scheduler, ask("three")).await.expect("its key was not used");
    assert_eq!(house.made().await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_is_under_way_counts_at_a_time() {
    let house = House::new().await;
    let ask = |bot: BotSettings, key: &str| house.limited(None, Some(1), bot, key);
    create(&house.scheduler, ask(house.later(), "later")).await.expect("it is for later");
    let ends = Some(proto_timestamp(house.now() + HOUR));
    let first = create(&house.scheduler, ask(BotSettings { end_time: ends, ..new_bot() }, "one")).await.expect("a bot");
    let status = create(&house.scheduler, ask(new_bot(), "two")).await.expect_err("one too many");
    assert_eq!(["limit", "value", "used"].map(|name| part(&status, name)), ["concurrency", "1", "1"]);
    assert!(!part(&status, "retryAt").is_empty(), "the first has to be out by then");
    create(&house.scheduler, ask(house.later(), "later-still")).await.expect("it is for later");
    house.assigned(runner_of(&first, 1), "one").await;
    create(&house.scheduler, ask(new_bot(), "two")).await.expect_err("it is being deployed");
    house.cancel(&first).await;
    let second = create(&house.scheduler, ask(new_bot(), "two")).await.expect("there is room");
    assert_ne!(id_of(&second), id_of(&first));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeat_is_answered_when_its_times_have_passed() {
    let house = House::new().await;
    let past = BotSettings { start_time: Some(proto_timestamp(house.now() - HOUR)), ..new_bot() };
    let status = house.try_create(past.clone(), "k").await.expect_err("nobody made it");
    assert!(status.message().starts_with("settings.start_time: "), "{status:?}");
    let bot = house.try_create(house.later(), "l").await.expect("a bot");
    // As if that very request had been made long ago.
    sqlx::query(
        "INSERT INTO scheduler.idempotency (tenant_id, key, request, bot_id, created_at)
         SELECT tenant_id, 'k', $1, bot_id, created_at FROM scheduler.idempotency WHERE key = 'l'",
    )
    .bind(<sha2::Sha256 as sha2::Digest>::digest(prost::Message::encode_to_vec(&past)).to_vec())
    .execute(&house.sql)
    .await
    .expect("a row");
    assert_eq!(house.try_create(past.clone(), "k").await.expect("its bot").id, bot.id);
    let other = BotSettings { display_name: "Ada".to_owned(), ..past };
    house.try_create(other, "k").await.expect_err("another request");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plans_priority_is_the_best_there_is() {
    let house = House::new().await;
    let ask = |priority, operator| {
        let mut request = house.creation(house.tenant, BotSettings { priority: Some(priority), ..new_bot() }, "");
        request.caller.as_mut().expect("a caller").operator = operator;
        request
    };
    assert_eq!(
        create(&house.scheduler, ask(150, false))
            .await
            .expect("after others")
            .settings
            .and_then(|asked| asked.priority),
        Some(150)
    );
    let status = create(&house.scheduler, ask(99, false)).await.expect_err("before others");
    assert!(status.message().starts_with("settings.priority: "), "{status:?}");
    let first = create(&house.scheduler, ask(1, true)).await.expect("an operator's");
    // The best there is may be a plan's.
    let mut best = house.creation(house.tenant, new_bot(), "");
    best.caller.as_mut().expect("a caller").priority = 0;
    let best = create(&house.scheduler, best).await.expect("a bot");
    assert_eq!(asked(&best).priority, Some(0));
    let mut weighty = house.creation(house.tenant, new_bot(), "");
    weighty.caller.as_mut().expect("a caller").weight = 8;
    let second = create(&house.scheduler, weighty).await.expect("a bot");
    let (first, second) = (id_of(&first).uuid(), id_of(&second).uuid());
    let first = house.heard.until::<Enqueue>(first, 1).await[0].clone();
    let second = house.heard.until::<Enqueue>(second, 1).await[0].clone();
    assert_eq!((first.priority, first.weight, second.priority, second.weight), (1, 1, 100, 8));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_is_one_that_the_tenant_may_use() {
    let house = House::new().await;
    let ask = |image: &str, images: &[&str], operator| {
        let bot = BotSettings { image: image.to_owned(), ..house.later() };
        let mut request = house.creation(house.tenant, bot, "");
        let caller = request.caller.as_mut().expect("a caller");
        caller.images = images.iter().map(|image| (*image).to_owned()).collect();
        caller.operator = operator;
        request
    };
    let acme = ["ghcr.io/acme/*", "bot:1"];
    for (image, images, operator, allowed) in [
        ("", &[][..], false, true),
        ("bot:1", &[][..], false, false),
        ("bot:1", &acme[..], false, true),
        ("bot:10", &acme[..], false, false),
        ("ghcr.io/acme/bot@sha256:0f", &acme[..], false, true),
        ("ghcr.io/acme-evil/bot", &acme[..], false, false),
        ("anything", &["*"][..], false, true),
        ("anything", &[][..], true, true),
    ] {
        let answer = create(&house.scheduler, ask(image, images, operator)).await;
        assert_eq!(answer.is_ok(), allowed, "{image} of {images:?}: {answer:?}");
        if let Err(status) = answer {
            assert_eq!(status.code(), Code::InvalidArgument);
            assert!(status.message().starts_with("settings.image: "), "{status:?}");
        }
    }
    // Nor is it set afterwards.
    let bot = house.create(house.later()).await;
    for (image, allowed) in [("elsewhere.example/bot", false), ("registry.example/bot:1", true)] {
        let edit = BotSettings { image: image.to_owned(), ..BotSettings::default() };
        assert_eq!(house.edit(&house.scheduler, &bot, "image", edit, None).await.is_ok(), allowed, "{image}");
    }
}

impl House {
    async fn edit(
        &self,
        door: &Client,
        bot: &Bot,
        path: &str,
        new: BotSettings,
        limit: Option<u32>,
    ) -> Result<Bot, Status> {
        let update_mask = Some(prost_types::FieldMask { paths: vec![path.to_owned()] });
        let message = UpdateBotRequest { bot_id: bot.id.clone(), settings: Some(new), update_mask };
        let request = As { message, caller: self.limited(None, limit, new_bot(), "").caller };
        door.clone().update_bot(request).await.map(Response::into_inner)
    }

    async fn deploy(&self, door: &Client, bot: &Bot, limit: u32) -> Result<Bot, Status> {
        let caller = self.limited(None, Some(limit), new_bot(), "").caller;
        door.clone().deploy_bot(As { caller, ..self.request::<DeployBotRequest>(bot) }).await.map(Response::into_inner)
    }

    fn limit_to(&self, limit: u32) {
        self.accounts.limits.lock().expect("no panic").insert(self.tenant, limit);
    }

    /// How many of the tenant's bots are under way.
    async fn under_way(&self) -> i64 {
        sqlx::query_scalar(
            "SELECT count(*) FROM scheduler.bots
              WHERE tenant_id = $1 AND state NOT IN ('SCHEDULED', 'DONE', 'FATAL', 'CANCELLED')",
        )
        .bind(self.tenant.uuid())
        .fetch_one(&self.sql)
        .await
        .expect("counted")
    }

    /// A bot whose time comes now, which nobody has asked for just now.
    async fn falls_due(&self, bots: &[Bot]) {
        sqlx::query("UPDATE scheduler.bots SET start_at = created_at, wake_at = created_at WHERE id = ANY($1)")
            .bind(bots.iter().map(|bot| id_of(bot).uuid()).collect::<Vec<_>>())
            .execute(&self.sql)
            .await
            .expect("due");
    }

    /// Waits until a bot is due and waits for room.
    async fn until_waiting(&self, bot: &Bot) -> Bot {
        until("it waits for room", async || {
            let bot = self.get(bot).await;
            (bot.state().word() == "SCHEDULED" && bot.reason == "concurrency_limit").then_some(bot)
        })
        .await
    }
}

/// Every way by which a bot comes to be under way, all at once and at two replicas.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_than_the_limit_are_under_way_whatever_sends_them() {
    const LIMIT: u32 = 3;
    let house = House::new().await;
    let (other, _) = house.replica().await;
    house.limit_to(LIMIT);
    let later: Vec<Bot> =
        join_all((0..12).map(|_| create(&house.scheduler, house.limited(None, Some(LIMIT), house.later(), ""))))
            .await
            .into_iter()
            .map(|made| made.expect("it is for later"))
            .collect();
    let (deployed, rest) = later.split_at(4);
    let (moved, due) = rest.split_at(4);
    let doors = [&house.scheduler, &other];
    let now = house.now();
    let mut most = 0;
    {
        let sending = async {
            let deploys = join_all((0..4).map(|n| house.deploy(doors[n % 2], &deployed[n], LIMIT)));
            let edits = join_all((0..4).map(|n| {
                let new = BotSettings { start_time: Some(proto_timestamp(now)), ..BotSettings::default() };
                house.edit(doors[n % 2], &moved[n], "start_time", new, Some(LIMIT))
            }));
            let creates =
                join_all((0..4).map(|n| create(doors[n % 2], house.limited(None, Some(LIMIT), new_bot(), ""))));
            let (deploys, edits, creates, ()) = futures::join!(deploys, edits, creates, house.falls_due(due));
            for edit in edits {
                edit.expect("it goes, or waits for room");
            }
            for status in deploys.into_iter().chain(creates).filter_map(Result::err) {
                assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
                assert_eq!(["limit", "value"].map(|name| part(&status, name)), ["concurrency", "3"]);
            }
            for bot in due {
                until("it goes, or waits for room", async || {
                    let bot = house.get(bot).await;
                    (bot.state().word() != "SCHEDULED" || bot.reason == "concurrency_limit").then_some(())
                })
                .await;
            }
        };
        tokio::pin!(sending);
        loop {
            tokio::select! {
                () = &mut sending => break,
                under_way = house.under_way() => most = most.max(under_way),
            }
        }
    }
    assert_eq!(
        (house.under_way().await, most.max(3)),
        (3, 3),
        "never more than three, and three where more are wanted"
    );

    // One after the other is over, and the next one goes: all that were due or moved, and nobody else.
    let mut gone = 0;
    loop {
        let list = As { caller: Some(house.caller()), message: ListBotsRequest::default() };
        let bots = house.scheduler.clone().list_bots(list).await.expect("a page").into_inner().bots;
        let waiting = bots.iter().filter(|bot| bot.reason == "concurrency_limit").count();
        let under_way: Vec<&Bot> = bots.iter().filter(|bot| bot.state().word() == "QUEUED").collect();
        assert!(under_way.len() <= 3, "{under_way:?}");
        if waiting == 0 {
            break;
        }
        house.cancel(under_way.first().expect("three are under way")).await;
        gone += 1;
        until("the next one goes", async || (house.under_way().await == 3).then_some(())).await;
    }
    assert!(gone >= 5, "eight of twelve wait for three places or have one: {gone}");
    let deploy = house.deploy(&house.scheduler, &deployed[0], LIMIT).await;
    assert!(deploy.is_err() || house.get(&deployed[0]).await.state().word() != "SCHEDULED");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bots_waiting_for_room_precede_new_ones_and_show_the_reason() {
    let house = House::new().await;
    house.limit_to(1);
    let ask = |bot: BotSettings| create(&house.scheduler, house.limited(None, Some(1), bot, ""));
    let first = ask(new_bot()).await.expect("a bot");
    let second = ask(house.later()).await.expect("it is for later");
    house.falls_due(std::slice::from_ref(&second)).await;
    let waiting = house.until_waiting(&second).await;
    assert!(waiting.advice.contains("limit"), "{waiting:?}");
    let line = waiting.timeline.last().expect("a line");
    assert_eq!((line.what.as_str(), line.reason.as_str()), ("limit_reached", "concurrency_limit"));
    let status = house.deploy(&house.scheduler, &second, 1).await.expect_err("there is no room");
    assert_eq!((status.code(), part(&status, "limit")), (Code::ResourceExhausted, "concurrency".to_owned()));
    house.cancel(&first).await;
    house.until_state(&second, greenroom_domain::bot::BotState::Queued).await;
    let status = ask(new_bot()).await.expect_err("the room is taken");
    assert_eq!(status.code(), Code::ResourceExhausted);
    // One that waits no longer takes no room.
    let third = ask(house.later()).await.expect("it is for later");
    house.falls_due(std::slice::from_ref(&third)).await;
    house.until_waiting(&third).await;
    house.cancel(&third).await;
    house.cancel(&second).await;
    ask(new_bot()).await.expect("there is room");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bot_without_room_ends_as_concurrency_limit() {
    let house = House::fast().await;
    house.limit_to(1);
    let ask = |bot: BotSettings| create(&house.scheduler, house.limited(None, Some(1), bot, ""));
    let first = ask(new_bot()).await.expect("a bot");
    let second = ask(BotSettings { queue_timeout_ms: Some(700), ..house.later() }).await.expect("it is for later");
    house.falls_due(std::slice::from_ref(&second)).await;
    let over = house.until_state(&second, greenroom_domain::bot::BotState::Fatal).await;
    assert_eq!(over.reason, "concurrency_limit");
    assert_eq!(house.get(&first).await.state().word(), "QUEUED");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_raised_limit_lets_go_who_waits_and_the_last_one_holds_while_nobody_says() {
    let house = House::fast().await;
    house.limit_to(1);
    create(&house.scheduler, house.limited(None, Some(1), new_bot(), "")).await.expect("a bot");
    let second = house.create(house.later()).await;
    // What was said last holds while the accounts service is silent.
    house.accounts.silent.store(true, std::sync::atomic::Ordering::Relaxed);
    house.falls_due(std::slice::from_ref(&second)).await;
    house.until_waiting(&second).await;
    house.limit_to(2);
    house.accounts.silent.store(false, std::sync::atomic::Ordering::Relaxed);
    house.until_state(&second, greenroom_domain::bot::BotState::Queued).await;
}
