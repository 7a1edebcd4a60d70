//! How a method is reached over HTTP.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::Method;
use prost_reflect::{
    DescriptorPool, DynamicMessage, ExtensionDescriptor, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor,
    Value,
};
use prost_types::method_options::IdempotencyLevel;
use serde_json::value::RawValue;

use crate::from_json::{self, MOST_VIOLATIONS, Reader};
use crate::json_rules::JsonRules;
use crate::to_json::One;
use crate::{Violation, to_json};

/// A proto that cannot be served over HTTP: a mistake of whoever wrote it.
#[derive(Debug, thiserror::Error)]
#[error("{method}: {problem}")]
pub struct BadApi {
    method: String,
    problem: String,
}

impl BadApi {
    /// Names what cannot be served and says why.
    #[must_use]
    pub fn new(method: impl Into<String>, problem: impl ToString) -> Self {
        Self { method: method.into(), problem: problem.to_string() }
    }
}

/// The field of a request that makes a repeated call harmless, and the header that has it over HTTP.
const KEY: &str = "idempotency_key";
const KEY_HEADER: &str = "Idempotency-Key";

/// The request's fields that are the body.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Body {
    /// None: what is not in the path is a query parameter.
    None,
    /// All that are not in the path.
    Whole,
    /// This message.
    Field(FieldDescriptor, MessageDescriptor),
}

/// A method of a gRPC service, as it is reached over HTTP.
#[derive(Debug, Clone)]
pub struct Operation {
    rpc: MethodDescriptor,
    method: Method,
    path: String,
    pub(crate) in_path: Vec<FieldDescriptor>,
    pub(crate) body: Body,
    pub(crate) response_body: Option<FieldDescriptor>,
    update_mask: Option<FieldDescriptor>,
    pub(crate) json_rules: Arc<JsonRules>,
}

/// Reads descriptors as a proto compiler encodes them.
///
/// # Errors
/// When they are not descriptors.
pub fn descriptors(encoded: &[u8]) -> Result<DescriptorPool, BadApi> {
    DescriptorPool::decode(encoded).map_err(|error| BadApi::new("descriptors", error))
}

/// Returns the methods of a service.
///
/// # Errors
/// When there is no such service.
pub fn methods(pool: &DescriptorPool, service: &str) -> Result<Vec<MethodDescriptor>, BadApi> {
    let service_of = pool.get_service_by_name(service);
    Ok(service_of.ok_or_else(|| BadApi::new(service, "there is no such service"))?.methods().collect())
}

/// Returns whether a method may be called twice without harm (`idempotency_level`).
#[must_use]
pub fn is_idempotent(rpc: &MethodDescriptor) -> bool {
    let options = rpc.method_descriptor_proto().options.as_ref();
    options.is_some_and(|options| options.idempotency_level() != IdempotencyLevel::IdempotencyUnknown)
}

/// Reads the operations of services, in the order of the protos. Methods without a binding have none.
///
/// # Errors
/// When a service is missing, or a binding cannot be served.
pub fn operations(pool: &DescriptorPool, services: &[&str]) -> Result<Vec<Operation>, BadApi> {
    let Some(http) = pool.get_extension_by_name("google.api.http") else {
        return Err(BadApi::new("google.api.http", "there is no such option"));
    };
    let json_rules = Arc::new(JsonRules::of(pool));
    let mut operations = Vec::new();
    for name in services {
        for rpc in methods(pool, name)? {
            for rule in rules(&rpc, &http) {
                let operation = Operation::new(&rpc, &rule, json_rules.clone());
                operations.push(operation.map_err(|problem| BadApi::new(rpc.full_name(), problem))?);
            }
        }
    }
    Ok(operations)
}

fn rules(rpc: &MethodDescriptor, http: &ExtensionDescriptor) -> Vec<DynamicMessage> {
    let options = rpc.options();
    if !options.has_extension(http) {
        return Vec::new();
    }
    let rule = options.get_extension(http);
    let Some(rule) = rule.as_message() else { return Vec::new() };
    let more = rule.get_field_by_name("additional_bindings");
    let more = more.as_ref().and_then(|more| more.as_list()).unwrap_or_default();
    std::iter::once(rule.clone()).chain(more.iter().filter_map(|rule| rule.as_message().cloned())).collect()
}

fn text_of(rule: &DynamicMessage, name: &str) -> String {
    rule.get_field_by_name(name).and_then(|text| text.as_str().map(str::to_owned)).unwrap_or_default()
}

impl Operation {
    fn new(rpc: &MethodDescriptor, rule: &DynamicMessage, json_rules: Arc<JsonRules>) -> Result<Self, String> {
        let methods = [Method::GET, Method::PUT, Method::POST, Method::DELETE, Method::PATCH];
        let bound = methods.into_iter().find_map(|method| {
            let path = text_of(rule, &method.as_str().to_ascii_lowercase());
            (!path.is_empty()).then_some((method, path))
        });
        let (method, path) = bound.ok_or("a binding needs get, put, post, delete or patch")?;
        let input = rpc.input();
        let in_path = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).map(|name| {
            let field = input.get_field_by_name(name).filter(|field| !field.is_list() && !field.is_map());
            field.ok_or_else(|| format!("the path names {name}, which is not a plain field of the request"))
        });
        let in_path = in_path.collect::<Result<Vec<_>, _>>()?;
        let body = match text_of(rule, "body").as_str() {
            "" => Body::None,
            "*" => Body::Whole,
            name => {
                let field = input.get_field_by_name(name).ok_or("the body is not a field of the request")?;
                let Kind::Message(message) = field.kind() else { return Err("the body is not a message".to_owned()) };
                Body::Field(field, message)
            }
        };
        let response_body = match text_of(rule, "response_body").as_str() {
            "" => None,
            name => Some(rpc.output().get_field_by_name(name).ok_or("the response has no such field")?),
        };
        let update_mask = input.fields().find(is_mask).filter(|_| method == Method::PATCH);
        Ok(Self { rpc: rpc.clone(), method, path, in_path, body, response_body, update_mask, json_rules })
    }

    /// Returns the HTTP method.
    #[must_use]
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// Returns the path, with its variables in braces: `/v1/bots/{id}`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns the gRPC method.
    #[must_use]
    pub fn rpc(&self) -> &MethodDescriptor {
        &self.rpc
    }

    /// Returns whether a request has a body.
    #[must_use]
    pub fn takes_body(&self) -> bool {
        self.body != Body::None
    }

    /// Returns the header of a request that is one of its fields, and the field.
    #[must_use]
    pub fn header(&self) -> Option<(&'static str, FieldDescriptor)> {
        let field = self.rpc.input().get_field_by_name(KEY)?;
        (self.body != Body::Whole && field.kind() == Kind::String).then_some((KEY_HEADER, field))
    }

    /// Returns whether a call makes a resource, and not only changes one: a method whose name begins with Create does.
    #[must_use]
    pub fn creates(&self) -> bool {
        self.rpc.name().starts_with("Create")
    }

    /// Returns the id of a resource in a response.
    #[must_use]
    pub fn id(&self, response: &[u8]) -> Option<String> {
        let message = DynamicMessage::decode(self.rpc.output(), response).ok()?;
        message.get_field_by_name("id")?.as_str().map(str::to_owned)
    }

    /// Converts a request: the variables of its path, its query and, where it takes one, its body, a JSON object.
    ///
    /// # Errors
    /// Everything that is invalid.
    pub fn request<'a>(
        &self,
        path: impl IntoIterator<Item = (&'a str, &'a str)>,
        query: &str,
        body: &str,
    ) -> Result<DynamicMessage, Vec<Violation>> {
        let mut reader = Reader::new(&self.json_rules);
        let mut request = match &self.body {
            Body::None => DynamicMessage::new(self.rpc.input()),
            Body::Whole => reader.message(&self.rpc.input(), body, "", &self.in_path),
            Body::Field(field, message) => {
                let mut request = DynamicMessage::new(self.rpc.input());
                request.set_field(field, Value::Message(reader.message(message, body, "", &[])));
                request
            }
        };
        let mut violations = reader.violations;
        if let (Some(mask), Body::Field(_, message)) = (&self.update_mask, &self.body) {
            let paths = self.mask_of(message, body).into_iter().map(Value::String).collect();
            if let Value::Message(mask) = request.get_field_mut(mask) {
                mask.set_field_by_name("paths", Value::List(paths));
            }
        }
        self.parameters(&mut request, query, &mut violations);
        for (name, text) in path {
            let field = self.in_path.iter().find(|field| field.name() == name);
            let value = field.map(|field| (field, from_json::text(&field.kind(), text, &self.json_rules)));
            match value {
                Some((field, Ok(value))) => request.set_field(field, value),
                Some((field, Err(problem))) => violations.push(Violation::new(field.json_name(), problem)),
                None => {}
            }
        }
        if violations.is_empty() { Ok(request) } else { Err(violations) }
    }

    /// Returns the paths that a merge patch names: `meeting.url`. A field that is null is named too, and absent in the message.
    fn mask_of(&self, descriptor: &MessageDescriptor, patch: &str) -> Vec<String> {
        let mut paths = Vec::new();
        for (name, value) in serde_json::from_str::<BTreeMap<String, &RawValue>>(patch).unwrap_or_default() {
            let Some(field) = descriptor.get_field_by_json_name(&name) else { continue };
            match field.kind() {
                // An empty object changes nothing.
                Kind::Message(inner) if value.get().starts_with('{') && !field.is_map() && !field.is_list() => {
                    let inner = self.mask_of(&inner, value.get()).into_iter();
                    paths.extend(inner.map(|path| format!("{}.{path}", field.name())));
                }
                _ => paths.push(field.name().to_owned()),
            }
        }
        paths
    }

    fn parameters(&self, request: &mut DynamicMessage, query: &str, violations: &mut Vec<Violation>) {
        let mut given: Vec<FieldDescriptor> = Vec::new();
        for (name, text) in url::form_urlencoded::parse(query.as_bytes()) {
            if violations.len() >= MOST_VIOLATIONS {
                return;
            }
            let is_parameter = |field: &FieldDescriptor| self.body == Body::None && !self.in_path.contains(field);
            let Some(field) = self.rpc.input().get_field_by_json_name(&name).filter(is_parameter) else {
                let name: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
                violations.push(Violation::new(name, "there is no such parameter"));
                continue;
            };
            if given.contains(&field) && !field.is_list() {
                violations.push(Violation::new(name, "must not be given twice"));
            } else if let Err(problem) = from_json::parameter(request, &field, &text, &self.json_rules) {
                violations.push(Violation::new(name, problem));
            }
            given.push(field);
        }
    }

    /// Converts a response.
    ///
    /// # Errors
    /// When it is not a message of the method's.
    pub fn response(&self, response: &[u8]) -> Result<Vec<u8>, BadApi> {
        let bad = |problem: &dyn ToString| BadApi::new(self.rpc.full_name(), problem.to_string());
        let message = DynamicMessage::decode(self.rpc.output(), response).map_err(|error| bad(&error))?;
        let json = match &self.response_body {
            None => serde_json::to_vec(&to_json::Json(&message, &self.json_rules)),
            Some(field) => serde_json::to_vec(&One(&field.kind(), &message.get_field(field), &self.json_rules)),
        };
        json.map_err(|error| bad(&error))
    }

    /// Returns how HTTP calls a field that the service calls by its path in the request: `settings.start_time` is `startTime`
    /// where the body is `settings`.
    #[must_use]
    pub fn field_name(&self, path: &str) -> String {
        let (message, path) = match &self.body {
            Body::Field(field, _) if path == field.name() => return "(body)".to_owned(),
            Body::Field(field, message) => {
                match path.strip_prefix(field.name()).and_then(|rest| rest.strip_prefix('.')) {
                    Some(rest) => (message.clone(), rest),
                    None if path == KEY => return KEY_HEADER.to_owned(),
                    None => (self.rpc.input(), path),
                }
            }
            Body::Whole | Body::None => (self.rpc.input(), path),
        };
        let (first, rest) = path.split_once('.').unwrap_or((path, ""));
        match message.get_field_by_name(first) {
            // Names in there are the caller's own.
            Some(field) if !rest.is_empty() && self.json_rules.is_document(&field) => {
                format!("{}.{rest}", field.json_name())
            }
            _ => camel_case(path),
        }
    }
}

/// Converts messages that no operation has, such as the answers to runners.
#[derive(Debug, Clone)]
pub struct Messages {
    pool: DescriptorPool,
    json_rules: Arc<JsonRules>,
}

impl Messages {
    /// Converts the messages of a pool.
    #[must_use]
    pub fn new(pool: &DescriptorPool) -> Self {
        Self { pool: pool.clone(), json_rules: Arc::new(JsonRules::of(pool)) }
    }

    /// Converts an encoded message of this name.
    ///
    /// # Errors
    /// When it is not one.
    pub fn json(&self, name: &str, message: &[u8]) -> Result<Vec<u8>, BadApi> {
        let descriptor = self.pool.get_message_by_name(name);
        let descriptor = descriptor.ok_or_else(|| BadApi::new(name, "there is no such message"))?;
        let message = DynamicMessage::decode(descriptor, message).map_err(|error| BadApi::new(name, error))?;
        serde_json::to_vec(&to_json::Json(&message, &self.json_rules)).map_err(|error| BadApi::new(name, error))
    }
}

fn is_mask(field: &FieldDescriptor) -> bool {
    field.kind().as_message().is_some_and(|message| message.full_name() == "google.protobuf.FieldMask")
}

/// Converts a path of protobuf names to JSON names: `meeting.display_name` to `meeting.displayName`.
#[must_use]
pub fn camel_case(path: &str) -> String {
    let mut name = String::with_capacity(path.len());
    let mut upper = false;
    for c in path.chars() {
        if c == '_' {
            upper = true;
        } else if std::mem::take(&mut upper) {
            name.push(c.to_ascii_uppercase());
        } else {
            name.push(c);
        }
    }
    name
}
