//! What can happen to a Greenroom.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use greenroom_testkit::simulated::{Millis, Script};
use greenroom_testkit::story::User;
use greenroom_testkit::{Layout, Node, SERVICES, Sandbox};
use reqwest::Method;
use serde_json::{Value, json};

/// Longer than the bus waits for a handler's word.
const PAUSE: Duration = Duration::from_secs(5);
/// How long a service stays away.
const AWAY: Duration = Duration::from_millis(700);
/// Between two troubles.
const BETWEEN: Duration = Duration::from_millis(800);

/// What happens while the story is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing.
    None,
    /// Every service in turn is SIGKILLed and started again.
    Kill,
    /// Every service in turn is SIGSTOPped for longer than `ack_wait`.
    Pause,
    /// Every service but the gateway runs twice.
    Double,
    /// Postgres is restarted.
    Postgres,
    /// nats-server is killed and its store is wiped.
    Nats,
    /// Operators change limits, drain, and cordon, while the pool manager is killed.
    Operators,
    /// The platform that everybody wants first refuses everything; later it does not.
    Refusing,
    /// The only platform refuses everything.
    Alone,
    /// Platforms answer when the deployer does not listen any more.
    Late,
    /// The platform keeps standing slots, and those who see to them are killed.
    Pooled,
    /// The wall clock of every service jumps by hours and days, and comes back.
    Clock,
    /// Kills, pauses and replicas, and servers that go and come.
    Combined,
}

impl Trouble {
    /// Every one.
    pub const ALL: [Self; 13] = [
        Self::None,
        Self::Kill,
        Self::Pause,
        Self::Double,
        Self::Postgres,
        Self::Nats,
        Self::Operators,
        Self::Refusing,
        Self::Alone,
        Self::Late,
        Self::Pooled,
        Self::Clock,
        Self::Combined,
    ];

    /// What it is called.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Kill => "kill",
            Self::Pause => "pause",
            Self::Double => "double",
            Self::Postgres => "postgres",
            Self::Nats => "nats",
            Self::Operators => "operators",
            Self::Refusing => "refusing",
            Self::Alone => "alone",
            Self::Late => "late",
            Self::Pooled => "pooled",
            Self::Clock => "clock",
            Self::Combined => "combined",
        }
    }

    /// Whether it says anything new there. (Where there are two of each, nothing has to be doubled.)
    #[must_use]
    pub fn fits(self, layout: Layout) -> bool {
        match layout {
            Layout::AllInOne | Layout::Split => true,
            Layout::Twice => matches!(self, Self::Kill | Self::Pause | Self::Nats | Self::Operators),
        }
    }

    /// What the services are told for it.
    #[must_use]
    pub fn settings(self) -> BTreeMap<String, String> {
        let told: &[(&str, &str)] = match self {
            // A small platform that everybody wants first, for half a second in this small time.
            Self::Operators => &[
                ("PLATFORM_PRIORITY", "first,simulated"),
                ("FIRST_KIND", "simulated"),
                ("FIRST_BOT_LIMIT", "3"),
                ("FIRST_PERMITS", "2"),
                ("FIRST_QUEUE_TIMEOUT_MS", "10000"),
            ],
            Self::Refusing => &[
                ("PLATFORM_PRIORITY", "first,simulated"),
                ("FIRST_KIND", "simulated"),
                ("FIRST_BOT_LIMIT", "10"),
                ("FIRST_PERMITS", "4"),
            ],
            // A second of patience, and two for the whole start.
            Self::Late => &[("SIMULATED_PATIENCE_MS", "1000"), ("START_TIMEOUT_MS", "40000")],
            // A few of them are ready, there may be as many as runners, and each is made anew after six.
            Self::Pooled => &[
                ("SIMULATED_POOLED", "true"),
                ("GOOGLE_MEET_POOL_ENABLED", "false"),
                ("MICROSOFT_TEAMS_POOL_ENABLED", "false"),
                ("ZOOM_POOL_ENABLED", "false"),
                ("WEB_POOL_SIZE", "20"),
                ("WEB_POOL_PREWARM", "4"),
                ("POOL_SLOT_MAX_USES", "6"),
                // Five seconds, and two.
                ("POOL_PREPARE_TIMEOUT_MS", "100000"),
                ("POOL_RECOVERY_MS", "40000"),
            ],
            // However slow the machine is that plays this, the clock comes back before it has settled.
            Self::Clock => &[("GREENROOM_CLOCK_SETTLE_MS", "86400000")],
            Self::None
            | Self::Kill
            | Self::Pause
            | Self::Double
            | Self::Postgres
            | Self::Nats
            | Self::Alone
            | Self::Combined => &[],
        };
        told.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    /// How the platforms behave that behave otherwise for it.
    #[must_use]
    pub fn scripts(self, usual: &Script) -> Vec<(&'static str, Script)> {
        let refusing = Script { unauthorized: 1.0, ..usual.clone() };
        match self {
            Self::Refusing => vec![("first", refusing)],
            Self::Alone => vec![("simulated", refusing)],
            // From what is just too late for the driver to what is too late for everybody: eight seconds.
            Self::Late => {
                let late_answer_ms = Millis(30_000, 160_000);
                vec![("simulated", Script { late_answers: 0.3, late_answer_ms, ..usual.clone() })]
            }
            // One to three seconds.
            Self::Pooled => {
                let prepare_ms = Millis(20_000, 60_000);
                let wrong = Script { prepare_failures: 0.1, prepare_lost_answers: 0.1, ..usual.clone() };
                vec![("simulated", Script { prepare_ms, ..wrong })]
            }
            Self::None
            | Self::Kill
            | Self::Pause
            | Self::Double
            | Self::Postgres
            | Self::Nats
            | Self::Operators
            | Self::Clock
            | Self::Combined => Vec::new(),
        }
    }

    /// How long bots may wait for a slot: nobody is to run out of time for want of slots alone.
    #[must_use]
    pub fn queue_timeout(self) -> Duration {
        if self == Self::Alone { Duration::from_secs(10) } else { Duration::from_secs(120) }
    }

    /// Has it happen.
    ///
    /// # Errors
    /// When a process or a server cannot be treated so.
    pub async fn happen(self, sandbox: &mut Sandbox) -> io::Result<()> {
        match self {
            Self::None => {}
            Self::Kill => {
                for name in names(sandbox) {
                    kill(sandbox, &name).await?;
                }
            }
            Self::Pause => {
                for name in names(sandbox) {
                    pause(sandbox, &name).await?;
                }
            }
            Self::Double => {
                for service in SERVICES.into_iter().filter(|service| *service != "gateway") {
                    sandbox.double(service)?;
                }
            }
            Self::Postgres => {
                tokio::time::sleep(BETWEEN).await;
                sandbox.postgres.stop().await.map_err(io::Error::other)?;
                tokio::time::sleep(AWAY).await;
                sandbox.postgres.restart().await.map_err(io::Error::other)?;
            }
            Self::Nats => {
                tokio::time::sleep(BETWEEN).await;
                sandbox.nats.wipe().await.map_err(io::Error::other)?;
                tokio::time::sleep(AWAY).await;
                sandbox.nats.restart().await.map_err(io::Error::other)?;
            }
            Self::Operators => operate(sandbox).await?,
            Self::Refusing => refuse(sandbox).await?,
            Self::Alone => {
                until_breaker(sandbox, "simulated", "open").await?;
                kill(sandbox, "queue").await?;
                kill(sandbox, "pool-manager").await?;
            }
            Self::Late => {
                kill(sandbox, "deployer").await?;
                kill(sandbox, "pool-manager").await?;
            }
            Self::Pooled => {
                for service in
                    ["pool-manager", "deployer", "pool-manager", "queue", "deployer", "scheduler", "pool-manager"]
                {
                    kill(sandbox, service).await?;
                }
            }
            Self::Clock => {
                // An hour that is set wrong, and a date.
                for (turn, hours) in [5, -3 * 24, 3 * 24].into_iter().enumerate() {
                    tokio::time::sleep(BETWEEN).await;
                    sandbox.set_clock_off(hours * 3_600_000)?;
                    until_logged(sandbox, "the wall clock jumped", turn + 1).await?;
                    // The story goes on meanwhile: bots are made, wait, begin and end.
                    tokio::time::sleep(BETWEEN).await;
                    sandbox.set_clock_off(0)?;
                    until_logged(sandbox, "the wall clock came back", turn + 1).await?;
                }
            }
            Self::Combined => {
                sandbox.double("scheduler")?;
                sandbox.double("pool-manager")?;
                kill(sandbox, "scheduler").await?;
                Box::pin(Self::Nats.happen(sandbox)).await?;
                kill(sandbox, "pool-manager").await?;
                pause(sandbox, "deployer").await?;
                Box::pin(Self::Postgres.happen(sandbox)).await?;
                kill(sandbox, "queue").await?;
                kill(sandbox, "gateway").await?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Every process. All in one, there is one.
fn names(sandbox: &Sandbox) -> Vec<String> {
    sandbox.nodes.iter().map(|node| node.name.clone()).collect()
}

/// The process of a service, or the one of this name.
fn node<'s>(sandbox: &'s mut Sandbox, name: &str) -> &'s mut Node {
    match sandbox.settings.layout {
        Layout::AllInOne => sandbox.node_called("all"),
        Layout::Split | Layout::Twice => sandbox.node_called(name),
    }
}

async fn kill(sandbox: &mut Sandbox, name: &str) -> io::Result<()> {
    tokio::time::sleep(BETWEEN).await;
    node(sandbox, name).kill()?;
    tokio::time::sleep(AWAY).await;
    node(sandbox, name).start()
}

async fn pause(sandbox: &mut Sandbox, name: &str) -> io::Result<()> {
    tokio::time::sleep(BETWEEN).await;
    node(sandbox, name).pause()?;
    tokio::time::sleep(PAUSE).await;
    node(sandbox, name).resume()
}

/// The first platform is taken out of the chain; when it is well again, a probe finds out and it is used again.
async fn refuse(sandbox: &mut Sandbox) -> io::Result<()> {
    until_breaker(sandbox, "first", "open").await?;
    kill(sandbox, "pool-manager").await?;
    kill(sandbox, "queue").await?;
    let usual = sandbox.platform.script();
    sandbox.platform.set_script_of("first", usual);
    until_breaker(sandbox, "first", "closed").await
}

/// Waits until operators see a platform's breaker so.
async fn until_breaker(sandbox: &Sandbox, platform: &str, state: &str) -> io::Result<()> {
    let operator = User::at(sandbox.urls(), sandbox.key());
    let end = Instant::now() + Duration::from_secs(30);
    let mut last = Value::Null;
    while Instant::now() < end {
        if let Ok(shown) = operator.get(&format!("/v1/pool/platforms/{platform}")).await {
            let providers = shown["providers"].as_array().cloned().unwrap_or_default();
            let is_so = |provider: &Value| match provider["breaker"]["state"].as_str() {
                // Nothing has failed since it was closed, or ever.
                None => state == "closed",
                Some(shown) => shown == state,
            };
            if providers.iter().any(is_so) {
                return Ok(());
            }
            last = shown;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(io::Error::other(format!("no breaker of {platform} is {state}: {last}")))
}

/// Waits until every process has logged something so many times.
async fn until_logged(sandbox: &Sandbox, message: &str, times: usize) -> io::Result<()> {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let missing = sandbox.nodes.iter().find(|node| sandbox.log_of(node).matches(message).count() < times);
        let Some(missing) = missing else { return Ok(()) };
        if Instant::now() > end {
            return Err(io::Error::other(format!("{} has not logged {message:?} {times} times", missing.name)));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What operators do on a busy day; in the end everything is as it was.
async fn operate(sandbox: &mut Sandbox) -> io::Result<()> {
    let operator = User::at(sandbox.urls(), sandbox.key());
    let platform = "/v1/pool/platforms/simulated";
    let share = format!("{platform}/providers/web/limit");
    let change = async |body: Value| operator.operate(Method::PATCH, platform, Some(body)).await;
    tokio::time::sleep(BETWEEN).await;
    change(json!({"limit": 5})).await;
    kill(sandbox, "pool-manager").await?;
    tokio::time::sleep(BETWEEN).await;
    change(json!({"limit": null, "permits": 1})).await;
    tokio::time::sleep(BETWEEN).await;
    change(json!({"permits": null, "draining": true})).await;
    tokio::time::sleep(BETWEEN).await;
    kill(sandbox, "queue").await?;
    change(json!({"draining": false})).await;
    operator.operate(Method::PUT, &share, Some(json!({"limit": 3}))).await;
    for slot in ["simulated-001", "simulated-002", "simulated-007"] {
        operator.operate(Method::POST, &format!("/v1/pool/slots/{slot}/cordon"), None).await;
    }
    tokio::time::sleep(BETWEEN).await;
    operator.operate(Method::DELETE, &share, None).await;
    for slot in ["simulated-007", "simulated-001", "simulated-002"] {
        operator.operate(Method::POST, &format!("/v1/pool/slots/{slot}/uncordon"), None).await;
    }
    Ok(())
}
