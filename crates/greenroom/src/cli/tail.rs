//! `greenroom tail`: the bus, readable.

use clap::Args;
use futures::StreamExt;
use greenroom_chassis::Settings;
use serde_json::Value;

use super::shown::{say, say_json, shown};
use crate::{Error, Platforms};

#[derive(Debug, Args)]
pub struct Tail {
    /// Only what is said about this id (a bot's, say).
    #[arg(long)]
    subject: Option<String>,
    /// Whole messages, as they are.
    #[arg(long)]
    json: bool,
}

impl Tail {
    pub async fn run(self, settings: Settings, platforms: &Platforms) -> Result<(), Error> {
        let bus = super::bus(settings, platforms).await?;
        // Streams are fed from plain subjects, so whoever listens hears it all, from now on.
        let mut heard = bus.listen_lossy(format!("{}.>", bus.installation())).await?;
        while let Some((subject, _, body)) = heard.next().await {
            let Ok(message) = serde_json::from_slice::<Value>(&body) else { continue };
            let about = message["subject"].as_str().unwrap_or_default();
            if self.subject.as_deref().is_some_and(|wanted| wanted != about) {
                continue;
            }
            if self.json {
                say_json(&message.to_string());
                continue;
            }
            let time = message["time"].as_str().and_then(|time| time.split('T').nth(1)).unwrap_or_default();
            let about = shown(about);
            let short = subject.split_once('.').map_or(subject.as_str(), |(_, rest)| rest);
            let attempt = message["attempt"].as_u64().map(|attempt| format!("#{attempt}")).unwrap_or_default();
            say(format!("{:>16.15}  {short:<36} {about}{attempt}  {}", time, shown(&summary(&message["data"]))));
        }
        Ok(())
    }
}

/// What a person wants to see of a message's data.
fn summary(data: &Value) -> String {
    let shown = ["state", "previous", "reason", "platform", "slot", "what", "detail", "exit", "observed", "provider"];
    shown
        .iter()
        .filter_map(|name| data.get(name).filter(|value| !value.is_null()).map(|value| (name, value)))
        .map(|(name, value)| format!("{name}={}", value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
        .collect::<Vec<_>>()
        .join(" ")
}
