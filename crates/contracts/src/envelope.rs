//! The CloudEvent around every message.

use std::fmt;

use greenroom_domain::{Installation, MessageId, TenantId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::Message;

/// Who speaks: installation and service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Which Greenroom.
    pub installation: Installation,
    /// Which of its services.
    pub service: &'static str,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/greenroom/{}/{}", self.installation, self.service)
    }
}

/// The attributes of CloudEvents 1.0 and our extensions, without the data. Enough to route, count and log a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// "1.0".
    pub specversion: String,
    /// The same for every repeat of the message.
    pub id: MessageId,
    /// `/greenroom/<installation>/<service>`.
    pub source: String,
    /// `dev.greenroom.bot.state_changed.v1`.
    #[serde(rename = "type")]
    pub message_type: String,
    /// The id of what it is about.
    pub subject: String,
    /// When it happened.
    pub time: Timestamp,
    /// "application/json".
    pub datacontenttype: String,
    /// Whose it is, where it is a tenant's. Only such messages reach clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenantid: Option<TenantId>,
    /// Of which attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// Rising by one per noun and id, given by its only writer. Public events have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<i64>,
    /// W3C trace context of the story it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

/// A message with its attributes, as it stands on the wire (structured JSON).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope<T> {
    /// The attributes.
    #[serde(flatten)]
    pub header: Header,
    /// The message itself.
    pub data: T,
}

impl<T: Message> Envelope<T> {
    /// A message that `origin` says at `time`, with a new id.
    #[must_use]
    pub fn new(origin: &Origin, time: Timestamp, data: T) -> Self {
        Self {
            header: Header {
                specversion: "1.0".to_owned(),
                id: MessageId::generate(),
                source: origin.to_string(),
                message_type: T::TYPE.to_owned(),
                subject: data.subject(),
                time,
                datacontenttype: "application/json".to_owned(),
                tenantid: None,
                attempt: data.attempt(),
                sequence: None,
                traceparent: None,
            },
            data,
        }
    }

    /// The same with an id made of words, so that a repeat by a service without a store is recognised.
    #[must_use]
    pub fn with_deterministic_id(mut self, words: &str) -> Self {
        self.header.id = MessageId::deterministic(&format!("{} {} {words}", T::TYPE, self.header.subject));
        self
    }

    /// A tenant's message, numbered: what makes an event public.
    #[must_use]
    pub fn public(mut self, tenant: TenantId, sequence: i64) -> Self {
        self.header.tenantid = Some(tenant);
        self.header.sequence = Some(sequence);
        self
    }

    /// The bytes on the wire.
    ///
    /// # Panics
    /// Never: messages are plain data with string keys, which JSON always holds.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("messages are plain data")
    }
}
