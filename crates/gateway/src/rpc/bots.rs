//! `BotService`.

use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt as _};
use greenroom_contracts::BadField;
use greenroom_contracts::proto::v1::bot_service_server::BotService;
use greenroom_contracts::proto::v1::{
    Bot, CancelBotRequest, CloudEvent, CreateBotRequest, DeployBotRequest, FailBotRequest, GetBotRequest,
    GetLogsRequest, GetRecordingRequest, JoinRecordingRequest, LeaveBotRequest, ListBotsRequest, ListBotsResponse,
    ListTimelineRequest, ListTimelineResponse, LogChunk, Recording, RestartBotRequest, UpdateBotRequest,
    WatchEventsRequest,
};
use tonic::{Request, Response, Status};

use super::bot_id;
use crate::core::Core;
use crate::events::Seen;
use crate::keys::Client;

pub(super) struct Bots(pub Arc<Core>);

/// Returns the client that the authorization layer has put into the request.
fn client<T>(request: &Request<T>) -> Result<Client, Status> {
    request.extensions().get().cloned().ok_or_else(|| Status::unauthenticated("send Authorization: Bearer <API key>"))
}

impl Bots {
    /// Until the process ends.
    fn open<T: Send + 'static>(
        &self,
        stream: impl Stream<Item = T> + Send + 'static,
    ) -> Pin<Box<dyn Stream<Item = T> + Send>> {
        let closing = self.0.closing.clone();
        Box::pin(stream.take_until(async move { closing.cancelled().await }))
    }
}

#[tonic::async_trait]
impl BotService for Bots {
    type GetLogsStream = Pin<Box<dyn Stream<Item = Result<LogChunk, Status>> + Send>>;
    type WatchEventsStream = Pin<Box<dyn Stream<Item = Result<CloudEvent, Status>> + Send>>;

    async fn create_bot(&self, request: Request<CreateBotRequest>) -> Result<Response<Bot>, Status> {
        let client = client(&request)?;
        Ok(Response::new(self.0.bots.create(&client, request.into_inner()).await?))
    }

    async fn get_bot(&self, request: Request<GetBotRequest>) -> Result<Response<Bot>, Status> {
        let client = client(&request)?;
        Ok(Response::new(self.0.bots.get(&client, bot_id(&request.get_ref().id)?).await?))
    }

    async fn list_bots(&self, request: Request<ListBotsRequest>) -> Result<Response<ListBotsResponse>, Status> {
        let client = client(&request)?;
        Ok(Response::new(self.0.bots.list(&client, request.into_inner()).await?))
    }

    async fn list_timeline(
        &self,
        request: Request<ListTimelineRequest>,
    ) -> Result<Response<ListTimelineResponse>, Status> {
        let client = client(&request)?;
        let bot = bot_id(&request.get_ref().bot_id)?;
        Ok(Response::new(self.0.bots.timeline(&client, bot, request.into_inner()).await?))
    }

    async fn update_bot(&self, request: Request<UpdateBotRequest>) -> Result<Response<Bot>, Status> {
        let client = client(&request)?;
        bot_id(&request.get_ref().id)?;
        Ok(Response::new(self.0.bots.update(&client, request.into_inner()).await?))
    }

    async fn deploy_bot(&self, request: Request<DeployBotRequest>) -> Result<Response<Bot>, Status> {
        let client = client(&request)?;
        Ok(Response::new(self.0.bots.deploy(&client, bot_id(&request.get_ref().id)?).await?))
    }

    async fn fail_bot(&self, request: Request<FailBotRequest>) -> Result<Response<Bot>, Status> {
        let client = client(&request)?;
        Ok(Response::new(self.0.bots.fail(&client, bot_id(&request.get_ref().id)?).await?))
    }

    async fn restart_bot(&self, request: Request<RestartBotRequest>) -> Result<Response<Bot>, Status> {
        let client = client(&request)?;
        Ok(Response::new(self.0.bots.restart(&client, bot_id(&request.get_ref().id)?).await?))
    }

    async fn leave_bot(&self, request: Request<LeaveBotRequest>) -> Result<Response<Bot>, Status> {
        let client = client(&request)?;
        Ok(Response::new(self.0.bots.leave(&client, bot_id(&request.get_ref().id)?).await?))
    }

    async fn cancel_bot(&self, request: Request<CancelBotRequest>) -> Result<Response<Bot>, Status> {
        let client = client(&request)?;
        Ok(Response::new(self.0.bots.cancel(&client, bot_id(&request.get_ref().id)?).await?))
    }

    async fn get_recording(&self, request: Request<GetRecordingRequest>) -> Result<Response<Recording>, Status> {
        let client = client(&request)?;
        Ok(Response::new(self.0.bots.recording(&client, bot_id(&request.get_ref().bot_id)?).await?))
    }

    async fn join_recording(&self, request: Request<JoinRecordingRequest>) -> Result<Response<Recording>, Status> {
        let client = client(&request)?;
        Ok(Response::new(self.0.bots.join_recording(&client, bot_id(&request.get_ref().id)?).await?))
    }

    async fn get_logs(&self, request: Request<GetLogsRequest>) -> Result<Response<Self::GetLogsStream>, Status> {
        let client = client(&request)?;
        let bot = bot_id(&request.get_ref().bot_id)?;
        let chunks = self.0.bots.logs(&client, bot, request.into_inner()).await?;
        Ok(Response::new(self.open(chunks.map(|chunk| chunk.map(|content| LogChunk { content: content.into() })))))
    }

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
