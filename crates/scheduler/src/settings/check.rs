//! What a new bot may say, and an edit of one. The same for both doors; fields have protobuf's names, of which HTTP makes camelCase.
//!
//! A problem says what would be right and never what was given: it might be a meeting's address.

use greenroom_contracts::proto::v1::{
    CreateBotRequest, NewAutomaticLeave, NewBot, NewMeeting, NewResources, UpdateBotRequest,
};
use greenroom_contracts::text::unreadable;
use greenroom_contracts::{BadField, timestamp};
use greenroom_domain::bot::{START_LATE, latest_end, latest_start};
use greenroom_domain::network::{AllowedNetworks, local_name};
use greenroom_domain::time::before;
use greenroom_domain::{PROVIDERS, PlatformName, Timestamp};
use serde_json::Value;
use url::{Host, Url};

use crate::json::BadJson;

const LONGEST_URL: usize = 2_048;
const LONGEST_NAME: usize = 100;
const LONGEST_WORD: usize = 255;
const LONGEST_IMAGE: usize = 512;
/// In bytes.
const LARGEST_METADATA: usize = 16 << 10;
const MOST_PLATFORMS: usize = 16;
const MOST_RETRIES: u32 = 20;
const HIGHEST_PRIORITY: u32 = 10_000;
/// A day.
const LONGEST_MS: u64 = 24 * 3_600 * 1_000;

/// Checks everything, and names all that cannot be.
pub(crate) fn create(
    request: &CreateBotRequest,
    now: Timestamp,
    allowed: &AllowedNetworks,
) -> Result<(), Vec<BadField>> {
    let mut bad = Problems::default();
    bad.word("idempotency_key", &request.idempotency_key, LONGEST_WORD);
    // A repeat may come when its times have passed, and is answered with its bot. Who is repeated only the scheduler knows,
    // which looks at the times of all others.
    let now = Some(now).filter(|_| request.idempotency_key.is_empty());
    match &request.bot {
        Some(bot) => new_bot(&mut bad, bot, now, allowed),
        None => bad.add("bot", "is missing"),
    }
    if bad.0.is_empty() { Ok(()) } else { Err(bad.0) }
}

/// Checks what the mask names. How it goes with what the bot is already, the scheduler knows.
pub(crate) fn update(request: &UpdateBotRequest, allowed: &AllowedNetworks) -> Result<(), Vec<BadField>> {
    let mut bad = Problems::default();
    let nothing = NewBot::default();
    let bot = request.bot.as_ref().unwrap_or(&nothing);
    for path in request.update_mask.iter().flat_map(|mask| &mask.paths) {
        match path.split_once('.').unwrap_or((path, "")) {
            ("meeting", field) => match (&bot.meeting, field) {
                (None, _) => bad.add("meeting", "is missing"),
                (Some(of), "") => meeting(&mut bad, of, allowed),
                (Some(of), "provider") => provider(&mut bad, &of.provider),
                (Some(of), "url") => meeting_url(&mut bad, &of.url, allowed),
                (Some(of), "id") => bad.text("meeting.id", &of.id, LONGEST_WORD),
                (Some(of), "password") => bad.text("meeting.password", &of.password, LONGEST_WORD),
                (Some(_), field) => bad.add(format!("meeting.{field}"), "there is no such field"),
            },
            // What it does not name is absent or fine, and not read.
            ("automatic_leave", _) => automatic_leave(&mut bad, &bot.automatic_leave.unwrap_or_default()),
            ("resources", "" | "cpu_millis" | "memory_mb" | "cpu_limit_millis" | "memory_limit_mb") => {
                resources(&mut bad, &bot.resources.unwrap_or_default());
            }
            ("display_name", "") => display_name(&mut bad, &bot.display_name),
            ("image", "") => bad.word("image", &bot.image, LONGEST_IMAGE),
            ("start_time", "") if bot.start_time.is_none() => {
                bad.add("start_time", "cannot be taken away; POST …/deploy sends the bot now");
            }
            ("start_time" | "end_time", "") => times(&mut bad, bot, None),
            ("metadata_json", "") => metadata(&mut bad, "metadata_json", &bot.metadata_json),
            ("priority", "") => priority(&mut bad, bot.priority),
            ("platforms", "") => platforms(&mut bad, &bot.platforms),
            ("queue_timeout_ms", "") => bad.millis("queue_timeout_ms", bot.queue_timeout_ms),
            ("max_retries", "") => max_retries(&mut bad, bot.max_retries),
            ("recording_enabled" | "rejoin", "") => {}
            ("deduplication_key", "") => bad.add("deduplication_key", "cannot be changed"),
            _ => bad.add("update_mask", "names a field that is not there"),
        }
    }
    metadata(&mut bad, "metadata_patch_json", &request.metadata_patch_json);
    if bad.0.is_empty() { Ok(()) } else { Err(bad.0) }
}

fn new_bot(bad: &mut Problems, bot: &NewBot, now: Option<Timestamp>, allowed: &AllowedNetworks) {
    match &bot.meeting {
        Some(of) => meeting(bad, of, allowed),
        None => bad.add("meeting", "is missing"),
    }
    display_name(bad, &bot.display_name);
    bad.word("deduplication_key", &bot.deduplication_key, LONGEST_WORD);
    bad.word("image", &bot.image, LONGEST_IMAGE);
    times(bad, bot, now);
    if let Some(leave) = &bot.automatic_leave {
        automatic_leave(bad, leave);
    }
    if let Some(given) = &bot.resources {
        resources(bad, given);
    }
    metadata(bad, "metadata_json", &bot.metadata_json);
    priority(bad, bot.priority);
    platforms(bad, &bot.platforms);
    bad.millis("queue_timeout_ms", bot.queue_timeout_ms);
    max_retries(bad, bot.max_retries);
}

fn display_name(bad: &mut Problems, name: &str) {
    bad.text("display_name", name, LONGEST_NAME);
}

fn priority(bad: &mut Problems, given: Option<u32>) {
    if given.is_some_and(|priority| priority > HIGHEST_PRIORITY) {
        bad.add("priority", format!("must be 0 to {HIGHEST_PRIORITY}"));
    }
}

fn max_retries(bad: &mut Problems, given: Option<u32>) {
    if given.is_some_and(|retries| retries > MOST_RETRIES) {
        bad.add("max_retries", format!("must be 0 to {MOST_RETRIES}"));
    }
}

fn provider(bad: &mut Problems, provider: &str) {
    let expected = || format!("must be one of {}", PROVIDERS.join(", "));
    if provider.is_empty() {
        bad.add("meeting.provider", format!("is missing; {}", expected()));
    } else if !PROVIDERS.contains(&provider) {
        bad.add("meeting.provider", expected());
    }
}

fn meeting_url(bad: &mut Problems, url: &str, allowed: &AllowedNetworks) {
    if !url.is_empty()
        && let Err(problem) = address(url, allowed)
    {
        bad.add("meeting.url", problem);
    }
}

fn meeting(bad: &mut Problems, meeting: &NewMeeting, allowed: &AllowedNetworks) {
    provider(bad, &meeting.provider);
    meeting_url(bad, &meeting.url, allowed);
    if meeting.url.is_empty() && (meeting.provider == "web" || meeting.id.is_empty()) {
        bad.add("meeting.url", "is missing");
    }
    bad.text("meeting.id", &meeting.id, LONGEST_WORD);
    bad.text("meeting.password", &meeting.password, LONGEST_WORD);
}

/// Names other than `localhost` are not resolved here: their addresses are checked by the runner, whenever its browser
/// connects.
fn address(text: &str, allowed: &AllowedNetworks) -> Result<(), String> {
    if text.len() > LONGEST_URL {
        return Err(format!("must not be longer than {LONGEST_URL} bytes"));
    }
    // The parser would take these out without a word.
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("must not contain spaces or control characters".to_owned());
    }
    let url = Url::parse(text).map_err(|_| "must be an address, as https://example.com/meeting")?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("must begin with http:// or https://".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not contain a user name or a password".to_owned());
    }
    let checked = match url.host() {
        // As a browser reads it: 2130706433, 0x7f.1 and 127.1 are 127.0.0.1.
        Some(Host::Ipv4(v4)) => allowed.check(v4.into()),
        Some(Host::Ipv6(v6)) => allowed.check(v6.into()),
        Some(Host::Domain(name)) if !name.is_empty() => match local_name(name) {
            Some([v4, v6]) => allowed.check(v4).or(allowed.check(v6)),
            None => Ok(()),
        },
        Some(Host::Domain(_)) | None => return Err("must name a host".to_owned()),
    };
    checked.map_err(|kind| {
        format!("must not be a {kind} address; MEETING_ADDRESSES_ALLOWED lists the networks that an operator allows")
    })
}

/// `now`: for whom it matters that they have not passed.
fn times(bad: &mut Problems, bot: &NewBot, now: Option<Timestamp>) {
    let mut time = |field: &str, at: Option<&prost_types::Timestamp>| match at.map(|at| timestamp(field, at)) {
        None => None,
        Some(Ok(at)) => Some(at),
        Some(Err(problem)) => {
            bad.0.push(problem);
            None
        }
    };
    let start = time("start_time", bot.start_time.as_ref());
    let end = time("end_time", bot.end_time.as_ref());
    if start.zip(now).is_some_and(|(start, now)| start < before(now, START_LATE)) {
        bad.add("start_time", "is in the past; leave it out to start now");
    }
    if let Some((start, latest)) = start.zip(now.map(latest_start))
        && start > latest
    {
        bad.add("start_time", format!("must not be more than five years ahead; the latest is {latest:.0}"));
    }
    match (start, end) {
        (Some(start), Some(end)) if end > latest_end(start) => {
            bad.add("end_time", "must not be more than a year after the start time");
        }
        (None, Some(end)) if now.is_some_and(|now| end > latest_end(now)) => {
            bad.add("end_time", "must not be more than a year ahead without a start time");
        }
        (_, Some(end)) if now.is_some_and(|now| end <= now) => bad.add("end_time", "is in the past"),
        (Some(start), Some(end)) if end <= start => bad.add("end_time", "must be after the start time"),
        _ => {}
    }
}

fn automatic_leave(bad: &mut Problems, leave: &NewAutomaticLeave) {
    let NewAutomaticLeave {
        waiting_room_timeout_ms,
        no_one_joined_timeout_ms,
        everyone_left_timeout_ms,
        inactivity_timeout_ms,
        max_duration_ms,
    } = leave;
    bad.millis("automatic_leave.waiting_room_timeout_ms", *waiting_room_timeout_ms);
    bad.millis("automatic_leave.no_one_joined_timeout_ms", *no_one_joined_timeout_ms);
    bad.millis("automatic_leave.everyone_left_timeout_ms", *everyone_left_timeout_ms);
    bad.millis("automatic_leave.inactivity_timeout_ms", *inactivity_timeout_ms);
    bad.millis("automatic_leave.max_duration_ms", *max_duration_ms);
}

/// What the bounds are, the scheduler knows; here is what can be said without them.
fn resources(bad: &mut Problems, given: &NewResources) {
    let NewResources { cpu_millis, memory_mb, cpu_limit_millis, memory_limit_mb } = *given;
    for (field, given) in [
        ("resources.cpu_millis", cpu_millis),
        ("resources.memory_mb", memory_mb),
        ("resources.cpu_limit_millis", cpu_limit_millis),
        ("resources.memory_limit_mb", memory_limit_mb),
    ] {
        if given == Some(0) {
            bad.add(field, "must not be 0; leave it out for the default");
        }
    }
    for (field, request, limit) in [
        ("resources.cpu_limit_millis", cpu_millis, cpu_limit_millis),
        ("resources.memory_limit_mb", memory_mb, memory_limit_mb),
    ] {
        if request.zip(limit).is_some_and(|(request, limit)| 0 < limit && limit < request) {
            bad.add(field, "must not be below what the runner asks for");
        }
    }
}

fn metadata(bad: &mut Problems, field: &str, json: &str) {
    if json.is_empty() {
        return;
    }
    if json.len() > LARGEST_METADATA {
        return bad.add(field, format!("must not be larger than {} KiB", LARGEST_METADATA >> 10));
    }
    match crate::json::parse(json.as_bytes()) {
        Ok(Value::Object(object)) => {
            // Postgres holds every character but this one.
            if object.iter().any(|(name, value)| name.contains('\0') || has_nul(value)) {
                bad.add(field, "must not contain the character U+0000");
            }
        }
        Err(BadJson::Field(BadField { field: inner, problem })) => match inner.as_str() {
            "(body)" => bad.add(field, problem),
            inner => bad.add(format!("metadata.{inner}"), problem),
        },
        Ok(_) | Err(BadJson::Malformed(_)) => bad.add(field, "must be a JSON object"),
    }
}

fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(object) => object.iter().any(|(name, value)| name.contains('\0') || has_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn platforms(bad: &mut Problems, platforms: &[String]) {
    if platforms.len() > MOST_PLATFORMS {
        return bad.add("platforms", format!("must not name more than {MOST_PLATFORMS}"));
    }
    for (index, platform) in platforms.iter().enumerate() {
        if PlatformName::new(platform.clone()).is_err() {
            bad.add(format!("platforms[{index}]"), "must be a platform's name: a-z, 0-9 and -, at most 20 characters");
        } else if platforms[..index].contains(platform) {
            bad.add(format!("platforms[{index}]"), "is there twice");
        }
    }
}

#[derive(Default)]
struct Problems(Vec<BadField>);

impl Problems {
    fn add(&mut self, field: impl Into<String>, problem: impl ToString) {
        self.0.push(BadField::new(field, problem));
    }

    fn text(&mut self, field: &str, text: &str, longest: usize) {
        if text.chars().count() > longest {
            self.add(field, format!("must not be longer than {longest} characters"));
        } else if let Some(problem) = unreadable(text) {
            self.add(field, problem);
        }
    }

    fn word(&mut self, field: &str, text: &str, longest: usize) {
        if text.chars().any(char::is_whitespace) {
            self.add(field, "must not contain spaces");
        } else {
            self.text(field, text, longest);
        }
    }

    fn millis(&mut self, field: &str, millis: Option<u64>) {
        if millis.is_some_and(|millis| millis > LONGEST_MS) {
            self.add(field, format!("must be 0 to {LONGEST_MS} (a day)"));
        }
    }
}

#[cfg(test)]
mod tests;
