//! `Get`: how far a bot's recording is. A bot of which nothing was heard has none.

use greenroom_contracts::proto::internal::v1::RecordingServiceGetRequest;
use greenroom_contracts::proto::v1::{Recording, RecordingGap, RecordingState};
use tonic::Status;

use super::{Rpc, asked};
use crate::policy::{State, Verdict};
use crate::{Error, store};

pub async fn handle(rpc: &Rpc, request: RecordingServiceGetRequest) -> Result<Recording, Status> {
    let (tenant, bot) = asked(&request.tenant_id, &request.bot_id)?;
    let pool = rpc.store.pool();
    let row = store::get(pool, tenant, bot).await.map_err(Error::Store)?;
    let screenshots = store::screenshots(pool, tenant, bot).await.map_err(Error::Store)?;
    let Some(row) = row else {
        let state = RecordingState::None.into();
        return Ok(Recording { bot_id: bot.to_string(), state, screenshots, ..Recording::default() });
    };
    let progress = row.progress().map_err(Error::Store)?;
    let unsigned = |n: Option<i64>| n.and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
    Ok(Recording {
        bot_id: bot.to_string(),
        state: shown(progress.state()).into(),
        media_type: row.media_type.unwrap_or_default(),
        duration_ms: unsigned(row.duration_ms),
        size_bytes: unsigned(row.size_bytes),
        mean_volume_db: row.mean_volume_db,
        parts: progress.parts,
        location: row.object.unwrap_or_default(),
        // Earlier versions wrote paths into it.
        detail: rpc.vault.without_paths(&row.detail),
        gaps: row.gaps.iter().map(|gap| RecordingGap { at_ms: gap.at_ms, missing_ms: gap.missing_ms }).collect(),
        screenshots,
        // The gateway knows its own addresses.
        url: String::new(),
    })
}

fn shown(state: State) -> RecordingState {
    match state {
        State::Recording => RecordingState::Recording,
        State::Joining => RecordingState::Joining,
        State::Settled(Verdict::Ready) => RecordingState::Ready,
        State::Settled(Verdict::Failed) => RecordingState::Failed,
        State::Settled(Verdict::None) => RecordingState::None,
    }
}
