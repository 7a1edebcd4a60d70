//! The settings of bots: bounds, defaults and changes. Pure.
//!
//! A new bot's settings are checked as they were given, and then completed with the defaults that hold now. A change is merged into
//! the complete settings of a bot that is locked, and the result is completed and checked again. Fields are named as in the request,
//! `settings.meeting.url`.

pub mod check;

use std::collections::BTreeSet;
use std::sync::LazyLock;
use std::time::Duration;

use greenroom_contracts::json::shortened;
use greenroom_contracts::proto::DESCRIPTORS;
use greenroom_contracts::proto::internal::v1::Caller;
use greenroom_contracts::proto::v1::{BotSettings, Resources, UpdateBotRequest};
use greenroom_contracts::{BadField, proto_timestamp, timestamp};
use greenroom_domain::bot::{Beyond, Bot, Edit, Policy};
use greenroom_domain::{PlatformName, Provider, Timestamp};
use greenroom_transcode::Masked;

use crate::config::Defaults;
use crate::merge_patch;
use crate::rows::Details;
use crate::sizes::Sizes;
use crate::sizing::{Asked, Own};
use check::{LARGEST_METADATA, LONGEST_MS, Terms, check};

/// In whole microseconds, as Postgres keeps it: the bot that is answered with is the bot that is read later.
fn micros(at: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at)
}

/// Completes settings with the defaults. One who asks for a start that has passed by a moment gets one now.
pub fn complete(mut settings: BotSettings, caller: &Caller, defaults: &Defaults, now: Timestamp) -> BotSettings {
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if settings.display_name.is_empty() {
        settings.display_name = "Greenroom".to_owned();
    }
    if settings.metadata.is_empty() {
        settings.metadata = "{}".to_owned();
    }
    settings.start_time.get_or_insert_with(|| proto_timestamp(now));
    for time in [&mut settings.start_time, &mut settings.end_time].into_iter().flatten() {
        if let Ok(at) = timestamp("", time) {
            *time = proto_timestamp(micros(at));
        }
    }
    // Where nothing is asked for, nothing was asked for.
    settings.resources.take_if(|asked| *asked == Resources::default());
    settings.recording_enabled.get_or_insert(true);
    settings.rejoin.get_or_insert(true);
    settings.priority.get_or_insert(caller.priority);
    settings.queue_timeout_ms.get_or_insert(ms(defaults.queue_timeout));
    settings.max_retries.get_or_insert(defaults.max_retries);
    let leave = settings.automatic_leave.get_or_insert_default();
    leave.no_one_joined_timeout_ms.get_or_insert(ms(defaults.no_one_joined));
    leave.everyone_left_timeout_ms.get_or_insert(ms(defaults.everyone_left));
    leave.inactivity_timeout_ms.get_or_insert(ms(defaults.inactivity));
    // Something has to end a runner that nobody can reach: where 0 says never, it is as long as anything may be asked for.
    for (timeout, default) in [
        (&mut leave.waiting_room_timeout_ms, defaults.waiting_room),
        (&mut leave.max_duration_ms, defaults.max_duration),
    ] {
        if *timeout.get_or_insert(ms(default)) == 0 {
            *timeout = Some(LONGEST_MS);
        }
    }
    settings
}

/// Returns what decisions about a bot depend on. The settings are complete.
pub fn policy(settings: &BotSettings) -> Policy {
    let duration = |ms: Option<u64>| Duration::from_millis(ms.unwrap_or_default());
    let leave = settings.automatic_leave.unwrap_or_default();
    Policy {
        max_retries: settings.max_retries.unwrap_or_default(),
        rejoin: settings.rejoin.unwrap_or_default(),
        queue_timeout: duration(settings.queue_timeout_ms),
        waiting_room_timeout: duration(leave.waiting_room_timeout_ms),
        max_duration: duration(leave.max_duration_ms),
    }
}

/// Returns start and end. The settings are complete and checked.
pub fn times(settings: &BotSettings) -> Result<(Timestamp, Option<Timestamp>), BadField> {
    let time = |field, at: &Option<_>| at.as_ref().map(|at| timestamp(field, at)).transpose();
    let start = time("settings.start_time", &settings.start_time)?;
    let start = start.ok_or_else(|| BadField::new("settings.start_time", "is missing"))?;
    Ok((start, time("settings.end_time", &settings.end_time)?))
}

/// Returns the platforms to try, in order. Empty: what is the order when it is due.
pub fn chain(settings: &BotSettings) -> Result<Vec<PlatformName>, BadField> {
    let names = settings.platforms.iter().map(|name| PlatformName::new(name.clone()));
    names.collect::<Result<_, _>>().map_err(|error| BadField::new("settings.platforms", error))
}

/// Returns the provider of the meeting.
pub fn provider(settings: &BotSettings) -> Result<Provider, BadField> {
    let name = settings.meeting.as_ref().map(|meeting| meeting.provider.clone()).unwrap_or_default();
    Provider::new(name).map_err(|error| BadField::new("settings.meeting.provider", error))
}

/// Returns what is asked for a bot's runners.
pub fn asked(settings: &BotSettings) -> Asked {
    settings.resources.as_ref().map(Asked::from).unwrap_or_default()
}

/// A change that was understood. What it leads to is known only of a bot that is locked.
#[derive(Debug, Clone)]
pub struct Patch {
    caller: Caller,
    settings: BotSettings,
    paths: Vec<String>,
}

/// The result of a change.
#[derive(Debug, Clone)]
pub struct Patched {
    /// The details as they would be. No decision depends on them.
    pub details: Details,
    /// The change that has to be decided.
    pub edit: Edit,
}

fn masked() -> &'static Masked {
    static MASKED: LazyLock<Masked> =
        LazyLock::new(|| Masked::new(DESCRIPTORS, "greenroom.v1.BotSettings").expect("a message of ours"));
    &MASKED
}

/// Most paths of a mask: there are fewer fields.
const MOST_PATHS: usize = 100;

impl Patch {
    /// Understands what a mask names. The bot is not read for it.
    pub fn new(caller: Caller, update: UpdateBotRequest) -> Result<Self, BadField> {
        let (settings, mut paths) = (update.settings.unwrap_or_default(), update.update_mask.unwrap_or_default().paths);
        if paths.len() > MOST_PATHS {
            return Err(BadField::new("update_mask", format!("must not name more than {MOST_PATHS} fields")));
        }
        if let Some(path) = paths.iter().find(|path| !masked().has(path)) {
            let path = shortened(path);
            return Err(BadField::new("update_mask", format!("there is no field {path} that can be changed")));
        }
        let mut known = BTreeSet::new();
        paths.retain(|path| known.insert(path.clone()));
        if paths.iter().any(|path| path == "metadata") {
            // Before they are merged: that goes as deep as they do.
            check::metadata(&settings.metadata)?;
        }
        if paths.iter().any(|path| path == "start_time") && settings.start_time.is_none() {
            return Err(BadField::new("settings.start_time", "cannot be taken away; POST …/deploy sends the bot now"));
        }
        Ok(Self { caller, settings, paths })
    }

    /// Returns the caller.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Returns the new start, if the change names it. The writer needs it before the bot is locked.
    pub fn start_at(&self) -> Option<Timestamp> {
        let start = self.settings.start_time.as_ref().filter(|_| self.touches("settings.start_time"));
        start.and_then(|at| timestamp("settings.start_time", at).ok())
    }

    /// Returns the names of the changed fields in JSON, for the timeline. Never the values: an address may be among them.
    pub fn names(&self) -> String {
        let mut names: Vec<String> = Vec::new();
        for name in self.paths.iter().filter_map(|path| masked().json_name(path)) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names.join(", ")
    }

    /// Whether it says anything about a field, `settings.meeting.url`, or about one beside it on which that may depend.
    fn touches(&self, field: &str) -> bool {
        let top = |path: &str| path.split(['.', '[']).next().unwrap_or_default().to_owned();
        let field = top(field.strip_prefix("settings.").unwrap_or(field));
        self.paths.iter().any(|path| top(path) == field)
    }

    fn merged(&self, before: &BotSettings) -> Result<BotSettings, BadField> {
        let merged = masked().merged(before, &self.settings, &self.paths);
        let mut merged = merged.map_err(|error| BadField::new("settings", error))?;
        if self.touches("settings.metadata") {
            let patch = self.settings.metadata.as_str();
            merged.metadata = if patch.is_empty() { String::new() } else { patched_metadata(&before.metadata, patch)? };
        }
        Ok(merged)
    }

    /// Applies it to a bot that is locked.
    ///
    /// # Errors
    /// Everything that is out of bounds and that it has to do with: what was allowed once may stay.
    pub fn apply(
        &self,
        bot: &Bot,
        before: &Details,
        terms: &Terms<'_>,
        sizes: &Sizes,
    ) -> Result<Patched, Vec<BadField>> {
        let one = |bad: BadField| vec![bad];
        // Metadata are the tenant's own: the patch is one document, and what it leads to is another.
        let merged = self.merged(&before.settings).map_err(one)?;
        let after = complete(merged, &self.caller, terms.defaults, terms.now);
        let terms = Terms { caller: &self.caller, is_new: false, ..*terms };
        let mut bad: Vec<_> = check(&after, &terms).into_iter().filter(|bad| self.touches(&bad.field)).collect();
        if after.deduplication_key != before.settings.deduplication_key {
            bad.push(BadField::new("settings.deduplication_key", "cannot be changed"));
        }
        if !bad.is_empty() {
            return Err(bad);
        }
        let mut details = Details { provider: provider(&after).map_err(one)?, ..before.clone() };
        if details.provider != before.provider || after.resources != before.settings.resources {
            details.size = sizes.choose(&details.provider, asked(&after), Own::from(&self.caller)).map_err(one)?;
        }
        let (start_at, end_at) = times(&after).map_err(one)?;
        let chain = if after.platforms == before.settings.platforms { None } else { Some(chain(&after).map_err(one)?) };
        let policy = policy(&after);
        details.settings = after;
        let beyond = beyond(before, &details);
        let edit = Edit {
            // A bot that was sent early keeps the times that it has.
            start_at: self.touches("settings.start_time").then_some(start_at),
            end_at: self.touches("settings.end_time").then_some(end_at),
            policy: (policy != bot.policy).then_some(policy),
            chain,
            beyond,
        };
        Ok(Patched { details, edit })
    }
}

fn patched_metadata(before: &str, patch: &str) -> Result<String, BadField> {
    let bad = |problem: String| BadField::new("settings.metadata", problem);
    let after = merge_patch::merge(before, patch).map_err(|_| bad("must be a JSON object".to_owned()))?;
    if after.len() > LARGEST_METADATA {
        return Err(bad(format!("must not be larger than {} KiB when the patch is applied", LARGEST_METADATA >> 10)));
    }
    Ok(after)
}

/// How much changes of what no decision depends on.
fn beyond(before: &Details, after: &Details) -> Beyond {
    /// Without what stands in an [`Edit`].
    fn rest(details: &Details) -> Details {
        let mut rest = details.clone();
        let settings = &mut rest.settings;
        (settings.start_time, settings.end_time) = (None, None);
        (settings.max_retries, settings.rejoin, settings.queue_timeout_ms) = (None, None, None);
        settings.platforms.clear();
        if let Some(leave) = &mut settings.automatic_leave {
            (leave.waiting_room_timeout_ms, leave.max_duration_ms) = (None, None);
        }
        rest
    }
    let (before, mut after) = (rest(before), rest(after));
    if before == after {
        return Beyond::Nothing;
    }
    after.settings.metadata.clone_from(&before.settings.metadata);
    if before == after { Beyond::Metadata } else { Beyond::More }
}
