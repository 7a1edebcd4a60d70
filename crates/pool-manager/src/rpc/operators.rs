//! Operators' calls; one file for each method. The gateway forwards them as they come, with their caller.

mod change_slot;
mod get_history;
mod get_pool;
mod list_slots;
mod set_provider_limit;
mod update_platform;

use std::sync::Arc;

use greenroom_chassis::Host;
use greenroom_contracts::proto::v1::pool_operator_service_server::PoolOperatorService;
use greenroom_contracts::proto::v1::{
    ClearProviderLimitRequest, CordonSlotRequest, ForceFreeSlotRequest, GetHistoryRequest, GetHistoryResponse,
    GetPlatformRequest, GetPoolRequest, ListSlotsRequest, ListSlotsResponse, PlatformStats, PoolSlot, PoolStats,
    ResetSlotRequest, SetProviderLimitRequest, UncordonSlotRequest, UpdatePlatformRequest,
};
use greenroom_contracts::{BadField, operator};
use greenroom_domain::PlatformName;
use tonic::{Request, Response, Status, async_trait};

use crate::ledger::Ledger;
use crate::{Error, store};
use change_slot::{Action, change_slot};

/// What every method needs.
#[derive(Clone)]
pub struct OperatorDoor {
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) host: Host,
}

#[async_trait]
impl PoolOperatorService for OperatorDoor {
    async fn get_pool(&self, request: Request<GetPoolRequest>) -> Result<Response<PoolStats>, Status> {
        operator(&request)?;
        get_pool::get_pool(self).await.map(Response::new)
    }

    async fn get_platform(&self, request: Request<GetPlatformRequest>) -> Result<Response<PlatformStats>, Status> {
        operator(&request)?;
        get_pool::one(self, &platform(&request.get_ref().platform)?).await.map(Response::new)
    }

    async fn update_platform(
        &self,
        request: Request<UpdatePlatformRequest>,
    ) -> Result<Response<PlatformStats>, Status> {
        let caller = operator(&request)?;
        update_platform::update_platform(self, request.into_inner(), &caller).await.map(Response::new)
    }

    async fn set_provider_limit(
        &self,
        request: Request<SetProviderLimitRequest>,
    ) -> Result<Response<PlatformStats>, Status> {
        let caller = operator(&request)?;
        let SetProviderLimitRequest { platform, provider, limit } = request.into_inner();
        let limit = limit.ok_or_else(|| BadField::new("limit", "is missing; DELETE clears it"))?;
        let set = set_provider_limit::set_provider_limit(self, (&platform, provider), Some(limit), &caller);
        set.await.map(Response::new)
    }

    async fn clear_provider_limit(
        &self,
        request: Request<ClearProviderLimitRequest>,
    ) -> Result<Response<PlatformStats>, Status> {
        let caller = operator(&request)?;
        let ClearProviderLimitRequest { platform, provider } = request.into_inner();
        let cleared = set_provider_limit::set_provider_limit(self, (&platform, provider), None, &caller);
        cleared.await.map(Response::new)
    }

    async fn list_slots(&self, request: Request<ListSlotsRequest>) -> Result<Response<ListSlotsResponse>, Status> {
        operator(&request)?;
        list_slots::list_slots(self, &request.into_inner()).await.map(Response::new)
    }

    async fn cordon_slot(&self, request: Request<CordonSlotRequest>) -> Result<Response<PoolSlot>, Status> {
        let caller = operator(&request)?;
        change_slot(self, &request.get_ref().slot, Action::Cordon, &caller).await.map(Response::new)
    }

    async fn uncordon_slot(&self, request: Request<UncordonSlotRequest>) -> Result<Response<PoolSlot>, Status> {
        let caller = operator(&request)?;
        change_slot(self, &request.get_ref().slot, Action::Uncordon, &caller).await.map(Response::new)
    }

    async fn reset_slot(&self, request: Request<ResetSlotRequest>) -> Result<Response<PoolSlot>, Status> {
        let caller = operator(&request)?;
        change_slot(self, &request.get_ref().slot, Action::Reset, &caller).await.map(Response::new)
    }

    async fn force_free_slot(&self, request: Request<ForceFreeSlotRequest>) -> Result<Response<PoolSlot>, Status> {
        let caller = operator(&request)?;
        change_slot(self, &request.get_ref().slot, Action::ForceFree, &caller).await.map(Response::new)
    }

    async fn get_history(&self, request: Request<GetHistoryRequest>) -> Result<Response<GetHistoryResponse>, Status> {
        operator(&request)?;
        get_history::get_history(self, &request.into_inner()).await.map(Response::new)
    }
}

/// The platform that a path names. An invalid name is not a platform's.
fn platform(name: &str) -> Result<PlatformName, Status> {
    PlatformName::new(name).map_err(|_| Status::not_found("there is no such platform"))
}

/// The platform that a list is about. It is a filter and not an address, so an unknown one is a bad field.
async fn known_platform(door: &OperatorDoor, name: &str) -> Result<PlatformName, Status> {
    if name.is_empty() {
        return Err(BadField::new("platform", "is missing").into());
    }
    let name = PlatformName::new(name).map_err(|error| BadField::new("platform", error))?;
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
