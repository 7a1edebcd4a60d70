//! The scheduler's inner door; one file for each method.

mod admit;
mod answer;
mod authorize_upload;
mod cancel;
mod close_attempt;
mod create;
mod deploy;
mod force;
mod get;
mod get_desired;
mod get_forecast;
mod get_sizes;
mod launch_environment;
mod leave;
mod list;
mod list_timeline;
mod platform_order;
mod refusal;
mod report;
mod update;

use std::sync::Arc;

use futures::FutureExt;
use greenroom_chassis::Host;
use greenroom_contracts::BadField;
use greenroom_contracts::proto::internal::v1::forecast_service_server::ForecastService;
use greenroom_contracts::proto::internal::v1::owner_service_server::OwnerService;
use greenroom_contracts::proto::internal::v1::queue_service_client::QueueServiceClient;
use greenroom_contracts::proto::internal::v1::{
    AuthorizeUploadRequest, AuthorizeUploadResponse, CloseAttemptRequest, CloseAttemptResponse, GetDesiredRequest,
    GetDesiredResponse, GetForecastRequest, GetForecastResponse, LaunchEnvironmentRequest, LaunchEnvironmentResponse,
};
use greenroom_contracts::proto::v1::bot_service_server::BotService;
use greenroom_contracts::proto::v1::order_service_server::OrderService;
use greenroom_contracts::proto::v1::sizes_service_server::SizesService;
use greenroom_contracts::proto::v1::{
    AdmitRequest, AdmitResponse, Bot, CancelBotRequest, ClearPlatformOrderRequest, CreateBotRequest, DeployBotRequest,
    FailBotRequest, GetBotRequest, GetPlatformOrderRequest, GetSizesRequest, GetSizesResponse, LeaveBotRequest,
    ListBotsRequest, ListBotsResponse, ListTimelineRequest, ListTimelineResponse, PlatformOrder, ReportRequest,
    ReportResponse, RestartBotRequest, SetPlatformOrderRequest, UpdateBotRequest,
};
use greenroom_contracts::{caller, operator};
use greenroom_domain::bot::Event;
use greenroom_domain::{BotId, RunnerId, TenantId};
use greenroom_store::{Coalescer, Lanes, halve};
use greenroom_tasks::Tasks;
use tonic::{Request, Response, Status, async_trait};

use crate::sizes::Sizes;
use crate::writer::{Applied, Input, Writer};
use crate::{Config, Error};

pub(crate) use create::{Answer, Create};

/// The most creates in a batch.
pub(crate) const CREATES: usize = 256;

/// What every method needs.
#[derive(Clone)]
pub struct Door {
    pub(crate) config: Arc<Config>,
    pub(crate) host: Host,
    pub(crate) writer: Arc<Writer>,
    pub(crate) sizes: Arc<Sizes>,
    /// Concurrent calls about bots share transactions. What one call says stays together, in its order: two lanes would
    /// otherwise race with two halves of it.
    pub(crate) inputs: Coalescer<Vec<Input>, Result<Vec<Applied>, Arc<Error>>>,
    /// And concurrent creates share a statement.
    pub(crate) creates: Coalescer<Create, Answer>,
    /// Those that wait for a tenant's lock keep no others waiting.
    pub(crate) guarded_creates: Coalescer<Create, Answer>,
    pub(crate) queue: QueueServiceClient<greenroom_chassis::InnerChannel>,
}

impl Door {
    pub fn new(config: Arc<Config>, host: Host, writer: Arc<Writer>, sizes: Arc<Sizes>, tasks: &Tasks) -> Self {
        let applying = writer.clone();
        let inputs = Coalescer::spawn(tasks, "scheduler lane of bots", 256, 2, move |calls: Vec<Vec<Input>>| {
            let writer = applying.clone();
            async move {
                let apply = |calls| apply(&writer, calls).boxed();
                halve(&calls, Error::is_refused, apply).await
            }
        });
        let lanes = |name| {
            let creating = writer.clone();
            Coalescer::spawn(tasks, name, CREATES, 2, move |batch: Vec<Create>| {
                let writer = creating.clone();
                async move { create::create_all(&writer, &batch).await }
            })
        };
        let (creates, guarded_creates) =
            (lanes("scheduler lane of creates"), lanes("scheduler lane of creates under limits"));
        let queue = QueueServiceClient::new(host.peers.channel("queue"));
        Self { config, host, writer, sizes, inputs, creates, guarded_creates, queue }
    }

    /// Every lane of every coalescer, for the service's health.
    pub(crate) fn lanes(&self) -> [Lanes; 3] {
        [self.inputs.lanes(), self.creates.lanes(), self.guarded_creates.lanes()]
    }

    pub(crate) async fn apply(&self, input: Input) -> Result<Applied, Status> {
        let applied = self.apply_all(vec![input]).await?;
        applied.into_iter().next().ok_or_else(|| Error::Stopping.into())
    }

    /// All of it in one transaction, in order.
    pub(crate) async fn apply_all(&self, inputs: Vec<Input>) -> Result<Vec<Applied>, Status> {
        match self.inputs.ask(inputs).await {
            Ok(Ok(applied)) => Ok(applied),
            Ok(Err(error)) => Err(error.as_ref().into()),
            Err(unanswered) => Err(Error::from(unanswered).into()),
        }
    }
}

/// Applies what several calls say in one transaction, and answers each.
async fn apply(writer: &Writer, calls: &[Vec<Input>]) -> Result<Vec<Vec<Applied>>, Error> {
    let mut applied = writer.apply(&calls.concat()).await?.into_iter();
    Ok(calls.iter().map(|call| applied.by_ref().take(call.len()).collect()).collect())
}

/// The error of a bad page_token.
const TOKEN: &str = "must be the next page token of an answer";

pub(crate) fn tenant(text: &str) -> Result<TenantId, Status> {
    text.parse().map_err(|_| Status::from(BadField::new("tenant_id", "must be a UUID")))
}

/// A bot's id as a caller gave it: what is no UUID names no bot.
pub(crate) fn bot(text: &str) -> Result<BotId, Status> {
    text.parse().map_err(|_| no_such_bot())
}

pub(crate) fn no_such_bot() -> Status {
    Status::not_found("there is no such bot")
}

/// The bot's runner that a request speaks of.
pub(crate) fn runner(given: Option<&greenroom_contracts::proto::v1::RunnerRef>) -> Result<(BotId, RunnerId), Status> {
    let runner = greenroom_contracts::runner_of(given)?;
    let bot = runner.bot().ok_or_else(|| BadField::new("runner.kind", "must be bot"))?;
    Ok((bot, runner))
}

#[async_trait]
impl BotService for Door {
    async fn create_bot(&self, request: Request<CreateBotRequest>) -> Result<Response<Bot>, Status> {
        create::create(self, caller(&request)?, request.into_inner()).await.map(Response::new)
    }

    async fn get_bot(&self, request: Request<GetBotRequest>) -> Result<Response<Bot>, Status> {
        get::get(self, &caller(&request)?, request.get_ref()).await.map(Response::new)
    }

    async fn list_timeline(
        &self,
        request: Request<ListTimelineRequest>,
    ) -> Result<Response<ListTimelineResponse>, Status> {
        list_timeline::list_timeline(self, &caller(&request)?, request.get_ref()).await.map(Response::new)
    }

    async fn list_bots(&self, request: Request<ListBotsRequest>) -> Result<Response<ListBotsResponse>, Status> {
        list::list(self, &caller(&request)?, request.get_ref()).await.map(Response::new)
    }

    async fn update_bot(&self, request: Request<UpdateBotRequest>) -> Result<Response<Bot>, Status> {
        update::update(self, caller(&request)?, request.into_inner()).await.map(Response::new)
    }

    async fn deploy_bot(&self, request: Request<DeployBotRequest>) -> Result<Response<Bot>, Status> {
        deploy::deploy(self, &caller(&request)?, request.get_ref()).await.map(Response::new)
    }

    async fn fail_bot(&self, request: Request<FailBotRequest>) -> Result<Response<Bot>, Status> {
        operator(&request)?;
        force::force(self, &request.get_ref().bot_id, Event::FailAsked).await.map(Response::new)
    }

    async fn restart_bot(&self, request: Request<RestartBotRequest>) -> Result<Response<Bot>, Status> {
        operator(&request)?;
        force::force(self, &request.get_ref().bot_id, Event::RestartAsked).await.map(Response::new)
    }

    async fn leave_bot(&self, request: Request<LeaveBotRequest>) -> Result<Response<Bot>, Status> {
        leave::leave(self, &caller(&request)?, request.get_ref()).await.map(Response::new)
    }

    async fn cancel_bot(&self, request: Request<CancelBotRequest>) -> Result<Response<Bot>, Status> {
        cancel::cancel(self, &caller(&request)?, request.get_ref()).await.map(Response::new)
    }
}

#[async_trait]
impl OwnerService for Door {
    async fn admit(&self, request: Request<AdmitRequest>) -> Result<Response<AdmitResponse>, Status> {
        admit::admit(self, request.into_inner()).await.map(Response::new)
    }

    async fn report(&self, request: Request<ReportRequest>) -> Result<Response<ReportResponse>, Status> {
        report::report(self, request.into_inner()).await.map(Response::new)
    }

    async fn get_desired(&self, request: Request<GetDesiredRequest>) -> Result<Response<GetDesiredResponse>, Status> {
        get_desired::get_desired(self, request.into_inner()).await.map(Response::new)
    }

    async fn authorize_upload(
        &self,
        request: Request<AuthorizeUploadRequest>,
    ) -> Result<Response<AuthorizeUploadResponse>, Status> {
        authorize_upload::authorize_upload(self, request.into_inner()).await.map(Response::new)
    }

    async fn launch_environment(
        &self,
        request: Request<LaunchEnvironmentRequest>,
    ) -> Result<Response<LaunchEnvironmentResponse>, Status> {
        launch_environment::launch_environment(self, request.into_inner()).await.map(Response::new)
    }

    async fn close_attempt(
        &self,
        request: Request<CloseAttemptRequest>,
    ) -> Result<Response<CloseAttemptResponse>, Status> {
        close_attempt::close_attempt(self, request.into_inner()).await.map(Response::new)
    }
}

#[async_trait]
impl ForecastService for Door {
    async fn get_forecast(
        &self,
        request: Request<GetForecastRequest>,
    ) -> Result<Response<GetForecastResponse>, Status> {
        get_forecast::get_forecast(self, request.into_inner()).await.map(Response::new)
    }
}

#[async_trait]
impl SizesService for Door {
    async fn get_sizes(&self, request: Request<GetSizesRequest>) -> Result<Response<GetSizesResponse>, Status> {
        operator(&request)?;
        get_sizes::get_sizes(self).await.map(Response::new)
    }
}

#[async_trait]
impl OrderService for Door {
    async fn get_platform_order(
        &self,
        request: Request<GetPlatformOrderRequest>,
    ) -> Result<Response<PlatformOrder>, Status> {
        operator(&request)?;
        Ok(Response::new(platform_order::get(self)))
    }

    async fn set_platform_order(
        &self,
        request: Request<SetPlatformOrderRequest>,
    ) -> Result<Response<PlatformOrder>, Status> {
        let (caller, SetPlatformOrderRequest { platforms }) = (operator(&request)?, request.into_inner());
        if platforms.is_empty() {
            let problem = "must name at least one platform; DELETE returns to the order of the settings";
            return Err(BadField::new("platforms", problem).into());
        }
        platform_order::set(self, &platforms, &caller).await.map(Response::new)
    }

    async fn clear_platform_order(
        &self,
        request: Request<ClearPlatformOrderRequest>,
    ) -> Result<Response<PlatformOrder>, Status> {
        platform_order::set(self, &[], &operator(&request)?).await.map(Response::new)
    }
}
