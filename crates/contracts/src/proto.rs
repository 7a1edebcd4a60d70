//! The gRPC contracts. `proto/greenroom` is where they are documented.

/// The public API, and what runners call.
#[allow(missing_docs, clippy::all)]
pub mod v1 {
    tonic::include_proto!("greenroom.v1");
}

/// The calls between services. The gateway serves none of them.
pub mod internal {
    /// Version 1.
    #[allow(missing_docs, clippy::all)]
    pub mod v1 {
        tonic::include_proto!("greenroom.internal.v1");
    }
}

/// The names of enum values, made by the build script.
mod words {
    use super::{internal, v1};

    include!(concat!(env!("OUT_DIR"), "/words.rs"));
}

/// The compiled descriptors of the public packages: for gRPC reflection, and for HTTP.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/public.fds"));
