//! From what a caller asks to be different to what changes. The gateway has checked the words; what only the scheduler
//! knows is checked here.

use std::time::Duration;

use greenroom_contracts::proto::internal::v1::Caller;
use greenroom_contracts::proto::v1::{NewAutomaticLeave, NewBot, NewMeeting, UpdateBotRequest};
use greenroom_contracts::{BadField, timestamp};
use greenroom_domain::Provider;
use greenroom_domain::bot::{Beyond, Edit};

use crate::rows::Details;
use crate::sizes::Sizes;
use crate::sizing::{Asked, Own, Size};
use crate::{Config, limits};

/// One thing that changes and that no decision depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Provider(Provider),
    MeetingUrl(String),
    MeetingId(String),
    MeetingPassword(String),
    DisplayName(String),
    Image(Option<String>),
    RecordingEnabled(bool),
    Priority(u32),
    NoOneJoined(Duration),
    EveryoneLeft(Duration),
    Inactivity(Duration),
    Metadata(String),
    /// A merge patch (RFC 7386).
    MetadataPatch(String),
    Size(Resize),
}

/// What an edit says of a bot's size. Which size follows depends on the bot as it is when the edit is applied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Resize {
    asked: Asked,
    own: Own,
    named: Named,
}

/// An edit that was understood.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Understood {
    pub edit: Edit,
    pub changes: Vec<Change>,
    /// What it names, in the API's words, for the timeline. Never the values: an address may be among them.
    pub names: Vec<&'static str>,
    named: Named,
}

/// What of a bot's resources an edit names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Named {
    cpu: bool,
    cpu_limit: bool,
    memory: bool,
    memory_limit: bool,
}

/// Understands what an update's mask names. The bot is not read for it: what it is by the time of the edit is known only under
/// its lock, where [`applied`] sees it.
pub fn understand(caller: &Caller, update: &UpdateBotRequest, config: &Config) -> Result<Understood, BadField> {
    let nothing = NewBot::default();
    let bot = update.bot.as_ref().unwrap_or(&nothing);
    limits::storable(bot)?;
    let mut understood = Understood::default();
    for path in update.update_mask.iter().flat_map(|mask| &mask.paths) {
        understood.take(path, caller, bot, config)?;
    }
    if !update.metadata_patch_json.is_empty() {
        if update.metadata_patch_json.contains('\0') {
            return Err(BadField::new("metadata_patch_json", "must not contain a NUL"));
        }
        if understood.names.contains(&"metadata") {
            return Err(BadField::new("metadata_patch_json", "cannot be given where the mask names metadata_json"));
        }
        understood.changes.push(Change::MetadataPatch(update.metadata_patch_json.clone()));
        understood.names.push("metadata");
    }
    understood.names.dedup();
    let asked = bot.resources.as_ref().map(Asked::from).unwrap_or_default();
    let resize = Resize { asked, own: Own::from(caller), named: understood.named };
    understood.changes.push(Change::Size(resize));
    Ok(understood)
}

impl Understood {
    fn take(&mut self, path: &str, caller: &Caller, bot: &NewBot, config: &Config) -> Result<(), BadField> {
        let (edit, defaults) = (&mut self.edit, &config.defaults);
        let name = match path {
            "start_time" => {
                let start = bot.start_time.as_ref();
                let start = start.ok_or_else(|| BadField::new("start_time", "cannot be taken away"))?;
                edit.start_at = Some(limits::micros(timestamp("start_time", start)?));
                "startTime"
            }
            "end_time" => {
                let end = bot.end_time.as_ref().map(|at| timestamp("end_time", at)).transpose()?;
                edit.end_at = Some(end.map(limits::micros));
                "endTime"
            }
            "max_retries" => {
                edit.max_retries = Some(limits::max_retries(bot.max_retries, defaults)?);
                "maxRetries"
            }
            "rejoin" => {
                edit.rejoin = Some(bot.rejoin.unwrap_or(true));
                "rejoin"
            }
            "queue_timeout_ms" => {
                let timeout = limits::duration("queue_timeout_ms", bot.queue_timeout_ms, defaults.queue_timeout)?;
                edit.queue_timeout = Some(timeout);
                "queueTimeoutMs"
            }
            "platforms" => {
                edit.chain = Some(limits::chain(&bot.platforms, config)?);
                "platforms"
            }
            "display_name" => {
                self.changes.push(Change::DisplayName(limits::display_name(bot)));
                "displayName"
            }
            "image" => {
                self.changes.push(Change::Image(limits::image(caller, bot)?));
                "image"
            }
            "recording_enabled" => {
                self.changes.push(Change::RecordingEnabled(bot.recording_enabled.unwrap_or(true)));
                "recordingEnabled"
            }
            "priority" => {
                self.changes.push(Change::Priority(limits::priority(caller, bot.priority)?));
                "priority"
            }
            "metadata_json" => {
                self.changes.push(Change::Metadata(limits::metadata(bot)));
                "metadata"
            }
            _ => match path.split_once('.').unwrap_or((path, "")) {
                ("meeting", field) => self.meeting(field, bot.meeting.as_ref())?,
                ("resources", field) => self.resources(field)?,
                ("automatic_leave", field) => self.leave(field, bot.automatic_leave.unwrap_or_default(), config)?,
                _ => return Err(unknown(path)),
            },
        };
        self.names.push(name);
        Ok(())
    }

    fn meeting(&mut self, field: &str, meeting: Option<&NewMeeting>) -> Result<&'static str, BadField> {
        let meeting = meeting.ok_or_else(|| BadField::new("meeting", "is missing"))?;
        let all = field.is_empty();
        if all || field == "provider" {
            let provider = Provider::new(meeting.provider.clone());
            self.changes.push(Change::Provider(provider.map_err(|error| BadField::new("meeting.provider", error))?));
        }
        if all || field == "url" {
            self.changes.push(Change::MeetingUrl(meeting.url.clone()));
        }
        if all || field == "id" {
            self.changes.push(Change::MeetingId(meeting.id.clone()));
        }
        if all || field == "password" {
            self.changes.push(Change::MeetingPassword(meeting.password.clone()));
        }
        if all || ["provider", "url", "id", "password"].contains(&field) {
            Ok("meeting")
        } else {
            Err(unknown(&format!("meeting.{field}")))
        }
    }

    fn resources(&mut self, field: &str) -> Result<&'static str, BadField> {
        let Named { cpu, cpu_limit, memory, memory_limit } = &mut self.named;
        for named in match field {
            "" => vec![cpu, cpu_limit, memory, memory_limit],
            "cpu_millis" => vec![cpu],
            "cpu_limit_millis" => vec![cpu_limit],
            "memory_mb" => vec![memory],
            "memory_limit_mb" => vec![memory_limit],
            _ => return Err(unknown(&format!("resources.{field}"))),
        } {
            *named = true;
        }
        Ok("resources")
    }

    fn leave(&mut self, field: &str, leave: NewAutomaticLeave, config: &Config) -> Result<&'static str, BadField> {
        let (all, defaults) = (field.is_empty(), &config.defaults);
        let duration =
            |name: &str, given, default| limits::duration(&format!("automatic_leave.{name}"), given, default);
        let or_never =
            |name: &str, given, default| limits::or_never(&format!("automatic_leave.{name}"), given, default);
        let mut known = all;
        let mut is = |name: &str| {
            let named = field == name;
            known |= named;
            all || named
        };
        if is("waiting_room_timeout_ms") {
            let given = leave.waiting_room_timeout_ms;
            self.edit.waiting_room_timeout = Some(or_never("waiting_room_timeout_ms", given, defaults.waiting_room)?);
        }
        if is("max_duration_ms") {
            let given = leave.max_duration_ms;
            self.edit.max_duration = Some(or_never("max_duration_ms", given, defaults.max_duration)?);
        }
        if is("no_one_joined_timeout_ms") {
            let given = leave.no_one_joined_timeout_ms;
            let wait = duration("no_one_joined_timeout_ms", given, defaults.no_one_joined)?;
            self.changes.push(Change::NoOneJoined(wait));
        }
        if is("everyone_left_timeout_ms") {
            let given = leave.everyone_left_timeout_ms;
            let wait = duration("everyone_left_timeout_ms", given, defaults.everyone_left)?;
            self.changes.push(Change::EveryoneLeft(wait));
        }
        if is("inactivity_timeout_ms") {
            let given = leave.inactivity_timeout_ms;
            self.changes.push(Change::Inactivity(duration("inactivity_timeout_ms", given, defaults.inactivity)?));
        }
        if known { Ok("automaticLeave") } else { Err(unknown(&format!("automatic_leave.{field}"))) }
    }
}

fn unknown(path: &str) -> BadField {
    BadField::new("update_mask", format!("there is no field {path} that can be changed"))
}

/// The details as they would be, of a bot that is locked.
pub fn applied(changes: &[Change], before: &Details, sizes: &Sizes) -> Result<Details, BadField> {
    let mut after = before.clone();
    let mut resize = Resize::default();
    for change in changes.iter().cloned() {
        match change {
            Change::Provider(provider) => after.provider = provider,
            Change::MeetingUrl(url) => after.meeting_url = url,
            Change::MeetingId(id) => after.meeting_id = id,
            Change::MeetingPassword(password) => after.meeting_password = password,
            Change::DisplayName(name) => after.display_name = name,
            Change::Image(image) => after.image = image,
            Change::RecordingEnabled(enabled) => after.recording_enabled = enabled,
            Change::Priority(priority) => after.priority = priority,
            Change::NoOneJoined(wait) => after.no_one_joined = wait,
            Change::EveryoneLeft(wait) => after.everyone_left = wait,
            Change::Inactivity(wait) => after.inactivity = wait,
            Change::Metadata(json) => after.metadata = json,
            Change::MetadataPatch(patch) => after.metadata = limits::patched_metadata(&before.metadata, &patch)?,
            Change::Size(last) => resize = last,
        }
    }
    after.size = resized(resize, before, &after.provider, sizes)?;
    Ok(after)
}

/// The size that follows. What is asked for anew brings its limit with it; a limit alone leaves the rest. A bot that moves to
/// another provider gets that one's size, unless somebody has chosen its own.
fn resized(resize: Resize, before: &Details, provider: &Provider, sizes: &Sizes) -> Result<Size, BadField> {
    let Resize { asked, own, named: Named { cpu, cpu_limit, memory, memory_limit } } = resize;
    let named = |is: bool, value: Option<u32>| value.filter(|_| is);
    let kept = |request: bool, limit: bool, size: u32| (limit && !request).then_some(size);
    let chosen = sizes.choose(
        provider,
        Asked {
            cpu_millis: named(cpu, asked.cpu_millis).or(kept(cpu, cpu_limit, before.size.cpu_millis)),
            memory_mb: named(memory, asked.memory_mb).or(kept(memory, memory_limit, before.size.memory_mb)),
            cpu_limit_millis: named(cpu_limit, asked.cpu_limit_millis),
            memory_limit_mb: named(memory_limit, asked.memory_limit_mb),
        },
        own,
    )?;
    let follows = *provider != before.provider && sizes.choose(&before.provider, Asked::default(), own)? == before.size;
    let mut size = before.size;
    if cpu || cpu_limit || follows {
        (size.cpu_millis, size.cpu_limit_millis) = (chosen.cpu_millis, chosen.cpu_limit_millis);
    }
    if memory || memory_limit || follows {
        (size.memory_mb, size.memory_limit_mb) = (chosen.memory_mb, chosen.memory_limit_mb);
    }
    Ok(size)
}

/// How much differs.
pub fn beyond(before: &Details, after: &Details) -> Beyond {
    if before == after {
        return Beyond::Nothing;
    }
    let but_metadata = Details { metadata: before.metadata.clone(), ..after.clone() };
    if but_metadata == *before {
        Beyond::Metadata
    } else if after.meeting_url.is_empty() && (after.meeting_id.is_empty() || after.provider.as_str() == "web") {
        Beyond::NoAddress
    } else {
        Beyond::More
    }
}
