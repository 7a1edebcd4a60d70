//! Services of which the gateway knows more than those behind it: `RecordingService`, `LogService`, `EventService`.

use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt as _};
use greenroom_contracts::BadField;
use greenroom_contracts::proto::v1::event_service_server::EventService;
use greenroom_contracts::proto::v1::log_service_server::LogService;
use greenroom_contracts::proto::v1::recording_service_server::RecordingService;
use greenroom_contracts::proto::v1::{
    CloudEvent, GetLogsRequest, GetRecordingRequest, JoinRecordingRequest, LogChunk, ReadRecordingRequest,
    ReadRecordingResponse, ReadScreenshotRequest, ReadScreenshotResponse, Recording, WatchEventsRequest,
};
use tonic::{Request, Response, Status};

use super::bot_id;
use crate::core::Core;
use crate::events::Seen;
use crate::keys::Client;

type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[derive(Clone)]
pub(super) struct Own(pub Arc<Core>);

/// Returns the client that the authorization layer has put into the request.
fn client<T>(request: &Request<T>) -> Result<Client, Status> {
    request.extensions().get().cloned().ok_or_else(|| Status::unauthenticated("send Authorization: Bearer <API key>"))
}

#[tonic::async_trait]
impl RecordingService for Own {
    async fn get_recording(&self, request: Request<GetRecordingRequest>) -> Result<Response<Recording>, Status> {
        let client = client(&request)?;
        Ok(Response::new(self.0.bots.recording(&client, bot_id(&request.get_ref().bot_id)?).await?))
    }

    type ReadRecordingStream = Messages<ReadRecordingResponse>;

    async fn read_recording(
        &self,
        request: Request<ReadRecordingRequest>,
    ) -> Result<Response<Self::ReadRecordingStream>, Status> {
        let client = client(&request)?;
        let bot = bot_id(&request.get_ref().bot_id)?;
        let (recording, content) = self.0.bots.recording_content(&client, bot).await?;
        let mut about = Some((recording.media_type, Some(recording.size_bytes).filter(|size| *size > 0)));
        // As over HTTP it goes on while the process drains: a stream that ends early would pass for a whole file.
        let messages = content.chunks.map(move |chunk| {
            let (media_type, size_bytes) = about.take().unwrap_or_default();
            chunk.map(|content| ReadRecordingResponse { content: content.into(), media_type, size_bytes })
        });
        Ok(Response::new(Box::pin(messages)))
    }

    type ReadScreenshotStream = Messages<ReadScreenshotResponse>;

    async fn read_screenshot(
        &self,
        request: Request<ReadScreenshotRequest>,
    ) -> Result<Response<Self::ReadScreenshotStream>, Status> {
        let client = client(&request)?;
        let ReadScreenshotRequest { bot_id: bot, name } = request.into_inner();
        let content = self.0.bots.screenshot(&client, bot_id(&bot)?, &name).await?;
        let mut media_type = content.image_type().map(str::to_owned);
        let messages = content.chunks.map(move |chunk| {
            let media_type = media_type.take().unwrap_or_default();
            chunk.map(|content| ReadScreenshotResponse { content: content.into(), media_type })
        });
        Ok(Response::new(Box::pin(messages)))
    }

    async fn join_recording(&self, request: Request<JoinRecordingRequest>) -> Result<Response<Recording>, Status> {
        let client = client(&request)?;
        Ok(Response::new(self.0.bots.join_recording(&client, bot_id(&request.get_ref().bot_id)?).await?))
    }
}

#[tonic::async_trait]
impl LogService for Own {
    type GetLogsStream = Messages<LogChunk>;

    async fn get_logs(&self, request: Request<GetLogsRequest>) -> Result<Response<Self::GetLogsStream>, Status> {
        let client = client(&request)?;
        let bot = bot_id(&request.get_ref().bot_id)?;
        let chunks = self.0.bots.logs(&client, bot, request.into_inner()).await?;
        // Until the process ends.
        let closing = self.0.closing.clone();
        let chunks = chunks.map(|chunk| chunk.map(|content| LogChunk { content: content.into() }));
        Ok(Response::new(Box::pin(chunks.take_until(async move { closing.cancelled().await }))))
    }
}

#[tonic::async_trait]
impl EventService for Own {
    type WatchEventsStream = Messages<CloudEvent>;

    async fn watch_events(
        &self,
        request: Request<WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        let client = client(&request)?;
        let WatchEventsRequest { cursor, bot_id } = request.into_inner();
        let bot = match bot_id.as_str() {
            "" => None,
            id => Some(id.parse().map_err(|_| BadField::new("bot_id", "must be a bot's id"))?),
        };
        let after = match cursor.as_str() {
            "" => None,
            cursor => Some(cursor.parse().map_err(|problem| BadField::new("cursor", problem))?),
        };
        if let Some(bot) = bot {
            // Of an unknown bot there will never be an event.
            self.0.bots.get(&client, bot).await?;
        }
        let (_, events) = self.0.events.watch(client.tenant, bot, after, self.0.event_keep_alive).await?;
        let events = events.filter_map(|seen| {
            let event = match seen {
                Seen::Event(event) => {
                    Some(Ok(CloudEvent { cursor: event.cursor.to_string(), json: event.json.into() }))
                }
                Seen::Place(_) => None,
            };
            std::future::ready(event)
        });
        Ok(Response::new(Box::pin(events)))
    }
}
