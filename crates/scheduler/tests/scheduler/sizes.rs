//! How large runners are, who says so, and what they really took.

use std::time::Duration;

use futures::future::join_all;
use greenroom_contracts::messages::{Enqueue, RunnerGone};
use greenroom_contracts::proto::internal::v1::Caller;
use greenroom_contracts::proto::v1::{
    Bot, BotResources, BotSettings, BotUsage, GetSizesRequest, Meeting, Resources as AskedResources, UpdateBotRequest,
};
use greenroom_domain::bot::BotState;
use greenroom_domain::{Exit, Resources, RunnerId, Usage};
use tonic::{Code, Response, Status};
use uuid::Uuid;

use crate::heard::until;
use crate::house::{As, Client, House, asked, id_of, new_bot, platform, runner_of};

const HOUR: Duration = Duration::from_secs(3600);
const MIB: u64 = 1 << 20;

/// cpu: asked for, limit; memory: asked for, limit.
fn of(bot: &Bot) -> [u32; 4] {
    let BotResources { cpu_millis, memory_mb, cpu_limit_millis, memory_limit_mb } = bot.resources.expect("a size");
    [cpu_millis, cpu_limit_millis, memory_mb, memory_limit_mb]
}

fn said(resources: &Resources) -> [u32; 4] {
    let mib = |bytes: u64| u32::try_from(bytes / MIB).expect("fits");
    let (memory, memory_limit) = (mib(resources.memory_bytes), mib(resources.memory_limit()));
    [resources.cpu_millis, resources.cpu_limit(), memory, memory_limit]
}

fn in_teams() -> BotSettings {
    let mut bot = new_bot();
    bot.meeting.as_mut().expect("one").provider = "microsoft-teams".to_owned();
    bot
}

fn memory(memory_mb: u32) -> Option<AskedResources> {
    Some(AskedResources { memory_mb: Some(memory_mb), ..AskedResources::default() })
}

impl House {
    async fn create_for(
        &self,
        door: &Client,
        own: (Option<u32>, Option<u32>),
        bot: BotSettings,
    ) -> Result<Bot, Status> {
        let mut request = self.creation(self.tenant, bot, "");
        let caller = request.caller.as_mut().expect("a caller");
        (caller.cpu_millis, caller.memory_mb) = own;
        door.clone().create_bot(request).await.map(Response::into_inner)
    }

    async fn resize(&self, bot: &Bot, paths: &[&str], new: BotSettings) -> Result<Bot, Status> {
        let paths = paths.iter().map(|path| (*path).to_owned()).collect();
        let update_mask = Some(prost_types::FieldMask { paths });
        let caller = Caller { tenant_id: self.tenant.to_string(), ..Caller::default() };
        let message = UpdateBotRequest { bot_id: bot.id.clone(), settings: Some(new), update_mask };
        self.scheduler.clone().update_bot(As { caller: Some(caller), message }).await.map(Response::into_inner)
    }

    async fn gone_after(&self, runner: RunnerId, exit: Option<Exit>, usage: Option<Usage>) {
        self.say(RunnerGone { runner, platform: platform("one"), exit, observed: true, never_started: false, usage })
            .await;
    }

    /// So many runners of a provider that took this, so long ago.
    async fn measured(&self, provider: &str, count: i32, cpu_millis: i64, peak_mb: i64, ago: Duration) {
        sqlx::query(
            "INSERT INTO scheduler.measurements (bot_id, attempt, provider, at, cpu_ms, peak_memory_bytes, lasted_ms)
             SELECT $1, n, $2, $3::timestamptz, $4 * 600, $5 * 1048576, 600000 FROM generate_series(1, $6) n",
        )
        .bind(Uuid::now_v7())
        .bind(provider)
        .bind((self.now() - ago).to_string())
        .bind(cpu_millis)
        .bind(peak_mb)
        .bind(count)
        .execute(&self.sql)
        .await
        .expect("written");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chosen_when_it_is_made_and_the_same_wherever_it_is_shown() {
    let house = House::new().await;
    let none = (None, None);
    let asked =
        |cpu_millis, memory_limit_mb| Some(AskedResources { cpu_millis, memory_limit_mb, ..AskedResources::default() });
    for (what, own, bot, expected) in [
        ("its provider's", none, new_bot(), [500, 1000, 1024, 1536]),
        ("Teams'", none, in_teams(), [700, 1400, 1536, 2304]),
        ("its tenant's", (Some(800), Some(3000)), in_teams(), [800, 1600, 3000, 4500]),
        ("its tenant's, held to the bounds", (Some(9000), Some(9)), new_bot(), [4000, 4000, 256, 384]),
        (
            "its own",
            (Some(800), None),
            BotSettings { resources: asked(Some(900), Some(5000)), ..new_bot() },
            [900, 1800, 1024, 5000],
        ),
    ] {
        let made = house.create_for(&house.scheduler, own, bot).await.expect(what);
        assert_eq!(of(&made), expected, "{what}");
        assert_eq!(of(&house.get(&made).await), expected, "{what}");
        let wish = &house.heard.until::<Enqueue>(id_of(&made).uuid(), 1).await[0];
        assert_eq!(said(&wish.spec.resources), expected, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sizes_out_of_bounds_are_refused_with_the_bound() {
    let house = House::new().await;
    let nothing = AskedResources::default();
    for (resources, words) in [
        (AskedResources { cpu_millis: Some(99), ..nothing }, "settings.resources.cpu_millis: must be at least 100"),
        (
            AskedResources { memory_mb: Some(8193), ..nothing },
            "settings.resources.memory_mb: must not be more than 8192",
        ),
        (
            AskedResources { cpu_limit_millis: Some(100), ..nothing },
            "settings.resources.cpu_limit_millis: must be at least 500",
        ),
        (AskedResources { memory_limit_mb: Some(0), ..nothing }, "settings.resources.memory_limit_mb: must not be 0"),
    ] {
        let bot = BotSettings { resources: Some(resources), ..new_bot() };
        let status = house.try_create(bot, "").await.expect_err(words);
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().starts_with(words), "{status:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scheduled_bot_is_resized() {
    let house = House::new().await;
    let bot = house.create_later(HOUR).await;
    let resized = |paths: &'static [&'static str], resources| {
        let (house, bot) = (&house, &bot);
        async move { house.resize(bot, paths, BotSettings { resources, ..BotSettings::default() }).await }
    };
    let edited = resized(&["resources.memory_mb"], memory(2048)).await.expect("edited");
    assert_eq!(of(&edited), [500, 1000, 2048, 3072], "its limit goes with it");
    assert_eq!(house.get(&bot).await.timeline.last().expect("a line").detail, "resources");
    let again = resized(&["resources.memory_mb"], memory(2048)).await.expect("the same");
    assert_eq!((of(&again), again.sequence), (of(&edited), edited.sequence));
    let limit = Some(AskedResources { memory_limit_mb: Some(2048), ..AskedResources::default() });
    let edited = resized(&["resources.memory_limit_mb"], limit).await.expect("edited");
    assert_eq!(of(&edited), [500, 1000, 2048, 2048], "a limit alone");
    let status = resized(&["resources.memory_mb"], memory(9000)).await.expect_err("too much");
    assert!(
        status.message().starts_with("settings.resources.memory_limit_mb: must not be below"),
        "its own limit: {status:?}"
    );
    let status = resized(&["resources"], memory(9000)).await.expect_err("too much");
    assert!(status.message().starts_with("settings.resources.memory_mb: must not be more than 8192"), "{status:?}");
    let status = resized(&["resources.colour"], None).await.expect_err("unknown");
    assert!(status.message().starts_with("update_mask: "), "{status:?}");
    // Its own stays its own, wherever it goes; the rest is anew.
    let teams = Meeting { provider: "microsoft-teams".to_owned(), ..Meeting::default() };
    let to_teams = BotSettings { meeting: Some(teams), ..BotSettings::default() };
    let moved = house.resize(&bot, &["meeting.provider"], to_teams.clone()).await.expect("moved");
    assert_eq!(of(&moved), [700, 1400, 2048, 2048]);
    let default = resized(&["resources"], None).await.expect("edited");
    for nothing in [None, Some(AskedResources::default())] {
        let same = resized(&["resources"], nothing).await.expect("the same");
        assert_eq!((of(&same), same.sequence), (of(&default), default.sequence), "nothing is asked for still");
    }
    assert_eq!(of(&default), [700, 1400, 1536, 2304]);
    // Whoever has chosen nothing gets what others get there.
    let other = house.create_later(HOUR).await;
    let moved = house.resize(&other, &["meeting.provider"], to_teams).await.expect("moved");
    assert_eq!(
        (of(&moved), asked(&moved).meeting.as_ref().map(|meeting| meeting.provider.as_str())),
        ([700, 1400, 1536, 2304], Some("microsoft-teams"))
    );
    let kept: (i32, i32, i32, i32) = sqlx::query_as(
        "SELECT cpu_millis, cpu_limit_millis, memory_mb, memory_limit_mb FROM scheduler.bots WHERE id = $1",
    )
    .bind(id_of(&other).uuid())
    .fetch_one(&house.sql)
    .await
    .expect("a row");
    assert_eq!(kept, (700, 1400, 1536, 2304));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_edits_of_processor_and_memory_are_both_kept() {
    let house = House::new().await;
    for round in 0..20 {
        let bot = house.create_later(HOUR).await;
        let cpu = AskedResources { cpu_millis: Some(600 + round), ..AskedResources::default() };
        let memory = AskedResources { memory_mb: Some(1100 + round), ..AskedResources::default() };
        let edits = [("resources.cpu_millis", cpu), ("resources.memory_mb", memory)].map(|(path, resources)| {
            let (house, bot) = (&house, &bot);
            async move {
                let new = BotSettings { resources: Some(resources), ..BotSettings::default() };
                house.resize(bot, &[path], new).await.expect("edited");
            }
        });
        join_all(edits).await;
        let [cpu, _, memory, _] = of(&house.get(&bot).await);
        assert_eq!([cpu, memory], [600 + round, 1100 + round], "round {round}: both were answered with 200");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_out_of_memory_the_next_attempt_gets_half_as_much_again() {
    let house = House::new().await;
    let (bot, _) = house.at(BotState::InCall).await;
    let oom = Some(Exit::with_signal(9).out_of_memory());
    for _ in 0..2 {
        // Said twice, it grows once.
        house.gone_after(runner_of(&bot, 1), oom, None).await;
    }
    let next = house.get(&bot).await;
    assert_eq!((next.state().word(), next.attempt, next.reason.as_str()), ("QUEUED", 2, "out_of_memory"));
    assert_eq!(of(&next), [500, 1000, 1536, 2304]);
    let line = next.timeline.iter().find(|line| line.what == "gone").expect("a line");
    assert_eq!(line.detail, "out of memory; the next attempt gets 1536 MiB of memory, 2304 at most");
    let key = id_of(&bot).uuid();
    let wishes = house.heard.until::<Enqueue>(key, 2).await;
    assert_eq!(wishes.iter().map(|wish| said(&wish.spec.resources)[2]).collect::<Vec<_>>(), [1024, 1536]);
    // For another reason it stays as it is.
    house.assigned(runner_of(&bot, 2), "one").await;
    house.started(runner_of(&bot, 2)).await;
    house.gone_after(runner_of(&bot, 2), None, None).await;
    let wishes = house.heard.until::<Enqueue>(key, 3).await;
    assert_eq!(said(&wishes[2].spec.resources), [500, 1000, 1536, 2304]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn usage_is_stored_with_the_attempt() {
    let house = House::new().await;
    let (bot, _) = house.at(BotState::InCall).await;
    let (one, two) = (runner_of(&bot, 1), runner_of(&bot, 2));
    let usage = |cpu_ms| Usage {
        cpu_ms,
        peak_memory_bytes: 700 * MIB,
        lasted_ms: 60_000,
        received_bytes: Some(9),
        sent_bytes: None,
    };
    house.gone_after(one, None, None).await;
    assert_eq!(house.get(&bot).await.attempts[0].usage, None, "nobody knows");
    // Late, of an attempt that is none of the current ones: it was measured nevertheless, and once.
    for cpu_ms in [30_000, 5] {
        house.gone_after(one, None, Some(usage(cpu_ms))).await;
    }
    house.assigned(two, "two").await;
    let seen = house.get(&bot).await;
    assert_eq!(seen.attempts.iter().map(|attempt| attempt.attempt).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(seen.attempts.iter().map(|attempt| attempt.platform.as_str()).collect::<Vec<_>>(), ["one", "two"]);
    let taken = BotUsage {
        cpu_ms: 30_000,
        peak_memory_bytes: 700 * MIB,
        lasted_ms: 60_000,
        received_bytes: Some(9),
        sent_bytes: None,
    };
    assert_eq!(seen.attempts[0].usage, Some(taken));
    assert!(seen.attempts[0].gone_at.is_some() && seen.attempts[0].admitted_at.is_some(), "{seen:?}");
    assert_eq!((seen.attempts[1].usage, seen.attempts[1].gone_at), (None, None));
    // Over, with its last word.
    house.cancel(&bot).await;
    house.gone_after(two, None, Some(usage(7))).await;
    assert_eq!(house.get(&bot).await.attempts[1].usage.expect("measured").cpu_ms, 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recommendations_apply_with_right_sizing() {
    let house = House::new().await;
    let day = 24 * HOUR;
    house.measured("microsoft-teams", 25, 800, 1400, day).await;
    house.measured("zoom", 19, 800, 1400, day).await;
    // Too old, and too short.
    house.measured("web", 30, 3000, 6000, 8 * day).await;
    sqlx::query(
        "INSERT INTO scheduler.measurements (bot_id, attempt, provider, at, cpu_ms, peak_memory_bytes, lasted_ms)
         SELECT $1, n, 'web', $2::timestamptz, 1, 1, 59999 FROM generate_series(1, 30) n",
    )
    .bind(Uuid::now_v7())
    .bind(house.now().to_string())
    .execute(&house.sql)
    .await
    .expect("written");
    let sizes = house.sizes.clone().get_sizes(GetSizesRequest {}).await.expect("answered").into_inner();
    assert_eq!((sizes.right_sizing, sizes.sample_needed), (false, 20));
    let seen: Vec<_> = sizes
        .providers
        .iter()
        .map(|one| {
            let recommended = one.recommended.map(|size| (size.cpu_millis, size.memory_mb));
            (one.provider.as_str(), one.sample, recommended, one.advice.join(" "))
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("web", 0, None, String::new()),
            ("google-meet", 0, None, String::new()),
            (
                "microsoft-teams",
                25,
                Some((1000, 1728)),
                "MICROSOFT_TEAMS_CPU_MILLIS=1000 MICROSOFT_TEAMS_MEMORY_MB=1728".to_owned()
            ),
            ("zoom", 19, None, String::new()),
        ]
    );
    let teams = &sizes.providers[2];
    assert_eq!((teams.cpu_millis_p95, teams.peak_memory_bytes_p99), (Some(800), Some(1400 * MIB)));
    assert_eq!(teams.set.expect("a size").memory_limit_mb, 2304);

    // Shown, and not used.
    assert_eq!(of(&house.create(in_teams()).await), [700, 1400, 1536, 2304]);
    let (right, _) = house.replica_with(&[("RUNNER_RIGHT_SIZING", "true")]).await;
    let bot = until("it knows what is recommended", async || {
        let bot = house.create_for(&right, (None, None), in_teams()).await.expect("a bot");
        (of(&bot)[0] == 1000).then_some(bot)
    })
    .await;
    assert_eq!(of(&bot), [1000, 2000, 1728, 2592]);
    let own = house.create_for(&right, (Some(300), None), in_teams()).await.expect("a bot");
    assert_eq!(of(&own), [300, 600, 1728, 2592], "its tenant's comes first");
    assert_eq!(of(&house.create_for(&right, (None, None), new_bot()).await.expect("a bot"))[0], 500);
}
