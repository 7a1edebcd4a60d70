//! The pool manager's inner door; one file for each method.

mod assign;
mod close;
mod close_many;
mod list_expected;
mod list_platforms;
mod operators;

use std::sync::Arc;

use futures::FutureExt;
use greenroom_contracts::proto::internal::v1::pool_service_server::PoolService;
use greenroom_contracts::proto::internal::v1::{
    AssignRequest, AssignResponse, CloseManyRequest, CloseManyResponse, CloseRequest, CloseResponse,
    ListExpectedRequest, ListExpectedResponse, ListPlatformsRequest, ListPlatformsResponse,
};
use greenroom_store::{Coalescer, halve};
use greenroom_tasks::Tasks;
use tonic::{Request, Response, Status, async_trait};

pub use operators::OperatorDoor;

use crate::Error;
use crate::assign::{Answer, Ask, Assigner};
use crate::ledger::Ledger;

/// What every method needs.
#[derive(Clone)]
pub struct Door {
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) asks: Coalescer<Ask, Result<Answer, Arc<Error>>>,
}

impl Door {
    pub fn new(ledger: Arc<Ledger>, tasks: &Tasks) -> Self {
        let assigning = Arc::new((Assigner::default(), ledger.clone()));
        // One lane: a second batch would be decided on the same room.
        let asks = Coalescer::spawn(tasks, "pool-manager lane of assignments", 512, 1, move |asks: Vec<Ask>| {
            let assigning = assigning.clone();
            async move {
                let (assigner, ledger) = assigning.as_ref();
                // Asking twice is answered the same: a part that was settled before the refusal stays so.
                halve(&asks, Error::is_refused, |asks| assigner.assign(ledger, asks).boxed()).await
            }
        });
        Self { ledger, asks }
    }
}

#[async_trait]
impl PoolService for Door {
    async fn assign(&self, request: Request<AssignRequest>) -> Result<Response<AssignResponse>, Status> {
        assign::assign(self, request.into_inner()).await.map(Response::new)
    }

    async fn close(&self, request: Request<CloseRequest>) -> Result<Response<CloseResponse>, Status> {
        close::close(self, request.into_inner()).await.map(Response::new)
    }

    async fn close_many(&self, request: Request<CloseManyRequest>) -> Result<Response<CloseManyResponse>, Status> {
        close_many::close_many(self, request.into_inner()).await.map(Response::new)
    }

    async fn list_expected(
        &self,
        request: Request<ListExpectedRequest>,
    ) -> Result<Response<ListExpectedResponse>, Status> {
        list_expected::list_expected(self, request.into_inner()).await.map(Response::new)
    }

    async fn list_platforms(
        &self,
        _: Request<ListPlatformsRequest>,
    ) -> Result<Response<ListPlatformsResponse>, Status> {
        list_platforms::list_platforms(self).await.map(Response::new)
    }
}
