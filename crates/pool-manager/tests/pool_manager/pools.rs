//! Standing slots: prepared before anybody wants one, given, renewed, and as many as are wanted. The deployer of these tests
//! is a voice that says what the test wants it to say.

use std::collections::BTreeSet;

use greenroom_contracts::messages::{
    CapacityRaised, Describe, Prepare, Retire, SlotAssigned, SlotPrepared, SlotRetired, Start,
};
use greenroom_contracts::proto::internal::v1::ForecastStep;
use greenroom_contracts::proto::internal::v1::answer::Outcome;
use greenroom_contracts::proto::v1::{GetPlatformRequest, ListSlotsRequest, PlatformStats, StandingPool};
use greenroom_domain::{RunnerId, SlotId, Standing};

use crate::heard::until;
use crate::house::{House, PLATFORM, ask_for, outcome, platform, runner};
use crate::operators::{CLEARED, SET};

/// One pool alone, and nothing is kept ready but what a test says.
pub const QUIET: [(&str, &str); 8] = [
    ("SIMULATED_POOLED", "true"),
    ("POOL_MIN_IDLE", "0"),
    ("POOL_IDLE_TARGET", "0"),
    ("POOL_PREWARM_COUNT", "0"),
    ("WEB_POOL_ENABLED", "false"),
    ("GOOGLE_MEET_POOL_ENABLED", "true"),
    ("MICROSOFT_TEAMS_POOL_ENABLED", "false"),
    ("POOL_SWEEP_MS", "2000"),
];

pub const MEET: &str = "google-meet";

/// A house of standing slots.
pub async fn pooled(settings: &[(&'static str, &'static str)]) -> House {
    let others = QUIET.into_iter().filter(|(name, _)| settings.iter().all(|(said, _)| said != name));
    House::new(&others.chain(settings.iter().copied()).collect::<Vec<_>>()).await
}

impl House {
    /// Waits until so many were commanded to be prepared, repeats left aside: in the order of the commands.
    pub async fn preparations(&self, count: usize) -> Vec<Prepare> {
        until("slots are to be prepared", async || {
            let mut seen = BTreeSet::new();
            let all = self.heard.all::<Prepare>().into_iter().map(|envelope| envelope.data);
            let all: Vec<Prepare> = all.filter(|prepare| seen.insert(prepare.standing)).collect();
            (all.len() >= count).then_some(all)
        })
        .await
    }

    pub async fn prepared(&self, standing: Standing) {
        let said = self.say(SlotPrepared { standing, platform: platform(PLATFORM) }).await;
        self.handled("pool-manager-slots", said).await;
    }

    pub async fn retired(&self, standing: Standing) {
        let said = self.say(SlotRetired { standing, platform: platform(PLATFORM) }).await;
        self.handled("pool-manager-slots", said).await;
    }

    /// Has so many slots ready.
    pub async fn ready(&self, count: usize) -> Vec<Standing> {
        let standing: Vec<_> = self.preparations(count).await.into_iter().map(|prepare| prepare.standing).collect();
        for one in &standing {
            self.prepared(*one).await;
        }
        standing
    }

    pub async fn pool(&self, provider: &str) -> StandingPool {
        let pools = self.pooled_stats().await.pools;
        pools.into_iter().find(|pool| pool.provider == provider).expect("a pool")
    }

    pub async fn pooled_stats(&self) -> PlatformStats {
        let request = GetPlatformRequest { platform: PLATFORM.to_owned() };
        self.operators.clone().get_platform(request).await.expect("stats").into_inner()
    }

    pub async fn until_pool(&self, what: &str, mut is_so: impl FnMut(&StandingPool) -> bool) -> StandingPool {
        until(what, async || Some(self.pool(MEET).await).filter(&mut is_so)).await
    }

    /// (state, generation, uses) of a standing slot; none: it is forgotten.
    pub async fn standing(&self, slot: SlotId) -> Option<(String, i32, i32)> {
        sqlx::query_as("SELECT state, generation, uses FROM pool.slots WHERE id = $1")
            .bind(slot.uuid())
            .fetch_optional(&self.sql)
            .await
            .expect("a row")
    }

    pub async fn until_standing(&self, slot: SlotId, state: &str) {
        until(state, async || self.standing(slot).await.filter(|(is, ..)| is == state).map(|_| ())).await;
    }

    async fn meet(&self) -> (RunnerId, Outcome) {
        let one = runner();
        (one, outcome(&self.pool, ask_for(one, MEET, &[PLATFORM])).await)
    }

    async fn start_of(&self, runner: RunnerId) -> Start {
        self.heard.until::<Start>(runner.id, 1).await.remove(0)
    }

    fn raised_for(&self, provider: &str) -> usize {
        let all = self.heard.all::<CapacityRaised>();
        all.iter().filter(|said| said.data.provider.as_ref().is_some_and(|of| of.as_str() == provider)).count()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_are_warm_before_anybody_wants_one_and_given_to_their_own() {
    let house =
        pooled(&[("GOOGLE_MEET_POOL_PREWARM", "2"), ("WEB_POOL_ENABLED", "true"), ("WEB_POOL_PREWARM", "1")]).await;
    let prepares = house.preparations(3).await;
    let names: BTreeSet<&str> = prepares.iter().map(|prepare| prepare.name.as_str()).collect();
    assert_eq!(names, BTreeSet::from(["pool-google-meet-001", "pool-google-meet-002", "pool-web-001"]));
    let first = &prepares.iter().find(|prepare| prepare.name == "pool-google-meet-001").expect("one").clone();
    assert_eq!((first.standing.generation, first.provider.as_str()), (1, MEET));
    assert!(first.prepare_by > house.now());

    // While they are prepared people see them deploying, and nobody is given one.
    let pool = house.pool(MEET).await;
    assert_eq!((pool.target, pool.ready, pool.preparing, pool.limit), (2, 0, 2, 100), "{}", pool.why);
    assert_eq!(house.platform(PLATFORM).await.deploying, 3);
    assert_eq!(house.meet().await.1, Outcome::ProviderFull);
    house.prepared(first.standing).await;
    house.until_pool("one is ready", |pool| pool.ready == 1).await;
    // A provider gets no slot of another one's, however idle.
    assert_eq!(house.ask(runner()).await, Outcome::ProviderFull);
    let (runner, got) = house.meet().await;
    assert_eq!(got, Outcome::Assigned);
    let start = house.start_of(runner).await;
    assert_eq!((start.standing, start.slot.as_str()), (Some(first.standing), "pool-google-meet-001"));
    let assigned = house.heard.until::<SlotAssigned>(runner.id, 1).await;
    assert_eq!(assigned[0].slot, "pool-google-meet-001");
    assert_eq!(house.meet().await.1, Outcome::ProviderFull, "the other one is not ready");

    // It is described while somebody has it, and when nobody has.
    house.started(runner).await;
    let shows = async |text: String| {
        until(&text, async || {
            let said = house.heard.about::<Describe>(first.standing.slot.uuid());
            said.last().is_some_and(|said| said.description.starts_with(&text)).then_some(())
        })
        .await;
    };
    shows(format!("[BUSY] Bot {}", runner.id)).await;
    house.gone(runner, true).await;
    shows("[IDLE] google-meet, 1 use".to_owned()).await;
    assert_eq!(house.standing(first.standing.slot).await, Some(("idle".to_owned(), 1, 1)));
    house.slots_are_sound_but_waiting().await;
}

impl House {
    /// I3, on a pooled platform.
    async fn slots_are_sound_but_waiting(&self) {
        for (number, state, owners) in self.slots().await {
            let taken = ["deploying", "busy", "releasing"].contains(&state.as_str());
            assert_eq!(owners, i64::from(taken), "slot {number} is {state}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_requests_grow_the_pool_and_are_woken() {
    let house = pooled(&[("GOOGLE_MEET_POOL_SIZE", "3")]).await;
    let waiting: Vec<RunnerId> = (0..5).map(|_| runner()).collect();
    for runner in &waiting {
        assert_eq!(outcome(&house.pool, ask_for(*runner, MEET, &[PLATFORM])).await, Outcome::ProviderFull);
    }
    let prepares = house.preparations(3).await;
    // As many as there may be, and not one more.
    let pool = house.until_pool("three are made", |pool| pool.target == 3 && pool.why.contains("wait")).await;
    assert_eq!(pool.preparing, 3, "{}", pool.why);
    assert!(pool.changes.iter().any(|change| change.why.contains("wait")), "{:?}", pool.changes);
    let raised = house.raised_for(MEET);
    house.prepared(prepares[0].standing).await;
    until("the queue is woken", async || (house.raised_for(MEET) > raised).then_some(())).await;
    assert_eq!(outcome(&house.pool, ask_for(waiting[0], MEET, &[PLATFORM])).await, Outcome::Assigned);
    // Asking twice for one is the same one.
    assert_eq!(outcome(&house.pool, ask_for(waiting[0], MEET, &[PLATFORM])).await, Outcome::Assigned);
    for prepare in &prepares[1..] {
        house.prepared(prepare.standing).await;
    }
    for runner in &waiting[1..3] {
        assert_eq!(outcome(&house.pool, ask_for(*runner, MEET, &[PLATFORM])).await, Outcome::Assigned);
    }
    assert_eq!(outcome(&house.pool, ask_for(waiting[3], MEET, &[PLATFORM])).await, Outcome::ProviderFull);
    assert_eq!(house.preparations(3).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn starts_that_are_due_have_slots_made() {
    let house = pooled(&[]).await;
    let step =
        ForecastStep { platform: PLATFORM.to_owned(), provider: MEET.to_owned(), starts: 4, ..ForecastStep::default() };
    let elsewhere = ForecastStep { platform: "simulated-two".to_owned(), starts: 9, ..step.clone() };
    *house.neighbours.forecast.lock().expect("no panic") = vec![step, elsewhere];
    house.preparations(4).await;
    let pool = house.until_pool("it is known why", |pool| pool.target == 4).await;
    assert!(pool.changes[0].why.contains("4 starts are due"), "{:?}", pool.changes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_is_renewed_after_so_many_uses() {
    let house = pooled(&[("GOOGLE_MEET_POOL_PREWARM", "1"), ("POOL_SLOT_MAX_USES", "2")]).await;
    let first = house.ready(1).await[0];
    for uses in 1..=2 {
        let (runner, got) = until("it is given", async || {
            let (runner, got) = house.meet().await;
            (got == Outcome::Assigned).then_some((runner, got))
        })
        .await;
        assert_eq!((got, house.start_of(runner).await.standing), (Outcome::Assigned, Some(first)), "use {uses}");
        house.started(runner).await;
        house.gone(runner, true).await;
    }
    // The old one goes first; nobody is given it meanwhile.
    house.heard.until::<Retire>(first.slot.uuid(), 1).await;
    assert_eq!(house.meet().await.1, Outcome::ProviderFull);
    // What is said late of it, or twice, changes nothing.
    house.prepared(first).await;
    assert_eq!(house.standing(first.slot).await, Some(("retiring".to_owned(), 1, 2)));
    house.retired(first).await;
    house.retired(first).await;
    let next = until("the next generation is prepared", async || {
        let prepares = house.heard.about::<Prepare>(first.slot.uuid());
        prepares.into_iter().map(|prepare| prepare.standing).find(|standing| standing.generation == 2)
    })
    .await;
    assert_eq!(next, Standing { slot: first.slot, generation: 2 });
    house.prepared(first).await;
    house.retired(first).await;
    assert_eq!(house.standing(first.slot).await, Some(("preparing".to_owned(), 2, 0)));
    house.prepared(next).await;
    house.until_standing(first.slot, "idle").await;
    let (runner, got) = house.meet().await;
    assert_eq!((got, house.start_of(runner).await.standing), (Outcome::Assigned, Some(next)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_that_is_lowered_lets_go_of_what_serves_nobody() {
    let house = pooled(&[("GOOGLE_MEET_POOL_PREWARM", "4"), ("SIMULATED_BOT_LIMIT", "10")]).await;
    let prepares: Vec<Standing> = house.preparations(4).await.into_iter().map(|prepare| prepare.standing).collect();
    house.prepared(prepares[0]).await;
    house.prepared(prepares[1]).await;
    let (runner, got) = house.meet().await;
    assert_eq!(got, Outcome::Assigned);
    house.started(runner).await;
    let busy = house.start_of(runner).await.standing.expect("a standing slot");

    house.limit(SET(2)).await;
    // Those that are not ready go; who has one keeps it.
    for preparing in &prepares[2..] {
        house.heard.until::<Retire>(preparing.slot.uuid(), 1).await;
        // One of them gets ready nevertheless, and is not wanted.
        house.prepared(*preparing).await;
        house.retired(*preparing).await;
        until("it is forgotten", async || house.standing(preparing.slot).await.is_none().then_some(())).await;
    }
    assert_eq!(house.standing(busy.slot).await.map(|(state, ..)| state).as_deref(), Some("busy"));
    house.limit(SET(1)).await;
    let idle = if busy == prepares[0] { prepares[1] } else { prepares[0] };
    house.heard.until::<Retire>(idle.slot.uuid(), 1).await;
    house.retired(idle).await;
    assert_eq!(house.heard.about::<Retire>(busy.slot.uuid()), [], "nobody's slot is taken away");
    house.gone(runner, true).await;
    house.until_standing(busy.slot, "idle").await;
    // And with more room there are more again, with the numbers that came free.
    house.limit(CLEARED).await;
    let known: BTreeSet<Standing> = prepares.into_iter().collect();
    let made = house.preparations(7).await.into_iter().filter(|made| !known.contains(&made.standing));
    let numbers: BTreeSet<String> = made.map(|made| made.name).collect();
    assert_eq!(numbers.len(), 3, "{numbers:?}");
    assert!(numbers.contains("pool-google-meet-004"), "{numbers:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_slots_make_room_for_waiting_requests() {
    let settings = [("GOOGLE_MEET_POOL_PREWARM", "3"), ("SIMULATED_BOT_LIMIT", "3"), ("WEB_POOL_ENABLED", "true")];
    let house = pooled(&settings).await;
    let meets = house.ready(3).await;
    assert_eq!(house.ask(runner()).await, Outcome::ProviderFull);
    let gone = until("one makes room", async || {
        meets.iter().find(|standing| !house.heard.about::<Retire>(standing.slot.uuid()).is_empty()).copied()
    })
    .await;
    house.retired(gone).await;
    let web = house.preparations(4).await.remove(3);
    assert_eq!(web.name, "pool-web-001");
    house.prepared(web.standing).await;
    let other = runner();
    assert_eq!(house.ask(other).await, Outcome::Assigned);
    let retired: usize = meets.iter().filter(|one| !house.heard.about::<Retire>(one.slot.uuid()).is_empty()).count();
    assert_eq!(retired, 1, "one is enough");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_most_so_many_are_prepared_at_once() {
    let house = pooled(&[("GOOGLE_MEET_POOL_PREWARM", "5"), ("SIMULATED_PERMITS", "2")]).await;
    let first = house.preparations(2).await;
    house.until_pool("five are wanted", |pool| pool.preparing == 5).await;
    assert_eq!(house.preparations(2).await.len(), 2);
    house.prepared(first[0].standing).await;
    let three = house.preparations(3).await;
    assert_eq!(three.len(), 3);
    for prepare in &three[1..] {
        house.prepared(prepare.standing).await;
    }
    house.preparations(5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_without_a_pool_has_no_slots_there_and_other_platforms_are_as_they_were() {
    let house = pooled(&[("GOOGLE_MEET_POOL_PREWARM", "1")]).await;
    house.ready(1).await;
    let zoom = runner();
    assert_eq!(outcome(&house.pool, ask_for(zoom, "zoom", &[PLATFORM, "simulated-two"])).await, Outcome::Assigned);
    let start = house.start_of(zoom).await;
    assert_eq!((start.standing, start.slot.as_str()), (None, "simulated-two-001"), "made up to the limit, for anybody");
    let request = ListSlotsRequest { page_size: Some(3), ..ListSlotsRequest::default() };
    let page = house.operators.clone().list_slots(request.clone()).await.expect("a page").into_inner();
    let names: Vec<&str> = page.slots.iter().map(|slot| slot.name.as_str()).collect();
    assert_eq!(names, ["pool-google-meet-001", "simulated-two-001", "simulated-two-002"]);
    assert_eq!((page.slots[0].generation, page.slots[0].uses, page.slots[1].generation), (1, 0, 0));
    let request = ListSlotsRequest { page_token: page.next_page_token, ..request };
    let page = house.operators.clone().list_slots(request).await.expect("a page").into_inner();
    assert_eq!(page.slots[0].name, "simulated-two-003");
    let stats = house.pooled_stats().await;
    assert!(
        stats.pooled && stats.pools.iter().all(|pool| !["web", "microsoft-teams"].contains(&pool.provider.as_str()))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_that_is_idle_for_long_shrinks_to_what_is_kept_and_the_longest_idle_go() {
    // Seconds, at a twentieth.
    let house = pooled(&[
        ("GOOGLE_MEET_POOL_PREWARM", "1"),
        ("POOL_SCALE_EVALUATION_MS", "10000"),
        ("POOL_SCALE_IN_COOL_DOWN_MS", "20000"),
        ("POOL_SCALE_IN_STEP", "1"),
    ])
    .await;
    let waiting: Vec<RunnerId> = (0..3).map(|_| runner()).collect();
    for runner in &waiting {
        outcome(&house.pool, ask_for(*runner, MEET, &[PLATFORM])).await;
    }
    let slots = house.ready(3).await;
    let mut given = Vec::new();
    for runner in &waiting {
        assert_eq!(outcome(&house.pool, ask_for(*runner, MEET, &[PLATFORM])).await, Outcome::Assigned);
        house.started(*runner).await;
        given.push(house.start_of(*runner).await.standing.expect("a standing slot"));
    }
    // They come back one after another: the first has been idle for longest.
    for runner in &waiting {
        house.gone(*runner, true).await;
    }
    let gone = until("two are let go", async || {
        let mut seen = BTreeSet::new();
        let all = house.heard.all::<Retire>().into_iter().map(|said| said.data.standing);
        let all: Vec<Standing> = all.filter(|standing| seen.insert(*standing)).collect();
        for standing in &all {
            house.retired(*standing).await;
        }
        (all.len() == 2).then_some(all)
    })
    .await;
    assert_eq!(gone, given[..2]);
    let pool = house.until_pool("one is kept", |pool| pool.target == 1 && pool.ready == 1).await;
    assert!(pool.changes[0].why.contains("shrinks from 2 to 1"), "{:?}", pool.changes);
    assert_eq!(house.standing(given[2].slot).await.map(|(state, ..)| state).as_deref(), Some("idle"));
    assert_eq!(slots.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_made_on_a_platform_that_is_drained() {
    let house = pooled(&[]).await;
    house.drain(true).await;
    let one = runner();
    assert_eq!(outcome(&house.pool, ask_for(one, MEET, &[PLATFORM])).await, Outcome::Full);
    let step =
        ForecastStep { platform: PLATFORM.to_owned(), provider: MEET.to_owned(), starts: 4, ..ForecastStep::default() };
    *house.neighbours.forecast.lock().expect("no panic") = vec![step];
    let pool = house.until_pool("it is known that some are due", |pool| pool.why.contains("are due")).await;
    assert_eq!((pool.target, pool.preparing), (0, 0), "{}", pool.why);
    house.drain(false).await;
    house.preparations(4).await;
}
