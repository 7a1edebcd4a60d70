use greenroom_contracts::{BadField, bad_fields};
use tonic::Status;

/// What keeps the gateway from being built.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The compiled descriptors are not what reflection expects: a mistake in the build.
    #[error("cannot serve gRPC reflection")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The HTTP bindings in the protos cannot be served: a mistake in the build.
    #[error("cannot serve the protos over HTTP")]
    Bindings(#[from] greenroom_transcode::BadApi),
}

/// Why a call was not answered with what was asked for. Both doors make of it what they say in such a case.
#[derive(Debug, Clone)]
pub(crate) enum Refused {
    /// These fields cannot be. All of them are named, in the words of protobuf.
    Fields(Vec<BadField>),
    /// Anything else. What came from another service has passed [`outward`](crate::upstream::outward).
    Status(Status),
}

impl From<Status> for Refused {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

impl From<BadField> for Refused {
    fn from(bad: BadField) -> Self {
        Self::Fields(vec![bad])
    }
}

impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Fields(fields) => bad_fields(&fields),
            Refused::Status(status) => status,
        }
    }
}
