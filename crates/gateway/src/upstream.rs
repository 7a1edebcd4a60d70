//! The services behind the door: connections, and asking again where that is harmless.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use greenroom_chassis::{Host, InnerChannel, Peers};
use greenroom_contracts::proto::internal::v1::GetDesiredRequest;
use greenroom_contracts::proto::internal::v1::accounts_service_client::AccountsServiceClient;
use greenroom_contracts::proto::internal::v1::deployer_service_client::DeployerServiceClient;
use greenroom_contracts::proto::internal::v1::owner_service_client::OwnerServiceClient;
use greenroom_contracts::proto::internal::v1::recording_service_client::RecordingServiceClient;
use greenroom_contracts::proto::v1::Desired;
use greenroom_contracts::proto::v1::bot_service_client::BotServiceClient;
use greenroom_domain::{InstanceId, PlatformName, RunnerId};
use tokio::time::{Instant, sleep};
use tonic::{Code, Request, Response, Status};

/// Largest message to and from the services behind: a recording part and what belongs to it.
pub(crate) const LARGEST: usize = 20 << 20;
/// How long a service that is away is asked again before the caller is told.
const AGAIN_FOR: Duration = Duration::from_secs(2);
/// For what a beat asks: its runner need not wait, as going on is the answer then.
const AGAIN_FOR_BEAT: Duration = Duration::from_millis(300);
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(400);

/// The services behind. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Upstream {
    pub accounts: AccountsServiceClient<InnerChannel>,
    pub bots: BotServiceClient<InnerChannel>,
    pub owner: OwnerServiceClient<InnerChannel>,
    pub recordings: RecordingServiceClient<InnerChannel>,
    peers: Peers,
    again_for: Duration,
    again_for_beat: Duration,
}

impl Upstream {
    pub fn new(host: &Host) -> Self {
        let scheduler = host.peers.channel("scheduler");
        Self {
            accounts: AccountsServiceClient::new(host.peers.channel("accounts")),
            bots: BotServiceClient::new(scheduler.clone()).max_decoding_message_size(LARGEST),
            owner: OwnerServiceClient::new(scheduler),
            recordings: RecordingServiceClient::new(host.peers.channel("recordings"))
                .max_decoding_message_size(LARGEST)
                .max_encoding_message_size(LARGEST),
            peers: host.peers.clone(),
            again_for: host.scaled(AGAIN_FOR).max(Duration::from_millis(500)),
            again_for_beat: host.scaled(AGAIN_FOR_BEAT).max(Duration::from_millis(50)),
        }
    }

    /// The deployer of a platform. Asked rarely, so the connection is not kept.
    pub fn deployer(&self, platform: &PlatformName) -> DeployerServiceClient<InnerChannel> {
        DeployerServiceClient::new(self.peers.deployer(platform)).max_decoding_message_size(LARGEST)
    }

    /// Asks, and asks again as long as nobody is there. Only for what may be done twice.
    pub async fn ask<T, F, Fut>(&self, what: &'static str, call: F) -> Result<T, Status>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        again(what, self.again_for, call).await
    }

    /// What the owner wants a runner to do.
    pub async fn desired(&self, runner: RunnerId, instance: InstanceId) -> Result<Desired, Status> {
        let answer = again("OwnerService.GetDesired", self.again_for_beat, || {
            let mut owner = self.owner.clone();
            let mut request =
                Request::new(GetDesiredRequest { runner: Some(runner.into()), instance: instance.to_string() });
            request.set_timeout(Duration::from_secs(2));
            async move { owner.get_desired(request).await }
        });
        // A word that this version does not know means the same as going on.
        Ok(match answer.await?.desired() {
            Desired::Unspecified | Desired::Continue => Desired::Continue,
            Desired::Leave => Desired::Leave,
            Desired::Exit => Desired::Exit,
        })
    }
}

async fn again<T, F, Fut>(what: &'static str, again_for: Duration, mut call: F) -> Result<T, Status>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Response<T>, Status>>,
{
    let give_up = Instant::now() + again_for;
    let mut pause = FIRST_PAUSE;
    loop {
        let status = match call().await {
            Ok(answer) => return Ok(answer.into_inner()),
            Err(status) => status,
        };
        if !is_away(&status) || Instant::now() + pause > give_up {
            return Err(outward(what, &status));
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Nobody is there, or the connection broke in the middle. (What a service itself says comes without a source.)
fn is_away(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable => true,
        Code::Unknown | Code::Internal | Code::Cancelled => std::error::Error::source(status).is_some(),
        _ => false,
    }
}

/// What a caller may hear of what a service behind said. The rest is logged: it is our trouble and may name what is inside.
pub(crate) fn outward(what: &'static str, status: &Status) -> Status {
    if is_away(status) {
        tracing::warn!(call = what, code = ?status.code(), "a service does not answer");
        return Status::unavailable("a part of Greenroom is away, try again");
    }
    match status.code() {
        code @ (Code::NotFound
        | Code::InvalidArgument
        | Code::FailedPrecondition
        | Code::AlreadyExists
        | Code::ResourceExhausted
        | Code::PermissionDenied
        | Code::OutOfRange
        | Code::Aborted) => Status::with_details(code, status.message(), Bytes::copy_from_slice(status.details())),
        Code::DeadlineExceeded | Code::Cancelled => {
            tracing::warn!(call = what, code = ?status.code(), "a service did not answer in time");
            Status::unavailable("a part of Greenroom did not answer in time, try again")
        }
        Code::Unimplemented => {
            tracing::error!(call = what, "upstream does not implement this call: wrong address or version");
            Status::unavailable("a part of Greenroom is not what it should be")
        }
        // Unauthenticated among them: the caller's key was fine, ours at the inner door was not.
        code => {
            tracing::error!(call = what, ?code, "a service failed");
            Status::internal("something failed on our side")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_troubles_are_not_the_callers() {
        let said = |code| outward("x", &Status::new(code, "host db-7")).code();
        assert_eq!(said(Code::Unauthenticated), Code::Internal);
        assert_eq!(said(Code::Unknown), Code::Internal);
        assert_eq!(said(Code::DeadlineExceeded), Code::Unavailable);
        assert_eq!(said(Code::NotFound), Code::NotFound);
        assert!(!outward("x", &Status::internal("host db-7")).message().contains("db-7"));
    }

    #[tokio::test(start_paused = true)]
    async fn it_asks_again_while_nobody_is_there_and_only_then() {
        for (code, times) in [(Code::Unavailable, 3), (Code::FailedPrecondition, 1)] {
            let mut asked = 0;
            let answer = again("x", AGAIN_FOR, || {
                asked += 1;
                let answer = if asked < 3 { Err(Status::new(code, "")) } else { Ok(Response::new(())) };
                std::future::ready(answer)
            });
            assert_eq!(answer.await.is_ok(), times == 3);
            assert_eq!(asked, times);
        }
        let began = Instant::now();
        let never = again::<(), _, _>("x", AGAIN_FOR, || std::future::ready(Err(Status::unavailable(""))));
        assert_eq!(never.await.map_err(|status| status.code()), Err(Code::Unavailable));
        assert!(began.elapsed() <= AGAIN_FOR && began.elapsed() > AGAIN_FOR / 2);
    }
}
