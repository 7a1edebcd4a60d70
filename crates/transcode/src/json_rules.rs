//! What the protos say about JSON beyond ProtoJSON: which fields hold JSON documents, and how the values of enums are called.

use std::collections::{HashMap, HashSet};

use prost_reflect::{
    DescriptorPool, DynamicMessage, EnumDescriptor, ExtensionDescriptor, FieldDescriptor, Kind, Value,
};

/// Marks a text field that holds a JSON document.
const JSON: &str = "greenroom.v1.json";
/// Marks an enum whose words are in lower case.
const LOWER_CASE: &str = "greenroom.v1.lower_case";

/// The rules of a pool, by full names: to look an option up costs more than to convert a message.
#[derive(Debug, Clone, Default)]
pub struct JsonRules {
    documents: HashSet<String>,
    words: HashMap<String, Vec<(i32, String)>>,
}

impl JsonRules {
    pub fn of(pool: &DescriptorPool) -> Self {
        let (json, lower_case) = (pool.get_extension_by_name(JSON), pool.get_extension_by_name(LOWER_CASE));
        let fields = pool.all_messages().flat_map(|message| message.fields().collect::<Vec<_>>());
        let documents = fields.filter(|field| field.kind() == Kind::String && is_set(&field.options(), json.as_ref()));
        Self {
            documents: documents.map(|field| field.full_name().to_owned()).collect(),
            words: pool
                .all_enums()
                .map(|of| (of.full_name().to_owned(), words(&of, is_set(&of.options(), lower_case.as_ref()))))
                .collect(),
        }
    }

    /// Returns whether a field holds a JSON document.
    pub fn is_document(&self, field: &FieldDescriptor) -> bool {
        !self.documents.is_empty() && self.documents.contains(field.full_name())
    }

    /// Returns the names in JSON of an enum's values, by their numbers and without the unspecified one.
    pub fn words(&self, of: &EnumDescriptor) -> &[(i32, String)] {
        self.words.get(of.full_name()).map_or(&[], Vec::as_slice)
    }

    /// Returns the name in JSON of an enum's value; none for one of a newer version.
    pub fn word(&self, of: &EnumDescriptor, number: i32) -> Option<&str> {
        self.words(of).iter().find(|(other, _)| *other == number).map(|(_, word)| word.as_str())
    }
}

fn is_set(options: &DynamicMessage, option: Option<&ExtensionDescriptor>) -> bool {
    option.is_some_and(|option| *options.get_extension(option) == Value::Bool(true))
}

/// `STATE_RUNNING` of `State` is `RUNNING`, or `running`.
fn words(of: &EnumDescriptor, lower_case: bool) -> Vec<(i32, String)> {
    let mut prefix = String::new();
    for c in of.name().chars() {
        if c.is_ascii_uppercase() && !prefix.is_empty() {
            prefix.push('_');
        }
        prefix.push(c.to_ascii_uppercase());
    }
    prefix.push('_');
    let values = of.values().filter(|value| value.number() != 0);
    let words = values.map(|value| {
        let word = value.name().strip_prefix(&prefix).unwrap_or(value.name());
        (value.number(), if lower_case { word.to_ascii_lowercase() } else { word.to_owned() })
    });
    words.collect()
}
