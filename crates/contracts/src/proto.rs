//! The gRPC contracts. `proto/greenroom/v1/*.proto` is where they are documented.

/// Version 1.
#[allow(missing_docs, clippy::all)]
pub mod v1 {
    tonic::include_proto!("greenroom.v1");
}

/// The compiled descriptors, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/greenroom.fds"));
