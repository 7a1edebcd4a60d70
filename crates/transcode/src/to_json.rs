//! Messages into JSON.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use greenroom_domain::Timestamp;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, ReflectMessage, Value};
use serde::ser::{Error as _, Serialize, SerializeMap, Serializer};

use serde_json::value::RawValue;

use crate::from_json::TIMESTAMP;
use crate::json_rules::JsonRules;

/// Serializes a message, its fields in the order of their numbers.
pub struct Json<'a>(pub &'a DynamicMessage, pub &'a JsonRules);

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(message, json_rules) = self;
        if message.descriptor().full_name() == TIMESTAMP {
            return time(message).ok_or_else(|| S::Error::custom("a time is out of range"))?.serialize(serializer);
        }
        let mut map = serializer.serialize_map(None)?;
        for field in message.descriptor().fields().filter(|field| is_shown(message, field)) {
            let value = message.get_field(&field);
            match value.as_str().filter(|_| json_rules.is_document(&field)) {
                Some(text) => {
                    let document: &RawValue = serde_json::from_str(text).map_err(S::Error::custom)?;
                    map.serialize_entry(field.json_name(), document)?;
                }
                None => map.serialize_entry(field.json_name(), &One(&field.kind(), &value, json_rules))?,
            }
        }
        map.end()
    }
}

/// A value and its kind. Of lists and maps it is the kind of their items.
pub struct One<'a>(pub &'a Kind, pub &'a Value, pub &'a JsonRules);

impl Serialize for One<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(kind, value, json_rules) = *self;
        match value {
            Value::Bool(flag) => serializer.serialize_bool(*flag),
            Value::I32(number) => serializer.serialize_i32(*number),
            Value::I64(number) => serializer.serialize_i64(*number),
            Value::U32(number) => serializer.serialize_u32(*number),
            Value::U64(number) => serializer.serialize_u64(*number),
            Value::F32(number) => serializer.serialize_f32(*number),
            Value::F64(number) => serializer.serialize_f64(*number),
            Value::String(text) => serializer.serialize_str(text),
            Value::Bytes(bytes) => serializer.serialize_str(&STANDARD.encode(bytes)),
            Value::EnumNumber(number) => match kind.as_enum().and_then(|of| json_rules.word(of, *number)) {
                Some(word) => serializer.serialize_str(word),
                // Of a newer version.
                None => serializer.serialize_i32(*number),
            },
            Value::Message(message) => Json(message, json_rules).serialize(serializer),
            Value::List(values) => serializer.collect_seq(values.iter().map(|value| One(kind, value, json_rules))),
            Value::Map(entries) => {
                let of = kind.as_message().ok_or_else(|| S::Error::custom("a map without entries"))?;
                let kind = of.map_entry_value_field().kind();
                let mut sorted: Vec<_> = entries.iter().map(|(key, value)| (key_text(key), value)).collect();
                sorted.sort_by(|(one, _), (other, _)| one.cmp(other));
                serializer.collect_map(sorted.into_iter().map(|(key, value)| (key, One(&kind, value, json_rules))))
            }
        }
    }
}

fn key_text(key: &MapKey) -> String {
    match key {
        MapKey::Bool(flag) => flag.to_string(),
        MapKey::I32(number) => number.to_string(),
        MapKey::I64(number) => number.to_string(),
        MapKey::U32(number) => number.to_string(),
        MapKey::U64(number) => number.to_string(),
        MapKey::String(text) => text.clone(),
    }
}

/// Numbers, flags and lists are always there, so that a reader need not know defaults.
fn is_shown(message: &DynamicMessage, field: &FieldDescriptor) -> bool {
    if field.is_list() || field.is_map() {
        return true;
    }
    let may_be_absent = field.supports_presence() || matches!(field.kind(), Kind::String | Kind::Bytes | Kind::Enum(_));
    !may_be_absent || message.has_field(field)
}

fn time(message: &DynamicMessage) -> Option<Timestamp> {
    let seconds = message.get_field_by_name("seconds")?.as_i64()?;
    let nanos = message.get_field_by_name("nanos")?.as_i32()?;
    Timestamp::new(seconds, nanos).ok()
}
