//! Ends, as an engine tells them.

use std::collections::HashMap;
use std::time::Duration;

use bollard::models::{ContainerSummary, ContainerSummaryStateEnum as State, EventMessage};
use bollard::query_parameters::EventsOptionsBuilder;
use futures::{Stream, StreamExt};
use greenroom_deployer::{Error, Names};
use greenroom_domain::RunnerId;

use crate::engine::Engine;
use crate::fleet::Fleet;
use crate::look;

/// Before an engine that went away is asked again.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// So long an engine may say nothing: a machine that is gone, or a way to it that forgot us, breaks nothing off.
const SILENCE: Duration = Duration::from_secs(60);

/// Between the word that a runner has ended and the first list that shows it so, an engine takes down its network and its files.
const A_MOMENT: Duration = Duration::from_secs(30);

/// Whoever may have ended, for ever. After every break it begins where it was, and looks at everything that is there: an engine
/// that was started again has forgotten what it told.
pub(crate) fn ends<'a>(fleet: &'a Fleet, engine: &'a Engine) -> impl Stream<Item = RunnerId> + Send + 'a {
    ends_within(fleet, engine, SILENCE)
}

fn ends_within<'a>(
    fleet: &'a Fleet,
    engine: &'a Engine,
    silence: Duration,
) -> impl Stream<Item = RunnerId> + Send + 'a {
    async_stream::stream! {
        let mut since: Option<String> = None;
        let mut pause = FIRST_PAUSE;
        loop {
            // A question is asked only when somebody waits for the answer: what ends between the look and the question is told
            // because of the moment from which on is asked.
            let from = match &since {
                Some(since) => Ok(since.clone()),
                None => now(engine).await,
            };
            match from {
                Ok(from) => {
                    since = Some(from.clone());
                    // Whoever cannot be asked what there is, is not listened to either: it would be missed.
                    if let (Ok(mut events), Ok(ended)) = (events(fleet, engine, &from).await, ended(fleet, engine).await) {
                        for runner in ended {
                            yield runner;
                        }
                        let silent = loop {
                            match tokio::time::timeout(silence, events.next()).await {
                                Ok(Some(Ok(event))) => {
                                    pause = FIRST_PAUSE;
                                    since = moment(&event).or(since);
                                    if let Some(runner) = runner_of(&event, &fleet.names) {
                                        yield runner;
                                    }
                                }
                                Ok(_) => break false,
                                Err(_) => break true,
                            }
                        };
                        if silent {
                            // Most often there was nothing to tell. One that is gone does not answer what is there, and is waited for.
                            pause = FIRST_PAUSE;
                            continue;
                        }
                    }
                    tracing::debug!(host.name = engine.entry.name, "docker event stream ended");
                }
                Err(error) => tracing::debug!(host.name = engine.entry.name, %error, "a Docker host tells nothing"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// A moment ago by the engine's own time, which need not be ours: it tells of an end before its lists show it.
async fn now(engine: &Engine) -> Result<String, Error> {
    let info = engine.info().await?;
    let now = look::time(info.system_time.as_deref());
    let now = now.ok_or_else(|| Error::Transient("the engine does not say what time it is".to_owned()))?;
    Ok(seconds((now - A_MOMENT).as_nanosecond()))
}

type Events = futures::stream::BoxStream<'static, Result<EventMessage, bollard::errors::Error>>;

async fn events(fleet: &Fleet, engine: &Engine, since: &str) -> Result<Events, Error> {
    let labels = fleet.names.ours().into_iter().map(|(name, value)| format!("{name}={value}"));
    let filters = HashMap::from([
        ("type".to_owned(), vec!["container".to_owned()]),
        ("event".to_owned(), vec!["die".to_owned(), "oom".to_owned()]),
        ("label".to_owned(), labels.collect::<Vec<_>>()),
    ]);
    let options = EventsOptionsBuilder::new().filters(&filters).since(since).build();
    let docker = engine.client().await?.clone();
    Ok(docker.events(Some(options)).boxed())
}

/// Who had ended before anybody listened.
async fn ended(fleet: &Fleet, engine: &Engine) -> Result<Vec<RunnerId>, Error> {
    let runners = fleet.runners(engine).await?;
    Ok(runners.into_iter().filter(|(_, container)| !runs(container)).map(|(runner, _)| runner).collect())
}

/// Whether a list's line says that it runs. Whatever is about to, or about to be removed, is worth a look.
pub(crate) fn runs(container: &ContainerSummary) -> bool {
    matches!(container.state, Some(State::RUNNING | State::PAUSED | State::RESTARTING | State::STOPPING))
}

/// The moment after it.
fn moment(event: &EventMessage) -> Option<String> {
    Some(seconds(i128::from(event.time_nano?) + 1))
}

/// As engines want it: with nine digits behind the point.
fn seconds(nanos: i128) -> String {
    format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000)
}

fn runner_of(event: &EventMessage, names: &Names) -> Option<RunnerId> {
    names.runner_of(event.actor.as_ref()?.attributes.as_ref()?.get("name")?)
}

#[cfg(test)]
mod tests {
    use bollard::models::EventActor;
    use std::sync::{Arc, Mutex};

    use axum::body::Body;
    use axum::http::Uri;
    use axum::{Router, response::IntoResponse};
    use futures::stream;
    use greenroom_domain::{Attempt, BotId, Installation, PlatformName};
    use tokio::net::TcpListener;

    use crate::address::Address;
    use crate::config::Config;

    use super::*;

    #[test]
    fn an_event_names_its_runner_and_its_moment() {
        let names = Names::new(Installation::new("one").expect("valid"), PlatformName::new("docker").expect("valid"));
        let runner = RunnerId::of_bot(BotId::generate(), Attempt::FIRST);
        let event = |name: &str| EventMessage {
            actor: Some(EventActor {
                attributes: Some([("name".to_owned(), name.to_owned())].into()),
                ..EventActor::default()
            }),
            time_nano: Some(1_700_000_000_000_000_006),
            ..EventMessage::default()
        };
        assert_eq!(runner_of(&event(&names.runner(runner)), &names), Some(runner));
        assert_eq!(runner_of(&event("one-warm-1"), &names), None, "it waits for a bot");
        assert_eq!(moment(&event("x")).as_deref(), Some("1700000000.000000007"));
        assert_eq!(moment(&EventMessage::default()), None);
    }

    /// An engine that tells of one end per question, and then nothing more on a connection that stays open.
    fn falls_silent(uri: &Uri, first: &str, second: &str) -> Body {
        let query = uri.query().unwrap_or_default();
        let told = |name: &str, time: u64| {
            let event = serde_json::json!({ "Actor": { "Attributes": { "name": name } }, "timeNano": time });
            let line = stream::iter([Ok::<_, std::io::Error>(format!("{event}\n"))]);
            Body::from_stream(line.chain(stream::pending()))
        };
        match uri.path() {
            path if path.ends_with("/version") => Body::from(r#"{"ApiVersion":"1.41"}"#),
            path if path.ends_with("/info") => Body::from(r#"{"SystemTime":"2026-11-04T10:00:00Z"}"#),
            path if path.ends_with("/events") && query.contains("since=1800000000.000000008") => told(second, 9),
            path if path.ends_with("/events") => told(first, 1_800_000_000_000_000_007),
            _ => Body::from("[]"),
        }
    }

    #[tokio::test]
    async fn an_engine_that_fell_silent_is_asked_again_from_where_it_was() {
        let names = Names::new(Installation::new("one").expect("valid"), PlatformName::new("docker").expect("valid"));
        let runners = [(); 2].map(|()| RunnerId::of_bot(BotId::generate(), Attempt::FIRST));
        let [first, second] = runners.map(|runner| names.runner(runner));
        let asked = Arc::new(Mutex::new(0));
        let seen = asked.clone();
        let answer = move |uri: Uri| {
            *seen.lock().expect("not poisoned") += usize::from(uri.path().ends_with("/events"));
            let body = falls_silent(&uri, &first, &second);
            async move { ([("content-type", "application/json")], body).into_response() }
        };
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let at = listener.local_addr().expect("bound");
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
        let fleet = Fleet::new(&Config::of(Address::Tcp(at.to_string()), "image"), names);
        let ends = ends_within(&fleet, &fleet.engines[0], Duration::from_millis(300)).take(2).collect::<Vec<_>>();
        let told = tokio::time::timeout(Duration::from_secs(60), ends).await.expect("told in the end");
        assert_eq!(told, runners);
        assert!(*asked.lock().expect("not poisoned") >= 2);
    }
}
