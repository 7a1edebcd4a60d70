//! JSON and text into messages. Every violation is collected, so that one answer names all of them.

use std::collections::{BTreeMap, HashMap};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use greenroom_domain::{BadTime, Timestamp, parse_rfc3339};
use prost_reflect::{Cardinality, DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor, Value};
use serde_json::Value as Json;
use serde_json::value::RawValue;

use crate::Violation;
use crate::json_rules::JsonRules;

pub const TIMESTAMP: &str = "google.protobuf.Timestamp";
const NUMBER: &str = "must be a whole number, not negative and not too large";
const SIGNED: &str = "must be a whole number, and not too large";
/// Most violations that are collected: a response must not be much larger than its request.
pub const MOST_VIOLATIONS: usize = 100;
/// Longest name of a caller's that an error repeats, in characters.
const LONGEST_NAME: usize = 64;

/// Returns a name that a caller made up, fit to be repeated in an error.
fn shortened(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(LONGEST_NAME).collect()
}

fn path_of(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") }
}

/// The fields of an object, each with its very text, in the order of their names.
type Fields<'a> = BTreeMap<String, &'a RawValue>;

/// Reads JSON, and collects what is wrong with it.
pub struct Reader<'a> {
    json_rules: &'a JsonRules,
    pub violations: Vec<Violation>,
}

impl<'a> Reader<'a> {
    pub fn new(json_rules: &'a JsonRules) -> Self {
        Self { json_rules, violations: Vec::new() }
    }

    fn refuse(&mut self, field: impl Into<String>, problem: impl ToString) {
        if self.violations.len() < MOST_VIOLATIONS {
            self.violations.push(Violation::new(field, problem));
        }
    }

    /// Reads an object. Fields in `except` stand elsewhere, and are not there.
    pub fn message(
        &mut self,
        descriptor: &MessageDescriptor,
        object: &str,
        path: &str,
        except: &[FieldDescriptor],
    ) -> DynamicMessage {
        let mut message = DynamicMessage::new(descriptor.clone());
        let Ok(fields) = serde_json::from_str::<Fields<'_>>(object) else {
            self.refuse(if path.is_empty() { "(body)" } else { path }, "must be a JSON object");
            return message;
        };
        for (name, json) in fields {
            let field = descriptor.get_field_by_json_name(&name).filter(|field| !except.contains(field));
            let Some(field) = field else {
                self.refuse(path_of(path, &shortened(&name)), "there is no such field");
                continue;
            };
            // As everywhere in ProtoJSON, null is the same as absent.
            if json.get() == "null" {
                continue;
            }
            let field_path = path_of(path, &name);
            if let Some(other) = other_of_oneof(&field, &message) {
                self.refuse(field_path, format!("must not be given together with {other}"));
                continue;
            }
            if let Some(value) = self.field_value(&field, json, &field_path) {
                message.set_field(&field, value);
            }
        }
        message
    }

    fn field_value(&mut self, field: &FieldDescriptor, json: &RawValue, path: &str) -> Option<Value> {
        if self.json_rules.is_document(field) {
            return Some(Value::String(json.get().to_owned()));
        }
        if field.is_map() {
            return self.map(field, json, path);
        }
        if !field.is_list() {
            return self.value(&field.kind(), json, path);
        }
        let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(json.get()) else {
            self.refuse(path, "must be an array");
            return None;
        };
        let mut values = Vec::new();
        for (index, item) in items.into_iter().enumerate() {
            let path = format!("{path}[{index}]");
            if item.get() == "null" {
                self.refuse(path, "must not be null");
            } else {
                values.extend(self.value(&field.kind(), item, &path));
            }
        }
        Some(Value::List(values))
    }

    fn map(&mut self, field: &FieldDescriptor, json: &RawValue, path: &str) -> Option<Value> {
        let Ok(entries) = serde_json::from_str::<Fields<'_>>(json.get()) else {
            self.refuse(path, "must be an object");
            return None;
        };
        let kind = field.kind();
        let entry = kind.as_message()?;
        let mut map = HashMap::new();
        for (name, json) in entries {
            let path = path_of(path, &shortened(&name));
            let key =
                text(&entry.map_entry_key_field().kind(), &name, self.json_rules).ok().and_then(Value::into_map_key);
            match key {
                None => self.refuse(path, "is not a valid key"),
                Some(key) => {
                    if let Some(value) = self.value(&entry.map_entry_value_field().kind(), json, &path) {
                        map.insert(key, value);
                    }
                }
            }
        }
        Some(Value::Map(map))
    }

    fn value(&mut self, kind: &Kind, json: &RawValue, path: &str) -> Option<Value> {
        let read = match kind {
            Kind::Message(descriptor) if descriptor.full_name() != TIMESTAMP => {
                if json.get().starts_with('{') {
                    return Some(Value::Message(self.message(descriptor, json.get(), path, &[])));
                }
                Err("must be an object".to_owned())
            }
            // The whole text was parsed before, so this is JSON.
            _ => scalar(kind, &serde_json::from_str(json.get()).unwrap_or_default(), self.json_rules),
        };
        read.map_err(|problem| self.refuse(path, problem)).ok()
    }
}

/// Returns the field that already has the place of this one.
fn other_of_oneof(field: &FieldDescriptor, message: &DynamicMessage) -> Option<String> {
    let oneof = field.containing_oneof().filter(|oneof| !oneof.is_synthetic())?;
    oneof.fields().find(|other| message.has_field(other)).map(|other| other.json_name().to_owned())
}

fn scalar(kind: &Kind, json: &Json, json_rules: &JsonRules) -> Result<Value, String> {
    match (kind, json) {
        (Kind::Message(descriptor), Json::String(text)) => {
            timestamp(descriptor, text).map_err(|problem| problem.to_string())
        }
        (Kind::Message(_), _) => Err(BadTime::Form.to_string()),
        (Kind::Bool, Json::Bool(flag)) => Ok(Value::Bool(*flag)),
        (Kind::Bool, _) => Err("must be true or false".to_owned()),
        (Kind::String, Json::String(text)) => Ok(Value::String(text.clone())),
        (Kind::String, _) => Err("must be a string".to_owned()),
        (Kind::Enum(_) | Kind::Bytes, Json::String(text)) => self::text(kind, text, json_rules),
        (Kind::Enum(of), _) => Err(one_of(of, json_rules)),
        (Kind::Bytes, _) => Err("must be a string in base64".to_owned()),
        (Kind::Double, _) => json.as_f64().map(Value::F64).ok_or_else(|| "must be a number".to_owned()),
        #[allow(clippy::cast_possible_truncation, reason = "a float is less exact than JSON's numbers")]
        (Kind::Float, _) => {
            json.as_f64().map(|number| Value::F32(number as f32)).ok_or_else(|| "must be a number".to_owned())
        }
        _ => whole_number(kind, json.as_u64().map(i128::from).or_else(|| json.as_i64().map(i128::from))),
    }
}

fn whole_number(kind: &Kind, number: Option<i128>) -> Result<Value, String> {
    let value = number.and_then(|number| match kind {
        Kind::Uint32 | Kind::Fixed32 => number.try_into().map(Value::U32).ok(),
        Kind::Uint64 | Kind::Fixed64 => number.try_into().map(Value::U64).ok(),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => number.try_into().map(Value::I32).ok(),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => number.try_into().map(Value::I64).ok(),
        _ => None,
    });
    let unsigned = matches!(kind, Kind::Uint32 | Kind::Fixed32 | Kind::Uint64 | Kind::Fixed64);
    value.ok_or_else(|| if unsigned { NUMBER } else { SIGNED }.to_owned())
}

/// Reads a value of a path or a query.
///
/// # Errors
/// When the text is not a value of that kind; the error tells the allowed ones.
pub fn text(kind: &Kind, text: &str, json_rules: &JsonRules) -> Result<Value, String> {
    match kind {
        Kind::String => Ok(Value::String(text.to_owned())),
        Kind::Bool => text.parse().map(Value::Bool).map_err(|_| "must be true or false".to_owned()),
        Kind::Double => text.parse().map(Value::F64).map_err(|_| "must be a number".to_owned()),
        Kind::Float => text.parse().map(Value::F32).map_err(|_| "must be a number".to_owned()),
        Kind::Enum(of) => {
            let value = json_rules.words(of).iter().find(|(_, word)| word == text);
            value.map(|(number, _)| Value::EnumNumber(*number)).ok_or_else(|| one_of(of, json_rules))
        }
        Kind::Bytes => {
            STANDARD.decode(text).map(|bytes| Value::Bytes(bytes.into())).map_err(|_| "must be base64".to_owned())
        }
        Kind::Message(descriptor) if descriptor.full_name() == TIMESTAMP => {
            timestamp(descriptor, text).map_err(|problem| problem.to_string())
        }
        Kind::Message(_) => Err("cannot be a parameter".to_owned()),
        _ => whole_number(kind, text.parse().ok()),
    }
}

/// Reads a parameter of a query. One that may be repeated is given once for each value.
pub fn parameter(
    message: &mut DynamicMessage,
    field: &FieldDescriptor,
    given: &str,
    json_rules: &JsonRules,
) -> Result<(), String> {
    let value = text(&field.kind(), given, json_rules)?;
    if field.cardinality() == Cardinality::Repeated {
        match message.get_field_mut(field) {
            Value::List(values) => values.push(value),
            _ => return Err("cannot be a parameter".to_owned()),
        }
    } else {
        message.set_field(field, value);
    }
    Ok(())
}

fn timestamp(descriptor: &MessageDescriptor, text: &str) -> Result<Value, BadTime> {
    let at: Timestamp = parse_rfc3339(text)?;
    let mut message = DynamicMessage::new(descriptor.clone());
    message.set_field_by_name("seconds", Value::I64(at.as_second()));
    message.set_field_by_name("nanos", Value::I32(at.subsec_nanosecond()));
    Ok(Value::Message(message))
}

fn one_of(of: &EnumDescriptor, json_rules: &JsonRules) -> String {
    let words: Vec<_> = json_rules.words(of).iter().map(|(_, word)| word.as_str()).collect();
    format!("must be one of {}", words.join(", "))
}
