//! The bounds of a bot's settings.
//!
//! A problem says what would be right and never what was given: it might be a meeting's address.

use greenroom_contracts::json::{self, BadJson};
use greenroom_contracts::proto::internal::v1::Caller;
use greenroom_contracts::proto::v1::{AutomaticLeave, BotSettings, Meeting, Resources};
use greenroom_contracts::text::unreadable;
use greenroom_contracts::{BadField, timestamp};
use greenroom_domain::bot::{START_LATE, latest_end, latest_start};
use greenroom_domain::network::{AllowedNetworks, local_name};
use greenroom_domain::time::before;
use greenroom_domain::{PROVIDERS, PlatformName, Timestamp};
use serde_json::Value;
use url::{Host, Url};

use crate::config::Defaults;

const LONGEST_URL: usize = 2_048;
const LONGEST_NAME: usize = 100;
const LONGEST_WORD: usize = 255;
const LONGEST_IMAGE: usize = 512;
/// In bytes.
pub const LARGEST_METADATA: usize = 16 << 10;
const MOST_PLATFORMS: usize = 16;
/// Most bytes of images that an error lists.
const LONGEST_LIST: usize = 300;
const MOST_RETRIES: u32 = 20;
const HIGHEST_PRIORITY: u32 = 10_000;
/// A day.
pub const LONGEST_MS: u64 = 24 * 3_600 * 1_000;

/// The values by which settings are checked.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    /// The caller, whose plan and images bound the settings.
    pub caller: &'a Caller,
    /// The platforms that there are.
    pub platforms: &'a [PlatformName],
    /// Networks that meetings may be in although their addresses are not public.
    pub allowed_networks: &'a AllowedNetworks,
    /// The defaults.
    pub defaults: &'a Defaults,
    /// The time of the request.
    pub now: Timestamp,
    /// Whether the bot is to be made: its times must not have passed.
    pub is_new: bool,
}

/// Checks an idempotency key.
pub fn idempotency_key(key: &str) -> Vec<BadField> {
    let mut bad = Problems::default();
    bad.word("idempotency_key", key, LONGEST_WORD);
    bad.0
}

/// Checks platforms that stand in a request by themselves.
pub fn check_platforms(given: &[String], there_are: &[PlatformName]) -> Vec<BadField> {
    let mut bad = Problems::default();
    platforms(&mut bad, "platforms", given, there_are);
    bad.0
}

/// Checks everything, and names all that cannot be.
pub fn check(settings: &BotSettings, terms: &Terms<'_>) -> Vec<BadField> {
    let mut bad = Problems::default();
    match &settings.meeting {
        Some(of) => meeting(&mut bad, of, terms.allowed_networks),
        None => bad.add("settings.meeting", "is missing"),
    }
    bad.text("settings.display_name", &settings.display_name, LONGEST_NAME);
    bad.word("settings.deduplication_key", &settings.deduplication_key, LONGEST_WORD);
    image(&mut bad, &settings.image, terms.caller);
    times(&mut bad, settings, Some(terms.now).filter(|_| terms.is_new));
    if let Some(leave) = &settings.automatic_leave {
        automatic_leave(&mut bad, leave);
    }
    if let Some(given) = &settings.resources {
        resources(&mut bad, given);
    }
    bad.0.extend(metadata(&settings.metadata).err());
    priority(&mut bad, settings.priority, terms.caller);
    platforms(&mut bad, "settings.platforms", &settings.platforms, terms.platforms);
    bad.millis("settings.queue_timeout_ms", settings.queue_timeout_ms);
    if settings.max_retries.is_some_and(|retries| retries > MOST_RETRIES) {
        bad.add("settings.max_retries", format!("must be 0 to {MOST_RETRIES}"));
    }
    bad.0
}

/// The image that is named instead of its provider's: one that the tenant may use, or any for an operator's key. Whoever names an
/// image names what runs on the platform's machines.
fn image(bad: &mut Problems, image: &str, caller: &Caller) {
    let is_allowed = |allowed: &String| match allowed.strip_suffix('*') {
        Some(beginning) => image.starts_with(beginning),
        None => image == allowed,
    };
    bad.word("settings.image", image, LONGEST_IMAGE);
    // It would leave the folder that a list allows.
    if image.split('/').any(|part| matches!(part, "." | "..")) {
        bad.add("settings.image", "must not have . or .. between slashes");
    }
    if image.is_empty() || caller.operator || caller.images.iter().any(is_allowed) {
        return;
    }
    if caller.images.is_empty() {
        bad.add("settings.image", "must be left out: no images are allowed to this tenant but its provider's");
    } else {
        let mut left = LONGEST_LIST;
        let shown = caller.images.iter().take_while(|image| {
            let fits = image.len() <= left;
            left = left.saturating_sub(image.len());
            fits
        });
        let shown: Vec<&str> = shown.map(String::as_str).collect();
        let more = caller.images.len() - shown.len();
        let list = match (shown.is_empty(), more) {
            (false, 0) => shown.join(", "),
            (false, _) => format!("{} ({more} more are not shown)", shown.join(", ")),
            (true, _) => format!("{more}, too long to be shown here"),
        };
        bad.add("settings.image", format!("must be one that this tenant may use: {list}"));
    }
}

/// Lower is first: the plan's, or one that leaves others their turn.
fn priority(bad: &mut Problems, given: Option<u32>, caller: &Caller) {
    let plans = caller.priority;
    match given {
        Some(given) if given > HIGHEST_PRIORITY => {
            bad.add("settings.priority", format!("must be 0 to {HIGHEST_PRIORITY}"));
        }
        Some(given) if given < plans && !caller.operator => {
            bad.add("settings.priority", format!("must not be lower than {plans}, which is your plan's"));
        }
        _ => {}
    }
}

fn provider(bad: &mut Problems, provider: &str) {
    let expected = || format!("must be one of {}", PROVIDERS.join(", "));
    if provider.is_empty() {
        bad.add("settings.meeting.provider", format!("is missing; {}", expected()));
    } else if !PROVIDERS.contains(&provider) {
        bad.add("settings.meeting.provider", expected());
    }
}

fn meeting_url(bad: &mut Problems, url: &str, allowed: &AllowedNetworks) {
    if !url.is_empty()
        && let Err(problem) = address(url, allowed)
    {
        bad.add("settings.meeting.url", problem);
    }
}

fn meeting(bad: &mut Problems, meeting: &Meeting, allowed: &AllowedNetworks) {
    provider(bad, &meeting.provider);
    meeting_url(bad, &meeting.url, allowed);
    if meeting.url.is_empty() && (meeting.provider == "web" || meeting.id.is_empty()) {
        bad.add("settings.meeting.url", "is missing");
    }
    bad.text("settings.meeting.id", &meeting.id, LONGEST_WORD);
    bad.text("settings.meeting.password", &meeting.password, LONGEST_WORD);
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
fn times(bad: &mut Problems, bot: &BotSettings, now: Option<Timestamp>) {
    let mut time = |field: &str, at: Option<&prost_types::Timestamp>| match at.map(|at| timestamp(field, at)) {
        None => None,
        Some(Ok(at)) => Some(at),
        Some(Err(problem)) => {
            bad.0.push(problem);
            None
        }
    };
    let start = time("settings.start_time", bot.start_time.as_ref());
    let end = time("settings.end_time", bot.end_time.as_ref());
    if start.zip(now).is_some_and(|(start, now)| start < before(now, START_LATE)) {
        bad.add("settings.start_time", "is in the past; leave it out to start now");
    }
    if let Some((start, latest)) = start.zip(now.map(latest_start))
        && start > latest
    {
        bad.add("settings.start_time", format!("must not be more than five years ahead; the latest is {latest:.0}"));
    }
    match (start, end) {
        (Some(start), Some(end)) if end > latest_end(start) => {
            bad.add("settings.end_time", "must not be more than a year after the start time");
        }
        (None, Some(end)) if now.is_some_and(|now| end > latest_end(now)) => {
            bad.add("settings.end_time", "must not be more than a year ahead without a start time");
        }
        (_, Some(end)) if now.is_some_and(|now| end <= now) => bad.add("settings.end_time", "is in the past"),
        // Of a bot that was made before, the state says whether its start still counts.
        (Some(start), Some(end)) if now.is_some() && end <= start => {
            bad.add("settings.end_time", "must be after the start time")
        }
        _ => {}
    }
}

fn automatic_leave(bad: &mut Problems, leave: &AutomaticLeave) {
    let AutomaticLeave {
        waiting_room_timeout_ms,
        no_one_joined_timeout_ms,
        everyone_left_timeout_ms,
        inactivity_timeout_ms,
        max_duration_ms,
    } = leave;
    bad.millis("settings.automatic_leave.waiting_room_timeout_ms", *waiting_room_timeout_ms);
    bad.millis("settings.automatic_leave.no_one_joined_timeout_ms", *no_one_joined_timeout_ms);
    bad.millis("settings.automatic_leave.everyone_left_timeout_ms", *everyone_left_timeout_ms);
    bad.millis("settings.automatic_leave.inactivity_timeout_ms", *inactivity_timeout_ms);
    bad.millis("settings.automatic_leave.max_duration_ms", *max_duration_ms);
}

/// The installation's bounds are checked when the size is chosen; this needs none of them.
fn resources(bad: &mut Problems, given: &Resources) {
    let Resources { cpu_millis, memory_mb, cpu_limit_millis, memory_limit_mb } = *given;
    for (field, given) in [
        ("settings.resources.cpu_millis", cpu_millis),
        ("settings.resources.memory_mb", memory_mb),
        ("settings.resources.cpu_limit_millis", cpu_limit_millis),
        ("settings.resources.memory_limit_mb", memory_limit_mb),
    ] {
        if given == Some(0) {
            bad.add(field, "must not be 0; leave it out for the default");
        }
    }
    for (field, request, limit) in [
        ("settings.resources.cpu_limit_millis", cpu_millis, cpu_limit_millis),
        ("settings.resources.memory_limit_mb", memory_mb, memory_limit_mb),
    ] {
        if request.zip(limit).is_some_and(|(request, limit)| 0 < limit && limit < request) {
            bad.add(field, "must not be below what the runner asks for");
        }
    }
}

/// Checks metadata, or a patch of them.
pub fn metadata(json: &str) -> Result<(), BadField> {
    const FIELD: &str = "settings.metadata";
    let bad = |problem: String| Err(BadField::new(FIELD, problem));
    if json.is_empty() {
        return Ok(());
    }
    if json.len() > LARGEST_METADATA {
        return bad(format!("must not be larger than {} KiB", LARGEST_METADATA >> 10));
    }
    match json::parse(json.as_bytes()) {
        // Postgres holds every character but this one.
        Ok(Value::Object(object)) if object.iter().any(|(name, value)| name.contains('\0') || has_nul(value)) => {
            bad("must not contain the character U+0000".to_owned())
        }
        Ok(Value::Object(_)) => Ok(()),
        Err(BadJson::Field(BadField { field, problem })) if field == "(body)" => bad(problem),
        Err(BadJson::Field(BadField { field, problem })) => Err(BadField::new(format!("{FIELD}.{field}"), problem)),
        Ok(_) | Err(BadJson::Malformed(_)) => bad("must be a JSON object".to_owned()),
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

fn platforms(bad: &mut Problems, field: &str, given: &[String], there_are: &[PlatformName]) {
    if given.len() > MOST_PLATFORMS {
        return bad.add(field, format!("must not name more than {MOST_PLATFORMS}"));
    }
    for (index, name) in given.iter().enumerate() {
        let field = format!("{field}[{index}]");
        match PlatformName::new(name.clone()) {
            Err(_) => bad.add(field, "must be a platform's name: a-z, 0-9 and -, at most 20 characters"),
            Ok(_) if given[..index].contains(name) => bad.add(field, "is there twice"),
            Ok(name) if !there_are.contains(&name) => {
                let known: Vec<_> = there_are.iter().map(PlatformName::as_str).collect();
                bad.add(field, format!("there is no platform {name}; there is {}", known.join(", ")));
            }
            Ok(_) => {}
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
