//! Changes of messages, by the paths of a field mask.

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, MessageDescriptor, ReflectMessage, Value};

use crate::BadApi;

/// Messages of these packages are values, such as times: a mask names them as a whole.
const VALUES: &str = "google.protobuf.";

/// A type of messages that are changed by a field mask.
#[derive(Debug, Clone)]
pub struct Masked(MessageDescriptor);

impl Masked {
    /// Finds the type by its full name.
    ///
    /// # Errors
    /// When there is no such message.
    pub fn new(descriptors: &[u8], name: &str) -> Result<Self, BadApi> {
        let pool = DescriptorPool::decode(descriptors).map_err(|error| BadApi::new(name, error))?;
        let found = pool.get_message_by_name(name);
        found.map(Self).ok_or_else(|| BadApi::new(name, "there is no such message"))
    }

    /// Returns whether a path leads to a field: `meeting.url`.
    #[must_use]
    pub fn has(&self, path: &str) -> bool {
        let mut message = Some(self.0.clone());
        path.split('.').all(|name| {
            let field = message.take().and_then(|message| message.get_field_by_name(name));
            message = field.as_ref().and_then(inner);
            field.is_some()
        })
    }

    /// Returns the name in JSON of the field that a path begins with.
    #[must_use]
    pub fn json_name(&self, path: &str) -> Option<String> {
        let field = self.0.get_field_by_name(path.split('.').next()?)?;
        Some(field.json_name().to_owned())
    }

    /// Returns a message with what stands at these paths in another one. Where nothing stands there, it is taken away.
    ///
    /// # Errors
    /// When the messages are of another type.
    pub fn merged<M: Message + Default>(&self, into: &M, from: &M, paths: &[String]) -> Result<M, BadApi> {
        let bad = |error: prost::DecodeError| BadApi::new(self.0.full_name(), error);
        let dynamic = |message: &M| DynamicMessage::decode(self.0.clone(), message.encode_to_vec().as_slice());
        let (mut merged, from) = (dynamic(into).map_err(bad)?, dynamic(from).map_err(bad)?);
        for path in paths {
            replace(&mut merged, &from, path);
        }
        M::decode(merged.encode_to_vec().as_slice()).map_err(bad)
    }
}

/// Returns the message of a field into which a path may lead.
fn inner(field: &FieldDescriptor) -> Option<MessageDescriptor> {
    let message = field.kind().as_message()?.clone();
    (!field.is_list() && !field.is_map() && !message.full_name().starts_with(VALUES)).then_some(message)
}

fn replace(into: &mut DynamicMessage, from: &DynamicMessage, path: &str) {
    let (name, rest) = path.split_once('.').unwrap_or((path, ""));
    let Some(field) = into.descriptor().get_field_by_name(name) else { return };
    if !rest.is_empty()
        && let (Value::Message(into), Some(from)) = (into.get_field_mut(&field), from.get_field(&field).as_message())
    {
        return replace(into, from, rest);
    }
    if from.has_field(&field) {
        into.set_field(&field, from.get_field(&field).into_owned());
    } else {
        into.clear_field(&field);
    }
}
