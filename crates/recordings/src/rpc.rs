//! What the inner door serves.

mod get;
mod join;
pub(crate) mod probe;
mod put_part;
mod put_screenshot;
mod read;
mod read_screenshot;

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use greenroom_chassis::Clock;
use greenroom_contracts::proto::internal::v1::recording_service_server::RecordingService;
use greenroom_contracts::proto::internal::v1::{
    JoinRequest, ReadScreenshotRequest, RecordingChunk, RecordingServiceGetRequest, RecordingServiceReadRequest,
};
use greenroom_contracts::proto::v1::{
    ProbeRequest, ProbeResponse, PutPartRequest, PutPartResponse, PutScreenshotRequest, PutScreenshotResponse,
    Recording, RunnerRef,
};
use greenroom_contracts::{BadField, runner_of};
use greenroom_domain::{BotId, RunnerId, TenantId};
use greenroom_store::Store;
use opentelemetry::metrics::Counter;
use sha2::{Digest, Sha256};
use tokio::sync::Notify;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use crate::policy::{Limits, Quota};
use crate::vault::Vault;

/// The largest part or screenshot.
const MOST_BYTES: usize = 16 << 20;

/// The service as tonic wants it; each method is in its own file.
#[derive(Debug, Clone)]
pub(crate) struct Rpc {
    pub store: Store,
    pub vault: Vault,
    pub clock: Clock,
    pub limits: Limits,
    pub quota: Quota,
    pub signal: Arc<Notify>,
    pub parts: Counter<u64>,
    pub probed: Arc<probe::Probed>,
}

type Chunks = Pin<Box<dyn Stream<Item = Result<RecordingChunk, Status>> + Send>>;

#[tonic::async_trait]
impl RecordingService for Rpc {
    type ReadStream = Chunks;
    type ReadScreenshotStream = Chunks;

    async fn probe(&self, _: Request<ProbeRequest>) -> Result<Response<ProbeResponse>, Status> {
        Ok(Response::new(probe::handle(self).await))
    }

    async fn put_part(&self, request: Request<PutPartRequest>) -> Result<Response<PutPartResponse>, Status> {
        let tenant = tenant_of(request.metadata())?;
        put_part::handle(self, tenant, request.into_inner()).await.map(Response::new)
    }

    async fn put_screenshot(
        &self,
        request: Request<PutScreenshotRequest>,
    ) -> Result<Response<PutScreenshotResponse>, Status> {
        let tenant = tenant_of(request.metadata())?;
        put_screenshot::handle(self, tenant, request.into_inner()).await.map(Response::new)
    }

    async fn get(&self, request: Request<RecordingServiceGetRequest>) -> Result<Response<Recording>, Status> {
        get::handle(self, request.into_inner()).await.map(Response::new)
    }

    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<Recording>, Status> {
        join::handle(self, request.into_inner()).await.map(Response::new)
    }

    async fn read(&self, request: Request<RecordingServiceReadRequest>) -> Result<Response<Chunks>, Status> {
        read::handle(self, request.into_inner()).await.map(Response::new)
    }

    async fn read_screenshot(&self, request: Request<ReadScreenshotRequest>) -> Result<Response<Chunks>, Status> {
        read_screenshot::handle(self, request.into_inner()).await.map(Response::new)
    }
}

/// The tenant that the runner's token named; the gateway checked it.
fn tenant_of(metadata: &MetadataMap) -> Result<TenantId, BadField> {
    let tenant = metadata.get("greenroom-tenant").and_then(|tenant| tenant.to_str().ok());
    tenant
        .ok_or_else(|| BadField::new("greenroom-tenant", "is missing from the metadata"))?
        .parse()
        .map_err(|error| BadField::new("greenroom-tenant", error))
}

/// Whose recording a client asks for.
fn asked(tenant: &str, bot: &str) -> Result<(TenantId, BotId), BadField> {
    let tenant = tenant.parse().map_err(|error| BadField::new("tenant_id", error))?;
    Ok((tenant, bot.parse().map_err(|error| BadField::new("bot_id", error))?))
}

/// The bot's runner that uploads; sessions have no recordings.
fn bot_of(runner: Option<&RunnerRef>) -> Result<(BotId, RunnerId), BadField> {
    let runner = runner_of(runner)?;
    let bot = runner.bot().ok_or_else(|| BadField::new("runner.kind", "must be bot"))?;
    Ok((bot, runner))
}

fn check_content(content: &Bytes) -> Result<(), BadField> {
    if content.is_empty() {
        return Err(BadField::new("content", "is empty"));
    }
    if content.len() > MOST_BYTES {
        return Err(BadField::new("content", "must not be larger than 16 MiB"));
    }
    Ok(())
}

fn signed(field: &str, n: u32) -> Result<i32, BadField> {
    i32::try_from(n).map_err(|_| BadField::new(field, "is too large"))
}

fn sha256(content: &[u8]) -> Vec<u8> {
    Sha256::digest(content).to_vec()
}

/// An object as clients get it.
fn chunks(object: BoxStream<'static, object_store::Result<Bytes>>) -> Chunks {
    Box::pin(object.map(|piece| {
        let failed = crate::Error::objects("read an object");
        piece.map(|content| RecordingChunk { content: content.into() }).map_err(|error| failed(error).into())
    }))
}
