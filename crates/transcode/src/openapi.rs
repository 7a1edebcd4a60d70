//! Operations described as OpenAPI 3.1, in the words of the protos' comments.

use std::collections::BTreeMap;

use http::Method;
use prost_reflect::{FieldDescriptor, FileDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value as Json, json};

use crate::from_json::TIMESTAMP;
use crate::json_rules::JsonRules;
use crate::operation::{Body, Operation};

/// Describes the operations, each with its errors, and the messages that they speak of. `problem` is the schema of an error; `more`
/// are paths that no proto binds.
#[must_use]
pub fn openapi(operations: &[&Operation], title: &str, version: &str, problem: Json, more: Map<String, Json>) -> Json {
    let json_rules = operations.first().map(|operation| operation.json_rules.clone()).unwrap_or_default();
    let mut schemas = Schemas { known: BTreeMap::new(), json_rules: &json_rules };
    let mut paths = more;
    let mut tags = BTreeMap::new();
    for operation in operations {
        let described = describe(operation, &mut schemas);
        let service = operation.rpc().parent_service();
        tags.insert(tag(operation), comment(service.parent_file(), service.path()));
        let path = paths.entry(operation.path()).or_insert_with(|| json!({}));
        path[operation.method().as_str().to_ascii_lowercase()] = described;
    }
    let mut components = schemas.finish();
    components.insert("Problem".to_owned(), problem);
    json!({
        "openapi": "3.1.0",
        "info": {"title": title, "version": version, "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}},
        "servers": [{"url": "/"}],
        "security": [{"key": []}],
        "tags": tags.into_iter().map(|(name, about)| json!({"name": name, "description": about})).collect::<Vec<_>>(),
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "An API key."}},
            "responses": {"Problem": {
                "description": "What is wrong (RFC 9457).",
                "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
            }},
        },
    })
}

/// `BotService` is `bots`.
fn tag(operation: &Operation) -> String {
    let service = operation.rpc().parent_service().name().to_owned();
    service.strip_suffix("Service").unwrap_or(&service).to_owned()
}

fn describe(operation: &Operation, schemas: &mut Schemas<'_>) -> Json {
    let rpc = operation.rpc();
    let about = comment(rpc.parent_file(), rpc.path());
    let mut parameters: Vec<Json> = Vec::new();
    for field in &operation.in_path {
        parameters.push(parameter(field, "path", field.name(), true, schemas));
    }
    if operation.body == Body::None {
        for field in rpc.input().fields().filter(|field| !operation.in_path.contains(field)) {
            parameters.push(parameter(&field, "query", field.json_name(), false, schemas));
        }
    }
    if let Some((name, field)) = operation.header() {
        parameters.push(parameter(&field, "header", name, false, schemas));
    }
    let output = match &operation.response_body {
        Some(field) => schemas.field(field),
        None => schemas.message(&rpc.output()),
    };
    let answer = |about: &str| json!({"description": about, "content": {"application/json": {"schema": output}}});
    let mut responses = Map::new();
    if operation.creates() {
        let mut made = answer("It was made, or had been made by the same request.");
        made["headers"] = json!({"Location": {"description": "Where it is.", "schema": {"type": "string"}}});
        responses.insert("201".to_owned(), made);
    } else {
        responses.insert("200".to_owned(), answer("The answer."));
    }
    let refused = || json!({"$ref": "#/components/responses/Problem"});
    responses.insert("4XX".to_owned(), refused());
    responses.insert("5XX".to_owned(), refused());
    let mut described = json!({
        "operationId": camel(rpc.name()),
        "summary": summary(&about),
        "description": about,
        "tags": [tag(operation)],
        "parameters": parameters,
        "responses": responses,
    });
    let body = match &operation.body {
        Body::None => None,
        Body::Whole => Some(schemas.message(&rpc.input())),
        Body::Field(_, message) => Some(schemas.message(message)),
    };
    if let Some(schema) = body {
        let mut content = json!({"application/json": {"schema": schema}});
        if operation.method() == Method::PATCH {
            content["application/merge-patch+json"] = content["application/json"].clone();
        }
        described["requestBody"] = json!({"required": true, "content": content});
    }
    described
}

fn parameter(field: &FieldDescriptor, place: &str, name: &str, required: bool, schemas: &mut Schemas<'_>) -> Json {
    let about = comment(field.parent_message().parent_file(), field.path());
    json!({"name": name, "in": place, "required": required, "description": about, "schema": schemas.plain(field)})
}

/// Schemas by the names of their messages, as they are met.
struct Schemas<'a> {
    known: BTreeMap<String, Json>,
    json_rules: &'a JsonRules,
}

impl Schemas<'_> {
    fn finish(self) -> Map<String, Json> {
        self.known.into_iter().collect()
    }

    fn message(&mut self, message: &MessageDescriptor) -> Json {
        let name = message.name().to_owned();
        let reference = json!({"$ref": format!("#/components/schemas/{name}")});
        if !self.known.contains_key(&name) {
            // Before its fields, among which it may be itself.
            self.known.insert(name.clone(), Json::Null);
            let fields = message.fields().map(|field| (field.json_name().to_owned(), self.field(&field)));
            let properties: Map<String, Json> = fields.collect();
            let mut schema = json!({"type": "object", "properties": properties});
            let about = comment(message.parent_file(), message.path());
            if !about.is_empty() {
                schema["description"] = about.into();
            }
            self.known.insert(name, schema);
        }
        reference
    }

    /// A field, with what its comment says.
    fn field(&mut self, field: &FieldDescriptor) -> Json {
        let mut schema = self.plain(field);
        let about = comment(field.parent_message().parent_file(), field.path());
        if !about.is_empty() {
            schema["description"] = about.into();
        }
        schema
    }

    fn plain(&mut self, field: &FieldDescriptor) -> Json {
        if field.is_map() {
            let kind = field.kind();
            let value = kind.as_message().map(|entry| entry.map_entry_value_field().kind());
            return json!({"type": "object", "additionalProperties": value.map(|kind| self.kind(&kind))});
        }
        if self.json_rules.is_document(field) {
            return json!({"type": "object", "additionalProperties": true});
        }
        let schema = self.kind(&field.kind());
        if field.is_list() { json!({"type": "array", "items": schema}) } else { schema }
    }

    fn kind(&mut self, kind: &Kind) -> Json {
        match kind {
            Kind::Bool => json!({"type": "boolean"}),
            Kind::String => json!({"type": "string"}),
            Kind::Bytes => json!({"type": "string", "contentEncoding": "base64"}),
            Kind::Double | Kind::Float => json!({"type": "number"}),
            Kind::Uint32 | Kind::Fixed32 => json!({"type": "integer", "minimum": 0, "maximum": u32::MAX}),
            Kind::Uint64 | Kind::Fixed64 => json!({"type": "integer", "minimum": 0}),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => json!({"type": "integer", "format": "int32"}),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => json!({"type": "integer", "format": "int64"}),
            Kind::Enum(of) => {
                let words: Vec<_> = self.json_rules.words(of).iter().map(|(_, word)| word).collect();
                json!({"type": "string", "enum": words})
            }
            Kind::Message(message) if message.full_name() == TIMESTAMP => {
                json!({"type": "string", "format": "date-time"})
            }
            Kind::Message(message) => self.message(message),
        }
    }
}

/// Returns the comment above something in a proto, on one line.
fn comment(file: FileDescriptor, path: &[i32]) -> String {
    let source = file.file_descriptor_proto().source_code_info.as_ref();
    let locations = source.map(|source| source.location.as_slice()).unwrap_or_default();
    let found = locations.iter().find(|location| location.path == path);
    let text = found.and_then(|location| location.leading_comments.as_deref()).unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Returns the first sentence.
fn summary(about: &str) -> &str {
    let mut ends = about.match_indices(['.', ':', ';']).map(|(at, _)| at);
    let end = ends.find(|at| about[at + 1..].chars().next().is_none_or(char::is_whitespace));
    &about[..end.unwrap_or(about.len())]
}

fn camel(name: &str) -> String {
    let mut chars = name.chars();
    chars.next().map(|first| first.to_ascii_lowercase().to_string() + chars.as_str()).unwrap_or_default()
}
