//! Runners that should not be: started by a message that comes again, by a platform that is late, by a deployer that was
//! stopped in the middle. None of them touches a meeting, all of them are cleaned up, and no slot has two owners.

use std::path::PathBuf;
use std::time::Duration;

use futures::StreamExt;
use greenroom_bus::{Bus, Outgoing};
use greenroom_contracts::messages::Start;
use greenroom_contracts::{Envelope, subjects};
use greenroom_domain::{Attempt, InstanceId, MessageId, PlatformName, RunnerId, Timestamp};
use greenroom_testkit::checker::check;
use greenroom_testkit::evidence::Evidence;
use greenroom_testkit::simulated::{Fact, Millis, Script, What};
use greenroom_testkit::story::{Acknowledged, Listener, User, client};
use greenroom_testkit::{Layout, Sandbox, Settings, until};
use tokio_util::sync::CancellationToken;

/// Every deadline and period is a twentieth.
const TIME_SCALE: f64 = 0.05;
/// For what takes a second or two: against a hang, on a machine however busy.
const SOON: Duration = Duration::from_secs(180);

/// A house with one slot, so that whoever comes next gets the slot of whoever was there.
struct House {
    sandbox: Sandbox,
    user: User,
    bus: Bus,
    listener: Listener,
    bots: Vec<Acknowledged>,
}

fn script() -> Script {
    Script { call_ms: Millis(20_000, 30_000), ..Script::default() }
}

fn platform() -> PlatformName {
    PlatformName::new("simulated").expect("a name")
}

impl House {
    /// A minute until a start is too late, however slow this machine is.
    async fn new(layout: Layout, script: Script) -> Self {
        Self::with(layout, script, &[("START_TIMEOUT_MS", "1200000")]).await
    }

    async fn with(layout: Layout, script: Script, more: &[(&str, &str)]) -> Self {
        let sandbox = Sandbox::start(Settings {
            program: PathBuf::from(env!("CARGO_BIN_EXE_greenroom-node")),
            layout,
            slots: 1,
            time_scale: TIME_SCALE,
            script,
            more: more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        })
        .await
        .expect("a sandbox");
        let user = User::new(sandbox.url(), sandbox.key());
        let bus = Bus::connect(&sandbox.nats.url(), sandbox.installation().clone(), "test").await.expect("a bus");
        let listener = user.listen(CancellationToken::new());
        Self { sandbox, user, bus, listener, bots: Vec::new() }
    }

    /// A bot, and the runner it begins with.
    async fn bot(&mut self, name: &str) -> RunnerId {
        let id = self.user.create(name).await;
        let runner = RunnerId::of_bot(id.parse().expect("a bot's id"), Attempt::FIRST);
        self.bots.push(Acknowledged { id, asked_ms: 0, cancelled: false, called_back: false });
        runner
    }

    async fn cancel(&mut self, runner: RunnerId) {
        let id = runner.id.to_string();
        self.user.cancel(&id).await;
        self.bots.iter_mut().filter(|bot| bot.id == id).for_each(|bot| bot.cancelled = true);
    }

    fn facts(&self) -> Vec<Fact> {
        Fact::read(self.sandbox.platform.facts()).expect("the facts")
    }

    fn happened(&self, runner: RunnerId, what: &What) -> usize {
        self.facts().iter().filter(|fact| fact.runner == runner && fact.what == *what).count()
    }

    async fn until_happened(&self, runner: RunnerId, what: What) {
        until(&format!("{runner}: {what:?}"), SOON, async || self.happened(runner, &what) > 0).await;
    }

    /// The platform is empty of it, the pool knows, and its slot is free or another's.
    async fn until_gone(&self, runner: RunnerId) {
        until(&format!("{runner} is gone"), SOON, async || {
            let evidence = Evidence::collect(&self.sandbox).await.expect("evidence");
            let name = runner.to_string();
            let over = evidence.assignments.iter().any(|one| one.runner == name && one.state == "over");
            over && !evidence.left.contains(&name)
        })
        .await;
    }

    /// How many starts a deployer has answered so.
    async fn starts(&mut self, deployer: &str, outcome: &str) -> u64 {
        let url = format!("{}/metrics", self.sandbox.node_of(deployer).operations());
        let Ok(answer) = client().get(url).send().await else { return 0 };
        let metrics = answer.text().await.unwrap_or_default();
        let line = metrics.lines().find(|line| {
            line.starts_with("greenroom_deployer_starts_total{") && line.contains(&format!("outcome=\"{outcome}\""))
        });
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
    }

    /// Who was let in as this runner.
    fn admitted(&self, runner: RunnerId) -> Vec<Option<InstanceId>> {
        let admitted = |fact: &Fact| fact.runner == runner && fact.what == What::Admitted;
        self.facts().into_iter().filter(admitted).map(|fact| fact.instance).collect()
    }

    /// Since then nobody was let in as this runner.
    fn assert_fenced_since(&self, runner: RunnerId, then: Timestamp) {
        let since: Vec<_> = self.facts().into_iter().filter(|fact| fact.runner == runner && fact.at >= then).collect();
        assert!(!since.iter().any(|fact| matches!(fact.what, What::Admitted | What::Entered)), "{since:#?}");
    }

    /// Waits until all is over and holds it against the promises.
    async fn check(self) {
        let settled = Evidence::settled(&self.sandbox, self.bots, &self.listener, 2 * SOON).await;
        let evidence = settled.expect("evidence");
        let found = check(&evidence);
        assert_eq!(found, [], "{:#?}\n{}", evidence.facts, self.sandbox.logs(30));
        self.sandbox.stop().await.expect("it stops");
    }
}

/// A bot is started, cancelled and gone. Returns it and the message that started it.
async fn a_start_that_is_over(house: &mut House) -> (RunnerId, Envelope<Start>) {
    let subject = subjects::deploy(house.sandbox.installation(), &platform(), "start");
    let mut starts = house.bus.listen_lossy(subject).await.expect("it listens");
    house.bus.flush().await.expect("nats is there");
    let runner = house.bot("first").await;
    let (_, _, body) = tokio::time::timeout(SOON, starts.next()).await.expect("a start").expect("it listens on");
    let start: Envelope<Start> = serde_json::from_slice(&body).expect("a start");
    assert_eq!(start.data.runner, runner);
    house.until_happened(runner, What::Entered).await;
    house.cancel(runner).await;
    house.until_gone(runner).await;
    (runner, start)
}

/// Sends the very same start again, in time, under an id that nobody has seen.
async fn send_again(house: &House, mut start: Envelope<Start>) {
    assert!(Timestamp::now() < start.data.start_by, "it is in time");
    start.header.id = MessageId::generate();
    let again = Outgoing::new(house.sandbox.installation(), start);
    let published = house.bus.publish(&again).await.expect("nats is there");
    assert!(!published.duplicate);
}

#[tokio::test]
async fn a_start_that_comes_again_after_its_stop_starts_nothing() {
    let mut house = House::new(Layout::AllInOne, script()).await;
    let (runner, start) = a_start_that_is_over(&mut house).await;
    // Its slot is another's now.
    let next = house.bot("next").await;
    house.until_happened(next, What::Entered).await;
    let then = Timestamp::now();
    send_again(&house, start).await;
    until("the deployer has dropped it", SOON, async || house.starts("deployer", "stopped before").await == 1).await;
    house.assert_fenced_since(runner, then);
    assert_eq!(house.happened(runner, &What::Started), 1);
    house.check().await;
}

#[tokio::test]
async fn a_redelivered_start_starts_nothing_after_a_forgotten_stop() {
    let mut house = House::new(Layout::Split, script()).await;
    let (runner, start) = a_start_that_is_over(&mut house).await;
    let deployer = house.sandbox.node_of("deployer");
    deployer.kill().expect("it is killed");
    deployer.start().expect("it starts");
    let next = house.bot("next").await;
    house.until_happened(next, What::Entered).await;
    let then = Timestamp::now();
    send_again(&house, start).await;
    until("the owner has refused it", SOON, async || house.starts("deployer", "over before").await == 1).await;
    house.assert_fenced_since(runner, then);
    assert_eq!(house.happened(runner, &What::Started), 1);
    house.check().await;
}

/// The platform gives a start up and does it all the same, when its bot is cancelled and everybody has proof that nothing
/// runs. Nobody watches either: only the list shows the remains.
#[tokio::test]
async fn a_runner_that_a_platform_starts_after_all_is_let_in_nowhere() {
    let late = Script {
        late_starts: 1.0,
        // Ten seconds; after START_TIMEOUT and the ensure time-out, which are half of it.
        late_start_ms: Millis(200_000, 200_000),
        watch: false,
        ..script()
    };
    let timeouts = [("START_TIMEOUT_MS", "40000"), ("ENSURE_TIMEOUT_MS", "60000")];
    let mut house = House::with(Layout::AllInOne, late, &timeouts).await;
    let zombie = house.bot("zombie").await;
    until("its start is under way", SOON, async || house.sandbox.platform.tries("simulated", zombie) > 0).await;
    let delayed = What::Ensured { answer: "delayed".to_owned() };
    house.until_happened(zombie, delayed).await;
    // From now on nothing new is late.
    house.sandbox.platform.set_script(Script { late_starts: 0.0, transient: 1.0, ..house.sandbox.platform.script() });
    house.cancel(zombie).await;
    house.until_gone(zombie).await;
    assert_eq!(house.happened(zombie, &What::Started), 0, "its slot was free before it came");
    house.sandbox.platform.set_script(Script { transient: 0.0, ..house.sandbox.platform.script() });
    let next = house.bot("next").await;
    house.until_happened(next, What::Entered).await;

    house.until_happened(zombie, What::Started).await;
    house.until_happened(zombie, What::Refused).await;
    house.until_happened(zombie, What::Removed).await;
    house.assert_fenced_since(zombie, Timestamp::UNIX_EPOCH);
    house.check().await;
}

/// Four seconds on the platform, less than a deployer has patience.
const SLOW: Millis = Millis(80_000, 80_000);

#[tokio::test]
async fn a_bot_cancelled_while_its_deployer_is_stopped_in_the_middle_of_the_start_is_nowhere() {
    let mut house = House::new(Layout::Split, Script { ensure_ms: SLOW, ..script() }).await;
    let runner = house.bot("cancelled").await;
    until("its start is under way", SOON, async || house.sandbox.platform.tries("simulated", runner) > 0).await;
    house.sandbox.node_of("deployer").pause().expect("it is stopped");
    house.cancel(runner).await;
    // The platform does as it was told; the owner does not let it in.
    house.until_happened(runner, What::Started).await;
    house.until_happened(runner, What::Refused).await;
    house.sandbox.node_of("deployer").resume().expect("it goes on");
    house.until_gone(runner).await;
    house.assert_fenced_since(runner, Timestamp::UNIX_EPOCH);
    // The slot is free for whoever comes.
    house.sandbox.platform.set_script(Script { time_scale: TIME_SCALE, ..script() });
    let next = house.bot("next").await;
    house.until_happened(next, What::Left).await;
    house.check().await;
}

#[tokio::test]
async fn two_deployers_start_one_admitted_runner() {
    let mut house = House::new(Layout::Split, Script { ensure_ms: SLOW, ..script() }).await;
    let runner = house.bot("twice").await;
    until("its start is under way", SOON, async || house.sandbox.platform.tries("simulated", runner) > 0).await;
    house.sandbox.node_of("deployer").pause().expect("it is stopped");
    // From now on the platform is quick, and makes two of one.
    house.sandbox.platform.set_script(Script { doubled_starts: 1.0, time_scale: TIME_SCALE, ..script() });
    house.sandbox.double("deployer").expect("a second one");
    until("the second one does it", SOON, async || house.sandbox.platform.tries("simulated", runner) > 1).await;
    house.until_happened(runner, What::Refused).await;
    house.until_happened(runner, What::Entered).await;
    house.sandbox.node_of("deployer").resume().expect("it goes on");
    house.until_gone(runner).await;
    assert_eq!(house.admitted(runner).len(), 1, "{:#?}", house.facts());
    house.check().await;
}
