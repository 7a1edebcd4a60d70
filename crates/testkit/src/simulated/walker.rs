//! A runner without a browser as a process of its own, for platforms that really run something: a container, a pod, a task.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use greenroom_domain::{Attempt, InstanceId, OwnerKind, RunnerId};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tonic::transport::Endpoint;

use super::facts::{Facts, What};
use super::life::{Life, Wish};
use super::link::Link;
use super::script::Script;

/// The variable that says how it lives: a [`Script`] as JSON.
pub const SCRIPT: &str = "WALKER_SCRIPT";
/// The variable that says where facts are written down, `host:port`.
pub const FACTS: &str = "WALKER_FACTS";
/// The variable that says on which platform it is.
pub const PLATFORM: &str = "WALKER_PLATFORM";

/// Lives the life that the environment says, and ends as it ends.
pub async fn walk() -> ExitCode {
    let variable = |name: &str| std::env::var(name).map_err(|_| format!("{name} is not set"));
    match prepare(variable) {
        Ok((life, wishes)) => {
            let ended = tokio::spawn(hear_signals(wishes));
            let (facts, platform, runner, instance) =
                (life.facts.clone(), life.platform.clone(), life.runner, life.link.instance);
            facts.tell(&platform, runner, Some(instance), What::Started);
            let exit = life.live().await;
            facts.tell(&platform, runner, Some(instance), What::Exited { exit });
            ended.abort();
            ExitCode::from(exit.code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
        }
        Err(problem) => {
            eprintln!("walker: {problem}");
            ExitCode::from(2)
        }
    }
}

fn prepare(variable: impl Fn(&str) -> Result<String, String>) -> Result<(Life, watch::Sender<Wish>), String> {
    let plain = |name: &str, error: &dyn std::fmt::Display| format!("{name}: {error}");
    let id = variable("BOT_ID")?.parse().map_err(|error| plain("BOT_ID", &error))?;
    let attempt = variable("ATTEMPT")?.parse().map_err(|error| plain("ATTEMPT", &error))?;
    let runner = RunnerId { kind: OwnerKind::Bot, id, attempt: Attempt(attempt) };
    let channel = Endpoint::from_shared(variable("GREENROOM_URL")?)
        .map_err(|error| plain("GREENROOM_URL", &error))?
        .connect_timeout(Duration::from_secs(5))
        .connect_lazy();
    let link = Link::new(channel, &variable("GREENROOM_TOKEN")?, runner, InstanceId::generate())
        .ok_or("GREENROOM_TOKEN is none")?;
    let script: Script = serde_json::from_str(&variable(SCRIPT)?).map_err(|error| plain(SCRIPT, &error))?;
    let (wishes, wish) = watch::channel(Wish::Stay);
    let facts = Arc::new(Facts::There(variable(FACTS)?));
    let platform = variable(PLATFORM)?;
    Ok((Life { script: Arc::new(script), facts, platform, runner, link, number: 1, wish }, wishes))
}

/// SIGTERM asks it to leave.
async fn hear_signals(wishes: watch::Sender<Wish>) {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return };
    while terminate.recv().await.is_some() {
        wishes.send_replace(Wish::Leave("terminated"));
    }
}
