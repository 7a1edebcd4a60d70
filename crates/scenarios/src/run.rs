//! One story, with trouble, and the verdict.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use greenroom_domain::bot::BotState;
use greenroom_testkit::checker::{Violation, check, slots_at_rest};
use greenroom_testkit::evidence::Evidence;
use greenroom_testkit::order::{Order, Watch, order};
use greenroom_testkit::simulated::{Millis, Script};
use greenroom_testkit::story::{Story, User};
use greenroom_testkit::{Layout, Pace, Sandbox, Settings};
use tokio_util::sync::CancellationToken;

use crate::{Trouble, expected};

/// What is to be played.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The program: `greenroom-node`.
    pub program: PathBuf,
    /// Who runs where.
    pub layout: Layout,
    /// What happens meanwhile.
    pub trouble: Trouble,
    /// How many bots.
    pub bots: usize,
    /// How many slots.
    pub slots: u32,
    /// Another seed is another story.
    pub seed: u64,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// Broken promises.
    pub violations: Vec<Violation>,
    /// How the bots ended: state, reason, how many.
    pub ends: BTreeMap<String, usize>,
    /// From the first request to the last end.
    pub took: Duration,
    /// All of it.
    pub evidence: Evidence,
    /// The last lines of the logs, when something is wrong.
    pub logs: String,
}

/// Every deadline and period is a twentieth.
pub(crate) const TIME_SCALE: f64 = 0.05;
/// QUEUE_RISE_MS, as it is unless somebody sets it.
pub(crate) const RISE: Duration = Duration::from_secs(120);

fn script(seed: u64) -> Script {
    Script {
        seed,
        // 1 to 2 seconds in the meeting.
        call_ms: Millis(20_000, 40_000),
        boot_ms: Millis(500, 2_000),
        // Half a second to one and a half, and every fourth comes to nothing.
        nodes: 3,
        pull_ms: Millis(10_000, 30_000),
        pull_failures: 0.25,
        ensure_ms: Millis(200, 1_000),
        no_capacity: 0.03,
        transient: 0.05,
        lost_answers: 0.05,
        late_starts: 0.02,
        doubled_starts: 0.05,
        list_lag_ms: 2_000,
        crash_before_admission: 0.03,
        crash_after_admission: 0.03,
        crash_in_call: 0.03,
        deaf: 0.02,
        ..Script::default()
    }
}

/// Plays a plan.
///
/// # Errors
/// When the sandbox cannot be made or treated as planned.
pub async fn run(plan: &Plan) -> io::Result<Outcome> {
    let settings = Settings {
        program: plan.program.clone(),
        layout: plan.layout,
        slots: plan.slots,
        time_scale: TIME_SCALE,
        script: script(plan.seed),
        more: plan.trouble.settings(),
    };
    let mut sandbox = Sandbox::start(settings).await?;
    for (platform, script) in plan.trouble.scripts(&sandbox.platform.script()) {
        sandbox.platform.set_script_of(platform, script);
    }
    let user = User::at(sandbox.urls(), sandbox.key()).with_tenants(sandbox.tenants());
    let stop = CancellationToken::new();
    let listener = user.listen(stop.clone());
    let story = Story {
        bots: plan.bots,
        over: Duration::from_secs(4),
        cancels: 10,
        leaves: 10,
        regret: Duration::from_secs(6),
        queue_timeout: plan.trouble.queue_timeout(),
        seed: plan.seed,
    };
    let watch = Watch::start(sandbox.database_url());
    let begin = Instant::now();
    let playing = tokio::spawn({
        let (user, story) = (user.clone(), story.clone());
        async move { user.play(&story).await }
    });
    // The subscriber is there before the trouble begins.
    plan.trouble.happen(&mut sandbox).await?;
    let acknowledged = playing.await.map_err(io::Error::other)?;
    // Not in seconds: on a machine that is busy the same work takes longer, and that is no fault of ours.
    let quiet = Pace::start();

    // A backlog drains within its size over the sustained rate, plus 30 s; six sweep periods more after a wipe. A crashed
    // runner's bot goes again, so its size is the attempts'. Waiting for what hangs has an end, and then it is reported.
    let hold = Duration::from_millis(2_600);
    let work = hold.mul_f64(1.4 * plan.bots as f64 / f64::from(plan.slots));
    let drain_limit = work + Duration::from_secs(30) + Duration::from_secs(60).mul_f64(TIME_SCALE);
    let mut drained = None;
    let at_rest = loop {
        let evidence = Evidence::collect(&sandbox).await?;
        let over = evidence.bots.iter().all(|bot| bot.state.parse::<BotState>().is_ok_and(BotState::is_terminal));
        if over {
            drained.get_or_insert_with(|| quiet.had());
        }
        let up_to = listener.complete_up_to();
        let all_heard = evidence.bots.iter().all(|bot| up_to.get(&bot.id) == Some(&bot.sequence));
        if over && all_heard && evidence.starts_under_way == 0 && slots_at_rest(&evidence).is_empty() {
            break evidence;
        }
        if quiet.had() > drain_limit + Duration::from_secs(30) {
            break evidence;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    let order = match plan.trouble {
        // Numbers that waiting has halved are halved by a clock that is wrong.
        Trouble::Clock => Order::default(),
        _ => order(&watch.seen().await, RISE.mul_f64(TIME_SCALE)),
    };
    // Judged as it was found: a bot that is over may have more events, such as that its recording failed.
    let evidence = Evidence {
        acknowledged,
        heard: listener.heard(),
        order,
        drained: drained.unwrap_or_else(|| quiet.had()),
        drain_limit,
        ..at_rest
    };
    let took = begin.elapsed();
    let mut violations = check(&evidence);
    violations.extend(expected::missing(plan.trouble, &evidence));
    for node in &mut sandbox.nodes {
        if node.has_died() {
            violations.push(Violation { promise: "alive", how: format!("process {} died by itself", node.name) });
        }
    }
    let mut ends = BTreeMap::new();
    for bot in &evidence.bots {
        let reason = bot.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
        *ends.entry(format!("{}{reason}", bot.state)).or_insert(0) += 1;
    }
    let logs = if violations.is_empty() { String::new() } else { sandbox.logs(40) };
    stop.cancel();
    sandbox.stop().await?;
    Ok(Outcome { violations, ends, took, evidence, logs })
}
