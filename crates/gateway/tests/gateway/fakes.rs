//! The services behind the gateway, in this process: they keep what they are told, and can be told what to answer.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use futures::Stream;
use greenroom_contracts::proto::internal::v1::accounts_service_server::{AccountsService, AccountsServiceServer};
use greenroom_contracts::proto::internal::v1::deployer_service_server::{DeployerService, DeployerServiceServer};
use greenroom_contracts::proto::internal::v1::owner_service_server::{OwnerService, OwnerServiceServer};
use greenroom_contracts::proto::internal::v1::recording_service_server::{RecordingService, RecordingServiceServer};
use greenroom_contracts::proto::internal::v1::{ReadScreenshotRequest, *};
use greenroom_contracts::proto::v1::bot_service_server::{BotService, BotServiceServer};
use greenroom_contracts::proto::v1::order_service_server::OrderServiceServer;
use greenroom_contracts::proto::v1::pool_operator_service_server::PoolOperatorServiceServer;
use greenroom_contracts::proto::v1::sizes_service_server::SizesServiceServer;
use greenroom_contracts::proto::v1::*;
use greenroom_contracts::{caller, operator};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, Request, Response, Status};

pub type Answer<T> = Result<Response<T>, Status>;
type Chunks<T> = std::pin::Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What was said, and what to answer.
#[derive(Default)]
pub struct Kept {
    /// Callers by the hash of their key.
    pub callers: HashMap<Vec<u8>, Caller>,
    pub authenticated: u32,
    pub created: Vec<(Caller, CreateBotRequest)>,
    /// The calls about one bot: method, caller and id.
    pub asked: Vec<(&'static str, Caller, String)>,
    pub updated: Vec<(Caller, UpdateBotRequest)>,
    pub listed: Vec<(Caller, ListBotsRequest)>,
    /// Bots that the scheduler does not know.
    pub unknown: Vec<String>,
    /// So many calls to the scheduler fail first.
    pub fail: u32,
    pub fail_with: Option<Status>,
    pub admitted: Vec<AdmitRequest>,
    pub reported: Vec<ReportRequest>,
    pub desired: Desired,
    pub desired_asked: u32,
    /// Instances that the owner was asked about, and those that it refuses.
    pub authorized: Vec<String>,
    pub fenced: Vec<String>,
    pub parts: Vec<(String, PutPartRequest)>,
    pub screenshots: Vec<(String, PutScreenshotRequest)>,
    pub logs: Vec<LogsRequest>,
    pub recording_state: &'static str,
    /// What was asked of the pool, in words.
    pub pool: Vec<String>,
}

#[derive(Clone, Default)]
pub struct Fakes(Arc<Mutex<Kept>>);

pub fn bot(id: &str) -> Bot {
    Bot {
        id: id.to_owned(),
        number: 7,
        state: BotState::InCall.into(),
        settings: Some(BotSettings {
            meeting: Some(Meeting { provider: "web".to_owned(), ..Meeting::default() }),
            metadata: r#"{"b":1,"a":2.0}"#.to_owned(),
            ..BotSettings::default()
        }),
        attempt: 2,
        platform: "k8s-eu".to_owned(),
        ..Bot::default()
    }
}

/// Refuses an id that is not a UUID.
fn known(id: &str) -> Result<(), Status> {
    id.parse::<uuid::Uuid>().map(drop).map_err(|_| Status::not_found("there is no such bot"))
}

impl Fakes {
    pub async fn start() -> (Self, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let fakes = Self::default();
        fakes.kept().recording_state = "ready";
        let server = tonic::transport::Server::builder()
            .add_service(AccountsServiceServer::new(fakes.clone()))
            .add_service(BotServiceServer::new(fakes.clone()))
            .add_service(OwnerServiceServer::new(fakes.clone()))
            .add_service(RecordingServiceServer::new(fakes.clone()).max_decoding_message_size(20 << 20))
            .add_service(PoolOperatorServiceServer::new(fakes.clone()))
            .add_service(SizesServiceServer::new(fakes.clone()))
            .add_service(OrderServiceServer::new(fakes.clone()))
            .add_service(DeployerServiceServer::new(fakes.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        (fakes, address)
    }

    pub fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().expect("no panic")
    }

    pub fn fail(&self, times: u32, code: Code, message: &str) {
        let mut kept = self.kept();
        (kept.fail, kept.fail_with) = (times, Some(Status::new(code, message)));
    }

    pub fn fail_as(&self, times: u32, status: Status) {
        let mut kept = self.kept();
        (kept.fail, kept.fail_with) = (times, Some(status));
    }

    /// Fails as it was told to.
    pub fn enter(&self) -> Result<MutexGuard<'_, Kept>, Status> {
        let mut kept = self.kept();
        if kept.fail == 0 {
            return Ok(kept);
        }
        kept.fail -= 1;
        Err(kept.fail_with.clone().expect("a status"))
    }

    fn asked(&self, what: &'static str, caller: Caller, id: String) -> Answer<Bot> {
        known(&id)?;
        let answer = bot(&id);
        // Also when it fails.
        self.kept().asked.push((what, caller, id));
        drop(self.enter()?);
        Ok(Response::new(answer))
    }
}

#[tonic::async_trait]
impl AccountsService for Fakes {
    async fn authenticate(&self, request: Request<AuthenticateRequest>) -> Answer<Caller> {
        let mut kept = self.kept();
        kept.authenticated += 1;
        let caller = kept.callers.get(&request.into_inner().key_sha256).cloned();
        caller.map(Response::new).ok_or_else(|| Status::unauthenticated("nobody's"))
    }

    async fn create_key(&self, _: Request<CreateKeyRequest>) -> Answer<CreateKeyResponse> {
        unreachable!("the gateway makes no keys")
    }

    async fn list_tenants(&self, _: Request<ListTenantsRequest>) -> Answer<ListTenantsResponse> {
        unreachable!("that is for operators at the command line")
    }

    async fn set_tenant(&self, _: Request<SetTenantRequest>) -> Answer<Tenant> {
        unreachable!("that is for operators at the command line")
    }

    async fn get_limits(&self, _: Request<GetLimitsRequest>) -> Answer<GetLimitsResponse> {
        unreachable!("the gateway knows them with the key")
    }
}

#[tonic::async_trait]
impl BotService for Fakes {
    async fn create_bot(&self, request: Request<CreateBotRequest>) -> Answer<Bot> {
        let caller = caller(&request)?;
        self.kept().created.push((caller, request.into_inner()));
        drop(self.enter()?);
        Ok(Response::new(bot("0198c0de-0000-7000-8000-000000000001")))
    }

    async fn get_bot(&self, request: Request<GetBotRequest>) -> Answer<Bot> {
        if self.kept().unknown.contains(&request.get_ref().bot_id) {
            return Err(Status::not_found("there is no such bot"));
        }
        self.asked("get", caller(&request)?, request.into_inner().bot_id)
    }

    async fn list_bots(&self, request: Request<ListBotsRequest>) -> Answer<ListBotsResponse> {
        let caller = caller(&request)?;
        self.kept().listed.push((caller, request.into_inner()));
        Ok(Response::new(ListBotsResponse { bots: vec![bot("a"), bot("b")], next_page_token: "more".to_owned() }))
    }

    async fn list_timeline(&self, request: Request<ListTimelineRequest>) -> Answer<ListTimelineResponse> {
        let list = request.into_inner();
        known(&list.bot_id)?;
        if self.kept().unknown.contains(&list.bot_id) {
            return Err(Status::not_found("there is no such bot"));
        }
        let entries = vec![TimelineEntry { sequence: 7, what: "note".to_owned(), ..TimelineEntry::default() }];
        Ok(Response::new(ListTimelineResponse { entries, next_page_token: list.page_token }))
    }

    async fn update_bot(&self, request: Request<UpdateBotRequest>) -> Answer<Bot> {
        let caller = caller(&request)?;
        let update = request.into_inner();
        known(&update.bot_id)?;
        let answer = bot(&update.bot_id);
        self.kept().updated.push((caller, update));
        drop(self.enter()?);
        Ok(Response::new(answer))
    }

    async fn deploy_bot(&self, request: Request<DeployBotRequest>) -> Answer<Bot> {
        self.asked("deploy", caller(&request)?, request.into_inner().bot_id)
    }

    async fn fail_bot(&self, request: Request<FailBotRequest>) -> Answer<Bot> {
        self.asked("fail", operator(&request)?, request.into_inner().bot_id)
    }

    async fn restart_bot(&self, request: Request<RestartBotRequest>) -> Answer<Bot> {
        self.asked("restart", operator(&request)?, request.into_inner().bot_id)
    }

    async fn leave_bot(&self, request: Request<LeaveBotRequest>) -> Answer<Bot> {
        self.asked("leave", caller(&request)?, request.into_inner().bot_id)
    }

    async fn cancel_bot(&self, request: Request<CancelBotRequest>) -> Answer<Bot> {
        self.asked("cancel", caller(&request)?, request.into_inner().bot_id)
    }
}

#[tonic::async_trait]
impl OwnerService for Fakes {
    async fn admit(&self, request: Request<AdmitRequest>) -> Answer<AdmitResponse> {
        self.kept().admitted.push(request.into_inner());
        drop(self.enter()?);
        let meeting =
            Meeting { url: "https://example.com/hush".to_owned(), password: "hush".to_owned(), ..Meeting::default() };
        let config = RunnerConfig {
            settings: Some(BotSettings {
                meeting: Some(meeting),
                metadata: r#"{"b":1,"a":2.0}"#.to_owned(),
                ..BotSettings::default()
            }),
            beat_interval_ms: 10_000,
            first_part: 3,
            allowed_networks: vec!["loopback".to_owned(), "10.1.0.0/16".to_owned()],
            ..RunnerConfig::default()
        };
        Ok(Response::new(AdmitResponse { config: Some(config) }))
    }

    async fn report(&self, request: Request<ReportRequest>) -> Answer<ReportResponse> {
        let request = request.into_inner();
        let acknowledged = request.reports.last().map_or(0, |report| report.sequence);
        self.kept().reported.push(request);
        drop(self.enter()?);
        Ok(Response::new(ReportResponse { acknowledged, ..ReportResponse::default() }))
    }

    async fn get_desired(&self, request: Request<GetDesiredRequest>) -> Answer<GetDesiredResponse> {
        let mut kept = self.enter()?;
        kept.desired_asked += 1;
        if kept.fenced.contains(&request.get_ref().instance) {
            return Ok(Response::new(GetDesiredResponse { desired: Desired::Exit.into() }));
        }
        Ok(Response::new(GetDesiredResponse { desired: kept.desired.into() }))
    }

    async fn authorize_upload(&self, request: Request<AuthorizeUploadRequest>) -> Answer<AuthorizeUploadResponse> {
        let request = request.into_inner();
        let mut kept = self.kept();
        kept.authorized.push(request.instance.clone());
        if kept.fenced.contains(&request.instance) {
            return Err(Status::failed_precondition("another instance was admitted for this attempt"));
        }
        Ok(Response::new(AuthorizeUploadResponse { valid_ms: 600_000 }))
    }

    async fn launch_environment(&self, _: Request<LaunchEnvironmentRequest>) -> Answer<LaunchEnvironmentResponse> {
        unreachable!("that is for deployers")
    }

    async fn close_attempt(&self, _: Request<CloseAttemptRequest>) -> Answer<CloseAttemptResponse> {
        unreachable!("that is for the pool manager")
    }
}

#[tonic::async_trait]
impl RecordingService for Fakes {
    type ReadStream = Chunks<RecordingChunk>;
    type ReadScreenshotStream = Chunks<RecordingChunk>;

    async fn probe(&self, _: Request<ProbeRequest>) -> Answer<ProbeResponse> {
        Ok(Response::new(ProbeResponse { storage_problem: "the disk is full".to_owned() }))
    }

    async fn put_part(&self, request: Request<PutPartRequest>) -> Answer<PutPartResponse> {
        let tenant = tenant(&request);
        self.kept().parts.push((tenant, request.into_inner()));
        Ok(Response::new(PutPartResponse {}))
    }

    async fn join(&self, request: Request<JoinRequest>) -> Answer<Recording> {
        let bot_id = request.into_inner().bot_id;
        Ok(Response::new(Recording { bot_id, state: RecordingState::Joining.into(), ..Recording::default() }))
    }

    async fn put_screenshot(&self, request: Request<PutScreenshotRequest>) -> Answer<PutScreenshotResponse> {
        let tenant = tenant(&request);
        self.kept().screenshots.push((tenant, request.into_inner()));
        Ok(Response::new(PutScreenshotResponse {}))
    }

    async fn get(&self, request: Request<RecordingServiceGetRequest>) -> Answer<Recording> {
        Ok(Response::new(Recording {
            bot_id: request.into_inner().bot_id,
            state: RecordingState::of_word(self.kept().recording_state).unwrap_or_default().into(),
            media_type: "audio/webm".to_owned(),
            size_bytes: 10,
            ..Recording::default()
        }))
    }

    async fn read(&self, _: Request<RecordingServiceReadRequest>) -> Answer<Self::ReadStream> {
        Ok(Response::new(chunks(&["hello", "world"], |content| RecordingChunk { content })))
    }

    async fn read_screenshot(&self, request: Request<ReadScreenshotRequest>) -> Answer<Self::ReadScreenshotStream> {
        if request.get_ref().name != "2-in_call.png" {
            return Err(Status::not_found("there is no such screenshot"));
        }
        let content = b"\x89PNG and so on".to_vec();
        Ok(Response::new(Box::pin(futures::stream::iter([Ok(RecordingChunk { content })]))))
    }
}

#[tonic::async_trait]
impl DeployerService for Fakes {
    type LogsStream = Chunks<LogsChunk>;

    async fn inspect(&self, _: Request<InspectRequest>) -> Answer<InspectResponse> {
        unreachable!("that is for others")
    }

    async fn logs(&self, request: Request<LogsRequest>) -> Answer<Self::LogsStream> {
        self.kept().logs.push(request.into_inner());
        Ok(Response::new(chunks(&["one\n", "two\n"], |content| LogsChunk { content })))
    }
}

fn tenant<T>(request: &Request<T>) -> String {
    request.metadata().get("greenroom-tenant").and_then(|tenant| tenant.to_str().ok()).unwrap_or_default().to_owned()
}

fn chunks<T: Send + 'static>(words: &[&str], chunk: impl Fn(Vec<u8>) -> T) -> Chunks<T> {
    let chunks: Vec<_> = words.iter().map(|word| Ok(chunk(word.as_bytes().to_vec()))).collect();
    Box::pin(futures::stream::iter(chunks))
}
