//! From what a caller asks to a bot: defaults filled in, bounds held. The gateway has checked the words; what only the
//! scheduler knows is checked here. Fields are called as protobuf calls them: the gateway's HTTP door has names of its own.

use std::time::Duration;

use greenroom_contracts::proto::internal::v1::Caller;
use greenroom_contracts::proto::v1::{CreateBotRequest, NewBot};
use greenroom_contracts::{BadField, timestamp};
use greenroom_domain::bot::{Bot, BotState, Policy, START_LATE, latest_end, latest_start};
use greenroom_domain::time::before;
use greenroom_domain::{BotId, PlatformName, Provider, TenantId, Timestamp};

use crate::Config;
use crate::config::Defaults;
use crate::merge_patch;
use crate::rows::{Details, Stored};
use crate::sizes::Sizes;
use crate::sizing::{Asked, Own};

/// Longest time a caller may ask for anything.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
const MOST_RETRIES: u32 = 20;
const HIGHEST_PRIORITY: u32 = 10_000;
/// In bytes, as at the gateway.
const LARGEST_METADATA: usize = 16 << 10;

pub fn duration(field: &str, given: Option<u64>, default: Duration) -> Result<Duration, BadField> {
    let duration = given.map_or(default, Duration::from_millis);
    if duration > LONGEST {
        return Err(BadField::new(field, "must not be more than a day (86400000)"));
    }
    Ok(duration)
}

/// A time-out of the bot's own, where 0 says never: as long as anything may be asked for. Something has to end a runner that
/// nobody can reach.
pub fn or_never(field: &str, given: Option<u64>, default: Duration) -> Result<Duration, BadField> {
    let duration = duration(field, given, default)?;
    Ok(if duration.is_zero() { LONGEST } else { duration })
}

/// In whole microseconds, as Postgres keeps it: the bot that is answered with is the bot that is read later.
pub fn micros(at: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at)
}

/// Postgres keeps no NUL, and one caller's text must not spoil the statement that others share.
pub fn storable(bot: &NewBot) -> Result<(), BadField> {
    let meeting = bot.meeting.clone().unwrap_or_default();
    for (field, text) in [
        ("display_name", &bot.display_name),
        ("image", &bot.image),
        ("metadata_json", &bot.metadata_json),
        ("deduplication_key", &bot.deduplication_key),
        ("meeting.url", &meeting.url),
        ("meeting.id", &meeting.id),
        ("meeting.password", &meeting.password),
    ] {
        if text.contains('\0') {
            return Err(BadField::new(field, "must not contain a NUL"));
        }
    }
    Ok(())
}

/// The platforms to try, in order. Empty: what is the order when it is due.
pub fn chain(names: &[String], config: &Config) -> Result<Vec<PlatformName>, BadField> {
    let mut chain = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let field = format!("platforms[{index}]");
        let name = PlatformName::new(name.clone()).map_err(|error| BadField::new(&field, error))?;
        if !config.platforms.contains(&name) {
            let known: Vec<_> = config.platforms.iter().map(PlatformName::as_str).collect();
            return Err(BadField::new(field, format!("there is no platform {name}; there is {}", known.join(", "))));
        }
        if chain.contains(&name) {
            return Err(BadField::new(field, "stands there twice"));
        }
        chain.push(name);
    }
    Ok(chain)
}

/// How many times a failure that may pass is tried again.
pub fn max_retries(given: Option<u32>, defaults: &Defaults) -> Result<u32, BadField> {
    let max_retries = given.unwrap_or(defaults.max_retries);
    if max_retries > MOST_RETRIES {
        return Err(BadField::new("max_retries", format!("must not be more than {MOST_RETRIES}")));
    }
    Ok(max_retries)
}

/// Lower is first: the plan's, or one that leaves others their turn.
pub fn priority(caller: &Caller, given: Option<u32>) -> Result<u32, BadField> {
    let plans = if caller.priority == 0 { 100 } else { caller.priority };
    match given {
        Some(given) if given > HIGHEST_PRIORITY => {
            Err(BadField::new("priority", format!("must not be more than {HIGHEST_PRIORITY}")))
        }
        Some(given) if given < plans && !caller.operator => {
            Err(BadField::new("priority", format!("must not be lower than {plans}, which is your plan's")))
        }
        given => Ok(given.unwrap_or(plans)),
    }
}

/// The image that is named instead of its provider's: one that the tenant may use, or any for an operator's key. Whoever names an
/// image names what runs on the platform's machines.
pub fn image(caller: &Caller, bot: &NewBot) -> Result<Option<String>, BadField> {
    let image = bot.image.as_str();
    let is_allowed = |allowed: &String| match allowed.strip_suffix('*') {
        Some(beginning) => image.starts_with(beginning),
        None => image == allowed,
    };
    match image {
        "" => Ok(None),
        _ if caller.operator || caller.images.iter().any(is_allowed) => Ok(Some(image.to_owned())),
        _ if caller.images.is_empty() => {
            Err(BadField::new("image", "must be left out: no images are allowed to this tenant but its provider's"))
        }
        _ => Err(BadField::new("image", format!("must be one that this tenant may use: {}", caller.images.join(", ")))),
    }
}

/// The name that others see.
pub fn display_name(bot: &NewBot) -> String {
    if bot.display_name.is_empty() { "Greenroom".to_owned() } else { bot.display_name.clone() }
}

/// What the caller keeps with it.
pub fn metadata(bot: &NewBot) -> String {
    if bot.metadata_json.is_empty() { "{}".to_owned() } else { bot.metadata_json.clone() }
}

/// The metadata with a merge patch applied.
pub fn patched_metadata(before: &str, patch: &str) -> Result<String, BadField> {
    let after =
        merge_patch::merge(before, patch).map_err(|_| BadField::new("metadata_patch_json", "must be a JSON object"))?;
    if after.len() > LARGEST_METADATA {
        let problem = format!("must not be larger than {} KiB when the patch is applied", LARGEST_METADATA >> 10);
        return Err(BadField::new("metadata_patch_json", problem));
    }
    if !after.starts_with('{') {
        return Err(BadField::new("metadata_patch_json", "must be a JSON object"));
    }
    Ok(after)
}

/// A bot that is not made yet: SCHEDULED, and looked at when it is due.
pub fn new_bot(
    caller: &Caller,
    request: &CreateBotRequest,
    now: Timestamp,
    config: &Config,
    sizes: &Sizes,
) -> Result<Stored, BadField> {
    let bot = request.bot.as_ref().ok_or_else(|| BadField::new("bot", "is missing"))?;
    let meeting = bot.meeting.as_ref().ok_or_else(|| BadField::new("meeting", "is missing"))?;
    storable(bot)?;
    if request.idempotency_key.contains('\0') {
        return Err(BadField::new("idempotency_key", "must not contain a NUL"));
    }
    let leave = bot.automatic_leave.unwrap_or_default();
    let defaults = &config.defaults;
    let tenant: TenantId = caller.tenant_id.parse().map_err(|error| BadField::new("caller.tenant_id", error))?;
    let start_at = bot.start_time.as_ref().map(|at| timestamp("start_time", at)).transpose()?.unwrap_or(now);
    if start_at < before(now, START_LATE) {
        return Err(BadField::new("start_time", "is in the past; leave it out to start now"));
    }
    let latest = latest_start(now);
    if start_at > latest {
        return Err(BadField::new(
            "start_time",
            format!("must not be more than five years ahead; the latest is {latest:.0}"),
        ));
    }
    let start_at = start_at.max(now);
    let end_at = bot.end_time.as_ref().map(|at| timestamp("end_time", at)).transpose()?;
    let (start_at, end_at) = (micros(start_at), end_at.map(micros));
    if end_at.is_some_and(|end_at| end_at <= start_at) {
        return Err(BadField::new("end_time", "must be after the start time and in the future"));
    }
    if end_at.is_some_and(|end_at| end_at > latest_end(start_at)) {
        return Err(BadField::new("end_time", "must not be more than a year after the start time"));
    }
    let chain = chain(&bot.platforms, config)?;
    let provider = Provider::new(meeting.provider.clone()).map_err(|error| BadField::new("meeting.provider", error))?;
    let asked = bot.resources.as_ref().map(Asked::from).unwrap_or_default();
    let size = sizes.choose(&provider, asked, Own::from(caller))?;
    let max_retries = max_retries(bot.max_retries, defaults)?;
    let wake_at = Some(before(start_at, config.timing.lead));
    Ok(Stored {
        bot: Bot {
            id: BotId::generate(),
            tenant,
            state: BotState::Scheduled,
            state_since: now,
            reason: None,
            start_at,
            end_at,
            queued_at: None,
            queue_deadline: None,
            joined_at: None,
            policy: Policy {
                max_retries,
                rejoin: bot.rejoin.unwrap_or(true),
                queue_timeout: duration("queue_timeout_ms", bot.queue_timeout_ms, defaults.queue_timeout)?,
                waiting_room_timeout: or_never(
                    "automatic_leave.waiting_room_timeout_ms",
                    leave.waiting_room_timeout_ms,
                    defaults.waiting_room,
                )?,
                max_duration: or_never(
                    "automatic_leave.max_duration_ms",
                    leave.max_duration_ms,
                    defaults.max_duration,
                )?,
            },
            chain,
            chain_from: 0,
            failures: 0,
            wake_at,
            asserts: 0,
            attempt: None,
        },
        details: Details {
            number: 0,
            provider,
            meeting_url: meeting.url.clone(),
            meeting_id: meeting.id.clone(),
            meeting_password: meeting.password.clone(),
            display_name: display_name(bot),
            image: image(caller, bot)?,
            recording_enabled: bot.recording_enabled.unwrap_or(true),
            priority: priority(caller, bot.priority)?,
            no_one_joined: duration(
                "automatic_leave.no_one_joined_timeout_ms",
                leave.no_one_joined_timeout_ms,
                defaults.no_one_joined,
            )?,
            everyone_left: duration(
                "automatic_leave.everyone_left_timeout_ms",
                leave.everyone_left_timeout_ms,
                defaults.everyone_left,
            )?,
            inactivity: duration(
                "automatic_leave.inactivity_timeout_ms",
                leave.inactivity_timeout_ms,
                defaults.inactivity,
            )?,
            metadata: metadata(bot),
            deduplication_key: Some(bot.deduplication_key.clone()).filter(|key| !key.is_empty()),
            weight: caller.weight.max(1),
            size,
            traceparent: greenroom_bus::trace::current(),
            created_at: now,
        },
        version: 1,
        sequence: 0,
        updated_at: now,
    })
}
