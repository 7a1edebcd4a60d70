//! Fields whose text is a JSON document.

use std::collections::HashSet;

use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, Value};

/// The option that marks them.
const OPTION: &str = "greenroom.v1.json";

/// All of them in a pool, by their full names: to look an option up costs more than to convert a message.
#[derive(Debug, Clone, Default)]
pub struct JsonFields(HashSet<String>);

impl JsonFields {
    pub fn of(pool: &DescriptorPool) -> Self {
        let Some(option) = pool.get_extension_by_name(OPTION) else { return Self::default() };
        let fields = pool.all_messages().flat_map(|message| message.fields().collect::<Vec<_>>());
        let marked = fields.filter(|field| {
            field.kind() == Kind::String && *field.options().get_extension(&option) == Value::Bool(true)
        });
        Self(marked.map(|field| field.full_name().to_owned()).collect())
    }

    pub fn contains(&self, field: &FieldDescriptor) -> bool {
        !self.0.is_empty() && self.0.contains(field.full_name())
    }
}
