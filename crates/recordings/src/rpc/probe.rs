//! Whether an upload would be kept.

use bytes::Bytes;
use greenroom_contracts::proto::v1::ProbeResponse;
use uuid::Uuid;

use super::Rpc;

pub(super) async fn handle(rpc: &Rpc) -> ProbeResponse {
    let written = rpc.vault.try_out(&format!("probes/{}", Uuid::now_v7()), Bytes::from_static(b"probe")).await;
    let storage_problem = written.err().map(|error| {
        tracing::warn!(%error, "the recordings' place does not take what is uploaded");
        error.to_string()
    });
    ProbeResponse { storage_problem: storage_problem.unwrap_or_default() }
}
