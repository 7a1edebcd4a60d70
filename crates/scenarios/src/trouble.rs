//! What can happen to a Greenroom.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::time::Duration;

use greenroom_testkit::story::User;
use greenroom_testkit::{Layout, Sandbox};
use reqwest::Method;
use serde_json::{Value, json};

/// Longer than the bus waits for a handler's word.
const PAUSE: Duration = Duration::from_secs(5);
/// How long a service stays away.
const AWAY: Duration = Duration::from_millis(700);
/// Between two troubles.
const BETWEEN: Duration = Duration::from_millis(800);

/// The services that may be killed, paused or doubled one by one.
const SERVICES: [&str; 8] =
    ["gateway", "accounts", "scheduler", "queue", "pool-manager", "deployer", "heartbeat-monitor", "recordings"];

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
    /// All of it but that.
    Combined,
}

impl Trouble {
    /// Every one.
    pub const ALL: [Self; 8] = [
        Self::None,
        Self::Kill,
        Self::Pause,
        Self::Double,
        Self::Postgres,
        Self::Nats,
        Self::Operators,
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
            Self::Combined => "combined",
        }
    }

    /// What the services are told for it: a small platform that everybody wants first, for half a second in this small time.
    #[must_use]
    pub fn settings(self) -> BTreeMap<String, String> {
        let chain = [
            ("PLATFORM_PRIORITY", "first,simulated"),
            ("FIRST_KIND", "simulated"),
            ("FIRST_BOT_LIMIT", "3"),
            ("FIRST_PERMITS", "2"),
            ("FIRST_QUEUE_TIMEOUT_MS", "10000"),
        ];
        let chain = chain.into_iter().filter(|_| self == Self::Operators);
        chain.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// Has it happen.
    ///
    /// # Errors
    /// When a process or a server cannot be treated so.
    pub async fn happen(self, sandbox: &mut Sandbox) -> io::Result<()> {
        match self {
            Self::None => {}
            Self::Kill => {
                for service in distinct(sandbox) {
                    kill(sandbox, service).await?;
                }
            }
            Self::Pause => {
                for service in distinct(sandbox) {
                    pause(sandbox, service).await?;
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

/// All in one, there is one process.
fn distinct(sandbox: &Sandbox) -> Vec<&'static str> {
    match sandbox.settings.layout {
        Layout::AllInOne => vec!["scheduler"],
        Layout::Split => SERVICES.to_vec(),
    }
}

async fn kill(sandbox: &mut Sandbox, service: &str) -> io::Result<()> {
    tokio::time::sleep(BETWEEN).await;
    sandbox.node_of(service).kill()?;
    tokio::time::sleep(AWAY).await;
    sandbox.node_of(service).start()
}

async fn pause(sandbox: &mut Sandbox, service: &str) -> io::Result<()> {
    tokio::time::sleep(BETWEEN).await;
    sandbox.node_of(service).pause()?;
    tokio::time::sleep(PAUSE).await;
    sandbox.node_of(service).resume()
}

/// What operators do on a busy day; in the end everything is as it was.
async fn operate(sandbox: &mut Sandbox) -> io::Result<()> {
    let operator = User::new(sandbox.url(), sandbox.key());
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
