//! JSON to a new bot. Everything that is not as it should be is named at once: a wrong type, an unknown field, a bad time;
//! what the values mean is for [`validate`](crate::validate). No problem ever says what was given.

use std::collections::BTreeMap;

use greenroom_contracts::proto::v1::{NewAutomaticLeave, NewBot, NewMeeting, NewResources};
use greenroom_contracts::{BadField, proto_timestamp};
use greenroom_domain::{BadTime, Timestamp, parse_rfc3339};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::problem::Problem;
use crate::json::shortened;

/// What could be read, and what could not.
pub(super) struct Parsed {
    pub bot: NewBot,
    pub bad: Vec<BadField>,
}

/// What the body of `PATCH /v1/bots/{id}` names, in protobuf's words: what is not there stays, what is `null` gets its
/// default. Metadata that are an object are not among it: they are a patch, see [`metadata_patch`].
pub(super) fn mask(body: &[u8]) -> Vec<String> {
    let fields = serde_json::from_slice::<Map<String, Value>>(body).unwrap_or_default();
    let mut paths = Vec::new();
    for (name, value) in &fields {
        let name = proto_name(name);
        match (name.as_str(), value) {
            ("meeting" | "automatic_leave" | "resources", Value::Object(inner)) => {
                paths.extend(inner.keys().map(|field| format!("{name}.{}", proto_name(field))));
            }
            ("metadata_json", Value::Object(_)) => {}
            _ => paths.push(name),
        }
    }
    paths
}

/// What the body of `PATCH /v1/bots/{id}` merges into the metadata; empty: nothing.
pub(super) fn metadata_patch(body: &[u8]) -> String {
    Some(as_it_came(body, "metadata")).filter(|json| json.starts_with('{')).unwrap_or_default()
}

/// How protobuf calls a field.
fn proto_name(field: &str) -> String {
    if field == "metadata" {
        return "metadata_json".to_owned();
    }
    let mut name = String::with_capacity(field.len() + 4);
    for c in field.chars() {
        if c.is_ascii_uppercase() {
            name.push('_');
        }
        name.push(c.to_ascii_lowercase());
    }
    name
}

/// Reads the body of `POST /v1/bots`, or of an edit.
pub(super) fn new_bot(body: &[u8]) -> Result<Parsed, Problem> {
    let fields = super::body::object(body)?;
    let mut bad = Vec::new();
    let mut object = Object { path: String::new(), fields, bad: &mut bad };
    let meeting = object.object("meeting").map(|mut meeting| {
        let parsed = NewMeeting {
            provider: meeting.text("provider"),
            url: meeting.text("url"),
            id: meeting.text("id"),
            password: meeting.text("password"),
        };
        meeting.finish();
        parsed
    });
    let automatic_leave = object.object("automaticLeave").map(|mut leave| {
        let parsed = NewAutomaticLeave {
            waiting_room_timeout_ms: leave.number("waitingRoomTimeoutMs"),
            no_one_joined_timeout_ms: leave.number("noOneJoinedTimeoutMs"),
            everyone_left_timeout_ms: leave.number("everyoneLeftTimeoutMs"),
            inactivity_timeout_ms: leave.number("inactivityTimeoutMs"),
            max_duration_ms: leave.number("maxDurationMs"),
        };
        leave.finish();
        parsed
    });
    let resources = object.object("resources").map(|mut resources| {
        let parsed = NewResources {
            cpu_millis: resources.number("cpuMillis"),
            memory_mb: resources.number("memoryMb"),
            cpu_limit_millis: resources.number("cpuLimitMillis"),
            memory_limit_mb: resources.number("memoryLimitMb"),
        };
        resources.finish();
        parsed
    });
    let bot = NewBot {
        meeting,
        display_name: object.text("displayName"),
        image: object.text("image"),
        start_time: object.time("startTime").map(proto_timestamp),
        end_time: object.time("endTime").map(proto_timestamp),
        recording_enabled: object.flag("recordingEnabled"),
        automatic_leave,
        metadata_json: if object.take("metadata").is_some() { as_it_came(body, "metadata") } else { String::new() },
        priority: object.number("priority"),
        platforms: object.texts("platforms"),
        queue_timeout_ms: object.number("queueTimeoutMs"),
        max_retries: object.number("maxRetries"),
        rejoin: object.flag("rejoin"),
        deduplication_key: object.text("deduplicationKey"),
        resources,
    };
    object.finish();
    Ok(Parsed { bot, bad })
}

/// A field's very text. The body is known to be a JSON object.
fn as_it_came(body: &[u8], name: &str) -> String {
    let fields = serde_json::from_slice::<BTreeMap<String, &RawValue>>(body).unwrap_or_default();
    fields.get(name).map(|raw| raw.get().to_owned()).unwrap_or_default()
}

/// An object whose fields are taken one by one. `null` is the same as nothing.
struct Object<'a> {
    path: String,
    fields: Map<String, Value>,
    bad: &'a mut Vec<BadField>,
}

impl Object<'_> {
    fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    fn problem(&mut self, name: &str, problem: impl ToString) {
        let field = self.path_of(name);
        self.bad.push(BadField::new(field, problem));
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        self.fields.remove(name).filter(|value| !value.is_null())
    }

    fn object(&mut self, name: &str) -> Option<Object<'_>> {
        match self.take(name)? {
            Value::Object(fields) => Some(Object { path: self.path_of(name), fields, bad: &mut *self.bad }),
            _ => {
                self.problem(name, "must be an object");
                None
            }
        }
    }

    fn text(&mut self, name: &str) -> String {
        match self.take(name) {
            None => String::new(),
            Some(Value::String(text)) => text,
            Some(_) => {
                self.problem(name, "must be a string");
                String::new()
            }
        }
    }

    fn texts(&mut self, name: &str) -> Vec<String> {
        let Some(value) = self.take(name) else { return Vec::new() };
        let texts =
            value.as_array().and_then(|items| items.iter().map(|item| Some(item.as_str()?.to_owned())).collect());
        texts.unwrap_or_else(|| {
            self.problem(name, "must be an array of strings");
            Vec::new()
        })
    }

    fn flag(&mut self, name: &str) -> Option<bool> {
        let flag = self.take(name)?.as_bool();
        if flag.is_none() {
            self.problem(name, "must be true or false");
        }
        flag
    }

    fn number<T: TryFrom<u64>>(&mut self, name: &str) -> Option<T> {
        let number = self.take(name)?.as_u64().and_then(|number| T::try_from(number).ok());
        if number.is_none() {
            self.problem(name, "must be a whole number, not negative and not too large");
        }
        number
    }

    fn time(&mut self, name: &str) -> Option<Timestamp> {
        let time = self.take(name)?.as_str().map_or(Err(BadTime::Form), parse_rfc3339);
        time.inspect_err(|problem| self.problem(name, problem)).ok()
    }

    fn finish(self) {
        for name in self.fields.keys() {
            let name = self.path_of(&shortened(name));
            self.bad.push(BadField::new(name, "there is no such field"));
        }
    }
}

#[cfg(test)]
mod tests;
