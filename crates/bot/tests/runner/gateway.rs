//! A gateway for one runner, in this process: it keeps what it is told, and can be told to refuse or to be away.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use greenroom_contracts::proto::v1::runner_report::Report;
use greenroom_contracts::proto::v1::runner_service_server::{RunnerService, RunnerServiceServer};
use greenroom_contracts::proto::v1::*;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

pub const TOKEN: &str = "the-token-of-this-attempt";

/// What the gateway has and how it behaves.
#[derive(Default)]
pub struct Kept {
    pub config: RunnerConfig,
    pub reports: Vec<RunnerReport>,
    pub parts: Vec<PutPartRequest>,
    pub screenshots: Vec<String>,
    pub beats: u32,
    pub admissions: u32,
    pub desired: Desired,
    /// The order in the answers to reports, not in those to beats.
    pub desired_by_report: Desired,
    pub refuse_admission: bool,
    /// So many calls of each kind are answered with UNAVAILABLE first.
    pub away: u32,
    /// The storage takes nothing: as on a full disk.
    pub is_full: bool,
    /// Parts that came while it was so.
    pub refused_parts: u32,
}

#[derive(Clone)]
pub struct Gateway {
    kept: Arc<Mutex<Kept>>,
    changed: Arc<watch::Sender<u64>>,
    address: SocketAddr,
}

impl Gateway {
    pub async fn start(config: RunnerConfig) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let kept = Kept { config, desired: Desired::Continue, ..Kept::default() };
        let gateway = Self { kept: Arc::new(Mutex::new(kept)), changed: Arc::new(watch::Sender::new(0)), address };
        let service = RunnerServiceServer::new(gateway.clone()).max_decoding_message_size(17 << 20);
        let server = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        gateway
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap()
    }

    /// Waits until a report satisfies the condition.
    pub async fn reported(&self, what: &str, condition: impl Fn(&Report) -> bool) {
        let held = |kept: &Kept| kept.reports.iter().filter_map(|r| r.report.as_ref()).any(&condition);
        self.until(what, held).await;
    }

    pub async fn until(&self, what: &str, condition: impl Fn(&Kept) -> bool) {
        let mut changed = self.changed.subscribe();
        let wait = async {
            while !condition(&self.kept()) {
                changed.changed().await.unwrap();
            }
        };
        if timeout(Duration::from_secs(180), wait).await.is_err() {
            panic!("waited too long for {what}; reports: {:?}", self.words());
        }
    }

    /// The reports in order, in one word each.
    pub fn words(&self) -> Vec<String> {
        self.kept().reports.iter().map(|report| word(report.report.as_ref().unwrap())).collect()
    }

    fn enter<T>(&self, request: &Request<T>, runner: Option<&RunnerRef>) -> Result<MutexGuard<'_, Kept>, Status> {
        if request.metadata().get("authorization").and_then(|v| v.to_str().ok()) != Some(&format!("Bearer {TOKEN}")) {
            return Err(Status::unauthenticated("wrong token"));
        }
        assert_eq!(runner.map(|r| (r.kind.as_str(), r.attempt)), Some(("bot", 1)));
        let mut kept = self.kept();
        if kept.away > 0 {
            kept.away -= 1;
            drop(kept);
            self.change();
            return Err(Status::unavailable("away"));
        }
        Ok(kept)
    }

    fn change(&self) {
        self.changed.send_modify(|n| *n += 1);
    }
}

pub fn word(report: &Report) -> String {
    match report {
        Report::InWaitingRoom(_) => "waiting".to_owned(),
        Report::InCall(_) => "in_call".to_owned(),
        Report::RecordingStarted(_) => "recording".to_owned(),
        Report::RecordingStopped(_) => "stopped".to_owned(),
        Report::Leaving(leaving) => format!("leaving:{}", leaving.reason),
        Report::Finished(finished) => format!("finished:{}", finished.reason),
        Report::Failed(failed) => format!("failed:{}:{}", failed.reason, failed.may_pass),
        Report::Note(_) => "note".to_owned(),
        Report::Joining(_) => "joining".to_owned(),
    }
}

#[tonic::async_trait]
impl RunnerService for Gateway {
    async fn probe(&self, _: Request<ProbeRequest>) -> Result<Response<ProbeResponse>, Status> {
        Ok(Response::new(ProbeResponse::default()))
    }

    async fn admit(&self, request: Request<AdmitRequest>) -> Result<Response<AdmitResponse>, Status> {
        let mut kept = self.enter(&request, request.get_ref().runner.as_ref())?;
        kept.admissions += 1;
        if kept.refuse_admission {
            return Err(Status::failed_precondition("not the current attempt"));
        }
        Ok(Response::new(AdmitResponse { config: Some(kept.config.clone()) }))
    }

    async fn beat(&self, request: Request<BeatRequest>) -> Result<Response<BeatResponse>, Status> {
        let mut kept = self.enter(&request, request.get_ref().runner.as_ref())?;
        kept.beats += 1;
        let desired = kept.desired.into();
        drop(kept);
        self.change();
        Ok(Response::new(BeatResponse { desired, next_beat_ms: 200, log_level: 0 }))
    }

    async fn report(&self, request: Request<ReportRequest>) -> Result<Response<ReportResponse>, Status> {
        let mut kept = self.enter(&request, request.get_ref().runner.as_ref())?;
        for report in request.into_inner().reports {
            let next = kept.reports.len() as u64 + 1;
            assert!(report.sequence <= next, "a gap before {}", report.sequence);
            if report.sequence == next {
                kept.reports.push(report);
            }
        }
        let acknowledged = kept.reports.len() as u64;
        let desired = kept.desired_by_report.into();
        drop(kept);
        self.change();
        Ok(Response::new(ReportResponse { acknowledged, desired }))
    }

    async fn put_part(&self, request: Request<PutPartRequest>) -> Result<Response<PutPartResponse>, Status> {
        let mut kept = self.enter(&request, request.get_ref().runner.as_ref())?;
        let finished = kept.reports.iter().any(|r| matches!(r.report, Some(Report::Finished(_) | Report::Failed(_))));
        assert!(!finished, "a part came after the last report");
        if kept.is_full {
            kept.refused_parts += 1;
            drop(kept);
            self.change();
            return Err(Status::unavailable("the recordings' place does not work, try again"));
        }
        kept.parts.push(request.into_inner());
        drop(kept);
        self.change();
        Ok(Response::new(PutPartResponse {}))
    }

    async fn put_screenshot(
        &self,
        request: Request<PutScreenshotRequest>,
    ) -> Result<Response<PutScreenshotResponse>, Status> {
        let mut kept = self.enter(&request, request.get_ref().runner.as_ref())?;
        let request = request.into_inner();
        assert!(request.content.starts_with(&[0xff, 0xd8]), "no JPEG");
        kept.screenshots.push(request.label);
        drop(kept);
        self.change();
        Ok(Response::new(PutScreenshotResponse {}))
    }
}
