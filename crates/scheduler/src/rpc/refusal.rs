//! How a refusal is said: a sentence for people, and the same in parts for programs (`google.rpc.ErrorInfo`).

use std::collections::HashMap;
use std::time::Duration;

use greenroom_contracts::refusal::{DOMAIN, DUPLICATE, LIMIT};
use greenroom_domain::{BotId, Timestamp};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::quota::{Limit, Over};

/// When nobody knows how long the bots that are under way will be, it may be tried again after so long.
const TRY_AGAIN: Duration = Duration::from_secs(30);

/// A limit is reached.
pub fn over(over: &Over, now: Timestamp) -> Status {
    let Over { limit, value, used, waiting, retry_at } = over;
    let said = match limit {
        Limit::Daily => format!("the limit of {value} bots a day is reached: {used} were made today"),
        Limit::Concurrency if *waiting > 0 => format!(
            "the limit of {value} bots at a time is reached: {used} are under way, and {waiting} that are due wait for room"
        ),
        Limit::Concurrency => format!("the limit of {value} bots at a time is reached: {used} are under way"),
    };
    let wait = retry_at.and_then(|at| Duration::try_from(at.duration_since(now)).ok()).unwrap_or(TRY_AGAIN);
    let mut parts = HashMap::from([
        ("limit".to_owned(), limit.as_str().to_owned()),
        ("value".to_owned(), value.to_string()),
        ("used".to_owned(), used.to_string()),
    ]);
    parts.extend(retry_at.map(|at| ("retryAt".to_owned(), at.to_string())));
    let mut details = ErrorDetails::with_error_info(LIMIT, DOMAIN, parts);
    details.set_retry_info(Some(wait));
    Status::with_error_details(Code::ResourceExhausted, said, details)
}

/// Another bot is alive and has the same deduplication key.
pub fn duplicate(bot: BotId) -> Status {
    let said = format!("settings.deduplication_key: bot {bot} has the same, and is not over");
    let parts = HashMap::from([("botId".to_owned(), bot.to_string())]);
    let details = ErrorDetails::with_error_info(DUPLICATE, DOMAIN, parts);
    Status::with_error_details(Code::AlreadyExists, said, details)
}
