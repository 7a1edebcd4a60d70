//! `/v1/events`: server-sent events.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event as Sent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::StreamExt as _;
use greenroom_contracts::BadField;
use greenroom_domain::BotId;

use super::part::Query;
use super::problem::Problem;
use crate::core::Core;
use crate::events::{Cursor, Seen};
use crate::keys::Client;

/// What browsers and other readers send when they come back; it wins over the address they came to first.
const LAST_EVENT_ID: &str = "last-event-id";

pub(super) async fn get(
    State(core): State<Arc<Core>>,
    client: Client,
    headers: HeaderMap,
    mut query: Query,
) -> Result<Response, Problem> {
    let expected = "must be an event's id, as it was given";
    let asked: Option<Cursor> = query.take("cursor", expected);
    let bot: Option<BotId> = query.take("bot", "must be a bot's id");
    query.finish()?;
    let last = match headers.get(LAST_EVENT_ID).filter(|last| !last.is_empty()) {
        None => None,
        Some(last) => {
            let last = last.to_str().ok().and_then(|last| last.parse().ok());
            Some(last.ok_or_else(|| BadField::new("Last-Event-ID", expected))?)
        }
    };
    if let Some(bot) = bot {
        // Of an unknown bot there will never be an event.
        core.bots.get(&client, bot).await?;
    }
    // Known before the answer begins: what happens after it is not missed, even if the line breaks before the first event.
    let (after, events) = core.events.watch(client.tenant, bot, last.or(asked), core.event_keep_alive).await?;
    let first = Sent::default().id(after.to_string()).comment("from here on");
    let events = events.filter_map(|seen| std::future::ready(sent(&seen)));
    let events = futures::stream::iter([first]).chain(events).map(Ok::<_, Infallible>);
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(core.event_keep_alive)).into_response())
}

/// An event with the same bytes as on the bus; while there is none, the place alone, which readers send when they come back.
fn sent(seen: &Seen) -> Option<Sent> {
    let event = match seen {
        Seen::Event(event) => event,
        Seen::Place(place) => return Some(Sent::default().id(place.to_string()).comment("nothing new")),
    };
    let json = std::str::from_utf8(&event.json).ok()?;
    if json.contains('\r') || event.kind.contains(['\r', '\n']) {
        // Not of our making: our writers put no line ends into JSON.
        return None;
    }
    Some(Sent::default().id(event.cursor.to_string()).event(&event.kind).data(json))
}
