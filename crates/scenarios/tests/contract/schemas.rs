//! The schemas of `/openapi.json`.

use jsonschema::Validator;
use serde_json::{Value, json};

/// Validates bodies against the schemas of a description.
pub struct Schemas<'a> {
    described: &'a Value,
    components: Value,
}

impl<'a> Schemas<'a> {
    pub fn of(described: &'a Value) -> Self {
        let mut components = described["components"].clone();
        for schema in components["schemas"].as_object_mut().into_iter().flat_map(|schemas| schemas.values_mut()) {
            // The description lets clients ignore fields that are new to them. This one has to know all.
            if schema["properties"].is_object() && schema["additionalProperties"].is_null() {
                schema["additionalProperties"] = json!(false);
            }
        }
        Self { described, components }
    }

    /// Follows a reference, if the value is one.
    pub fn resolve(&self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str().and_then(|reference| reference.strip_prefix('#')) {
            Some(pointer) => self.described.pointer(pointer).unwrap_or(&Value::Null),
            None => value,
        }
    }

    /// Returns the mismatches of a body and its schema.
    pub fn errors(&self, schema: &Value, body: &Value) -> Vec<String> {
        let mut whole = schema.clone();
        whole["components"] = self.components.clone();
        let validator = Validator::options().should_validate_formats(true).build(&whole).expect("a schema");
        validator.iter_errors(body).map(|error| format!("body{}: {error}", error.instance_path())).collect()
    }
}
