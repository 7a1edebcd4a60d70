//! The operators' part of the inner door; one file for each method.

mod change_platform;
mod change_slot;
mod get_history;
mod get_pool;
mod list_slots;
mod set_provider_limit;

use std::sync::Arc;

use greenroom_chassis::Host;
use greenroom_contracts::BadField;
use greenroom_contracts::proto::v1::pool_operator_service_server::PoolOperatorService;
use greenroom_contracts::proto::v1::{
    ChangePlatformRequest, ChangeSlotRequest, GetHistoryRequest, GetHistoryResponse, GetPoolRequest, ListSlotsRequest,
    ListSlotsResponse, PlatformStats, PoolSlot, PoolStats, SetProviderLimitRequest,
};
use greenroom_domain::PlatformName;
use tonic::{Request, Response, Status, async_trait};

use crate::ledger::Ledger;
use crate::{Error, store};

/// What every method needs.
#[derive(Clone)]
pub struct OperatorDoor {
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) host: Host,
}

#[async_trait]
impl PoolOperatorService for OperatorDoor {
    async fn get_pool(&self, request: Request<GetPoolRequest>) -> Result<Response<PoolStats>, Status> {
        get_pool::get_pool(self, &request.into_inner()).await.map(Response::new)
    }

    async fn change_platform(
        &self,
        request: Request<ChangePlatformRequest>,
    ) -> Result<Response<PlatformStats>, Status> {
        change_platform::change_platform(self, request.into_inner()).await.map(Response::new)
    }

    async fn set_provider_limit(
        &self,
        request: Request<SetProviderLimitRequest>,
    ) -> Result<Response<PlatformStats>, Status> {
        set_provider_limit::set_provider_limit(self, request.into_inner()).await.map(Response::new)
    }

    async fn list_slots(&self, request: Request<ListSlotsRequest>) -> Result<Response<ListSlotsResponse>, Status> {
        list_slots::list_slots(self, &request.into_inner()).await.map(Response::new)
    }

    async fn change_slot(&self, request: Request<ChangeSlotRequest>) -> Result<Response<PoolSlot>, Status> {
        change_slot::change_slot(self, &request.into_inner()).await.map(Response::new)
    }

    async fn get_history(&self, request: Request<GetHistoryRequest>) -> Result<Response<GetHistoryResponse>, Status> {
        get_history::get_history(self, &request.into_inner()).await.map(Response::new)
    }
}

fn platform(name: &str) -> Result<PlatformName, BadField> {
    PlatformName::new(name).map_err(|error| BadField::new("platform", error))
}

/// The platform that a list is about. It is a filter and not an address, so an unknown one is a bad field.
async fn known_platform(door: &OperatorDoor, name: &str) -> Result<PlatformName, Status> {
    let name = platform(name)?;
    let known = store::known(door.ledger.store().pool(), None).await.map_err(Error::from)?;
    if known.iter().any(|known| known.name == name.as_str()) {
        return Ok(name);
    }
    let known: Vec<_> = known.into_iter().map(|known| known.name).collect();
    Err(BadField::new("platform", format!("must be one of {}", known.join(", "))).into())
}

fn no_such(name: &PlatformName) -> Status {
    Status::not_found(format!("there is no platform {name}"))
}
