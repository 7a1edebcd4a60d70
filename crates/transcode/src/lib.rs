//! HTTP with JSON in front of gRPC services.
//!
//! The protos say how each method is reached over HTTP (`google.api.http`), and their descriptors say how its request and its
//! response look as JSON. This crate reads both and knows no field by name, so a field that is added to a proto is there over
//! HTTP as well.
//!
//! The JSON is that of protobuf ([ProtoJSON](https://protobuf.dev/programming-guides/json/)) with these differences:
//!
//! - Numbers of 64 bits are numbers, not strings.
//! - The value `STATE_RUNNING` of an enum `State` is called `RUNNING`, and `running` where the enum has the option
//!   `greenroom.v1.lower_case`.
//! - Responses leave out absent messages and optional fields, empty strings, unspecified enum values, and nothing else.
//! - Requests name fields in one way, in camelCase, and unknown fields are errors.
//! - A text field with the option `greenroom.v1.json` is a JSON document, and keeps its very text.
//! - Times are RFC 3339 as [`greenroom_domain::parse_rfc3339`] takes them.

mod from_json;
mod json_rules;
mod mask;
mod openapi;
mod operation;
mod to_json;
mod violation;

pub use mask::Masked;
pub use openapi::openapi;
pub use operation::{BadApi, Messages, Operation, camel_case, descriptors, is_idempotent, methods, operations};
pub use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, MessageDescriptor, MethodDescriptor, Value};
pub use violation::Violation;
