//! A pool manager: so many slots on each platform, and what was asked of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use greenroom_contracts::proto::internal::v1::answer::Outcome;
use greenroom_contracts::proto::internal::v1::forecast_service_server::ForecastService;
use greenroom_contracts::proto::internal::v1::pool_service_server::PoolService;
use greenroom_contracts::proto::internal::v1::{
    Answer, AssignRequest, AssignResponse, CloseManyRequest, CloseManyResponse, CloseRequest, CloseResponse,
    ForecastStep, GetForecastRequest, GetForecastResponse, ListExpectedRequest, ListExpectedResponse,
    ListPlatformsRequest, ListPlatformsResponse,
};
use greenroom_contracts::runner_of;
use greenroom_domain::RunnerId;
use tokio::sync::watch;
use tonic::{Request, Response, Status, async_trait};

#[derive(Default)]
pub struct Known {
    /// Free slots.
    pub free: BTreeMap<String, usize>,
    /// Who has one, in the order in which they were given.
    pub given: Vec<(RunnerId, String)>,
    /// Who has one and is told that there is none: the answer was lost.
    pub secretly_given: BTreeSet<RunnerId>,
    /// Providers at their limit, everywhere.
    pub provider_full: BTreeSet<String>,
    pub closed: BTreeSet<RunnerId>,
    pub stopped: BTreeSet<RunnerId>,
    /// Every request: who, and for which platforms.
    pub asked: Vec<Vec<(RunnerId, Vec<String>)>>,
    /// Those whom somebody asks for at this moment.
    pub in_flight: Vec<RunnerId>,
    /// Who was asked for by two at once.
    pub asked_at_once: BTreeSet<RunnerId>,
    pub away: bool,
    /// What the owners of runners foretell.
    pub forecast: Vec<ForecastStep>,
}

#[derive(Clone)]
pub struct Pool {
    known: Arc<Mutex<Known>>,
    /// Assignments are answered while this is so.
    assigns: watch::Sender<bool>,
    closes: watch::Sender<bool>,
    /// Nobody is answered who asks for this platform.
    mute: watch::Sender<Option<&'static str>>,
}

impl Pool {
    pub fn new() -> Self {
        Self {
            known: Arc::default(),
            assigns: watch::Sender::new(true),
            closes: watch::Sender::new(true),
            mute: watch::Sender::new(None),
        }
    }

    pub fn know<T>(&self, look: impl FnOnce(&mut Known) -> T) -> T {
        look(&mut self.known.lock().expect("no panic"))
    }

    pub fn free(&self, platform: &str, slots: usize) {
        self.know(|known| known.free.insert(platform.to_owned(), slots));
    }

    pub fn given(&self) -> Vec<RunnerId> {
        self.know(|known| known.given.iter().map(|(runner, _)| *runner).collect())
    }

    /// How many times somebody was asked for.
    pub fn asked(&self, runner: RunnerId) -> usize {
        self.know(|known| known.asked.iter().flatten().filter(|(asked, _)| *asked == runner).count())
    }

    pub fn answers_assignments(&self, answers: bool) {
        self.assigns.send_replace(answers);
    }

    pub fn mute(&self, platform: Option<&'static str>) {
        self.mute.send_replace(platform);
    }

    pub fn answers_closings(&self, answers: bool) {
        self.closes.send_replace(answers);
    }
}

async fn wait(gate: &watch::Sender<bool>) {
    gate.subscribe().wait_for(|answers| *answers).await.expect("it is there");
}

#[async_trait]
impl PoolService for Pool {
    async fn assign(&self, request: Request<AssignRequest>) -> Result<Response<AssignResponse>, Status> {
        let asks = request.into_inner().asks.into_iter().map(|ask| {
            let spec = ask.spec.expect("a spec");
            ((runner_of(spec.runner.as_ref()).expect("a runner"), ask.platforms), spec.provider)
        });
        let (asks, providers): (Vec<(RunnerId, Vec<String>)>, Vec<String>) = asks.unzip();
        self.know(|known| {
            known.asked.push(asks.clone());
            for (runner, _) in &asks {
                if known.in_flight.contains(runner) {
                    known.asked_at_once.insert(*runner);
                }
                known.in_flight.push(*runner);
            }
        });
        wait(&self.assigns).await;
        let of = |mute: &Option<&str>| asks.iter().any(|(_, names)| mute.is_some_and(|mute| names == &[mute]));
        self.mute.subscribe().wait_for(|mute| !of(mute)).await.expect("it is there");
        self.know(|known| {
            known.in_flight.retain(|runner| !asks.iter().any(|(asked, _)| asked == runner));
            if known.away {
                return Err(Status::unavailable("away"));
            }
            let mut answers = Vec::new();
            for ((runner, platforms), provider) in asks.iter().zip(&providers) {
                let before =
                    known.given.iter().find(|(given, _)| given == runner).map(|(_, platform)| platform.clone());
                let room = platforms.iter().find(|name| known.free.get(*name).is_some_and(|free| *free > 0)).cloned();
                let (outcome, platform) = match (before, room) {
                    _ if known.closed.contains(runner) => (Outcome::Closed, None),
                    _ if known.secretly_given.contains(runner) => (Outcome::Full, None),
                    (Some(platform), _) => (Outcome::Assigned, Some(platform)),
                    (None, _) if known.provider_full.contains(provider) => (Outcome::ProviderFull, None),
                    (None, Some(platform)) => {
                        *known.free.get_mut(&platform).expect("it has room") -= 1;
                        known.given.push((*runner, platform.clone()));
                        (Outcome::Assigned, Some(platform))
                    }
                    (None, None) => (Outcome::Full, None),
                };
                answers.push(Answer {
                    outcome: outcome.into(),
                    platform: platform.unwrap_or_default(),
                    ..Answer::default()
                });
            }
            Ok(Response::new(AssignResponse { answers }))
        })
    }

    async fn close(&self, _: Request<CloseRequest>) -> Result<Response<CloseResponse>, Status> {
        Err(Status::unimplemented("the queue closes many"))
    }

    async fn close_many(&self, request: Request<CloseManyRequest>) -> Result<Response<CloseManyResponse>, Status> {
        let request = request.into_inner();
        wait(&self.closes).await;
        self.know(|known| {
            if known.away {
                return Err(Status::unavailable("away"));
            }
            let mut closed = Vec::new();
            for runner in &request.runners {
                let runner = runner_of(Some(runner))?;
                let has_one =
                    known.given.iter().any(|(given, _)| *given == runner) || known.secretly_given.contains(&runner);
                if !has_one {
                    known.closed.insert(runner);
                } else if request.stop_if_assigned {
                    known.stopped.insert(runner);
                }
                closed.push(!has_one);
            }
            Ok(Response::new(CloseManyResponse { closed }))
        })
    }

    async fn list_expected(&self, _: Request<ListExpectedRequest>) -> Result<Response<ListExpectedResponse>, Status> {
        Err(Status::unimplemented("not asked by the queue"))
    }

    async fn list_platforms(
        &self,
        _: Request<ListPlatformsRequest>,
    ) -> Result<Response<ListPlatformsResponse>, Status> {
        Err(Status::unimplemented("not asked by the queue"))
    }
}

/// The owners stand behind the same door.
#[async_trait]
impl ForecastService for Pool {
    async fn get_forecast(&self, _: Request<GetForecastRequest>) -> Result<Response<GetForecastResponse>, Status> {
        Ok(Response::new(GetForecastResponse { steps: self.know(|known| known.forecast.clone()) }))
    }
}
