//! Looks at the platform from inside a runner, for `greenroom platforms check --inside`: whether names can be looked up, the
//! gateway answers and uploads would be kept. It is never admitted and sees no meeting.

use std::time::Duration;

use greenroom_contracts::probe::Seen;
use tokio::signal::unix::{SignalKind, signal};
use tonic::transport::Uri;

use crate::config::Settings;
use crate::link::{Error, Link};

const LOOK_UP: Duration = Duration::from_secs(5);
/// Longer than any platform takes to show a line.
const READ: Duration = Duration::from_secs(60);

/// Looks, and says what it saw.
pub async fn probe(settings: &Settings, link: &Link) -> Vec<Seen> {
    let names = names(&settings.gateway).await;
    if !names.fine {
        return vec![names];
    }
    let (gateway, storage) = match link.probe().await {
        Ok(problem) if problem.is_empty() => (
            Seen::fine("gateway", "it answers, and takes our token"),
            Some(Seen::fine("storage", "an upload would be kept")),
        ),
        Ok(problem) => (
            Seen::fine("gateway", "it answers, and takes our token"),
            Some(Seen::wrong(
                "storage",
                problem,
                "look at RECORDINGS_DIR of the recordings service, its rights and its disk",
            )),
        ),
        Err(error) => {
            let advice = match error {
                Error::NotOurs(_) => "the gateway has another GREENROOM_SECRET than whoever checks",
                Error::Address => "RUNNER_GATEWAY_URL is no address",
                Error::Refused(_) => "the gateway is of an older version",
                Error::Away(_) => {
                    "RUNNER_GATEWAY_URL has to be an address that runners reach: look at HTTP_ADDR, at firewalls and network policies"
                }
            };
            (Seen::wrong("gateway", error.to_string(), advice), None)
        }
    };
    [names, gateway].into_iter().chain(storage).collect()
}

/// Where a runner that has ended is removed at once, or its log goes with it, nobody could read what was told: it stays until it is
/// asked to end, and not for ever.
pub async fn wait_to_be_read() {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return };
    let _ = tokio::time::timeout(READ, terminate.recv()).await;
}

async fn names(gateway: &str) -> Seen {
    let advice = "look at the name in RUNNER_GATEWAY_URL, and at the DNS of the runners' network";
    let uri = gateway.parse::<Uri>().ok();
    let Some((host, port)) = uri.as_ref().and_then(|uri| Some((uri.host()?, uri.port_u16().unwrap_or(443)))) else {
        return Seen::wrong("dns", "GREENROOM_URL is no address", advice);
    };
    match tokio::time::timeout(LOOK_UP, tokio::net::lookup_host((host, port))).await {
        Ok(Ok(mut found)) => match found.next() {
            Some(address) => Seen::fine("dns", format!("{host} is {}", address.ip())),
            None => Seen::wrong("dns", format!("{host} has no address"), advice),
        },
        Ok(Err(error)) => Seen::wrong("dns", format!("{host}: {error}"), advice),
        Err(_) => Seen::wrong("dns", format!("{host}: no answer within {} s", LOOK_UP.as_secs()), advice),
    }
}
