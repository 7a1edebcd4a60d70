//! Whether an upload would be kept.

use std::time::{Duration, Instant};

use bytes::Bytes;
use greenroom_contracts::proto::v1::ProbeResponse;
use tokio::sync::Mutex;
use uuid::Uuid;

use super::Rpc;

/// Whoever has a token may ask; so long one look is good for all of them.
const GOOD_FOR: Duration = Duration::from_secs(2);

/// The last look, and when it was.
pub(crate) type Probed = Mutex<Option<(Instant, String)>>;

pub(super) async fn handle(rpc: &Rpc) -> ProbeResponse {
    let mut probed = rpc.probed.lock().await;
    if let Some((at, problem)) = &*probed
        && at.elapsed() < GOOD_FOR
    {
        return ProbeResponse { storage_problem: problem.clone() };
    }
    let written = rpc.vault.try_out(&format!("probes/{}", Uuid::now_v7()), Bytes::from_static(b"probe")).await;
    let problem = written.err().map(|error| {
        tracing::warn!(%error, "cannot write to RECORDINGS_DIR");
        error.to_string()
    });
    let storage_problem = problem.unwrap_or_default();
    *probed = Some((Instant::now(), storage_problem.clone()));
    ProbeResponse { storage_problem }
}
