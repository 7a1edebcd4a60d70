//! What the inner door serves.

mod authenticate;
mod create_key;
mod get_limits;
mod list_tenants;
mod set_tenant;

use greenroom_chassis::Clock;
use greenroom_contracts::proto::internal::v1::accounts_service_server::AccountsService;
use greenroom_contracts::proto::internal::v1::{
    AuthenticateRequest, Caller, CreateKeyRequest, CreateKeyResponse, GetLimitsRequest, GetLimitsResponse,
    ListTenantsRequest, ListTenantsResponse, SetTenantRequest, Tenant,
};
use greenroom_store::Store;
use tonic::{Request, Response, Status};

use crate::plan::{Limits, Own, Plan, Terms};

/// The service as tonic wants it; each method is in its own file.
#[derive(Debug, Clone)]
pub(crate) struct Rpc {
    pub store: Store,
    pub clock: Clock,
    /// Of each plan, in the order of [`Plan::ALL`].
    pub plans: [Limits; 4],
    /// The images that everybody's bots may name.
    pub images: Vec<String>,
}

impl Rpc {
    /// What holds for a tenant.
    fn terms(&self, plan: Plan, own: Own) -> Terms {
        Terms::of(plan, self.plans[plan as usize], own)
    }
}

#[tonic::async_trait]
impl AccountsService for Rpc {
    async fn authenticate(&self, request: Request<AuthenticateRequest>) -> Result<Response<Caller>, Status> {
        authenticate::handle(self, request.into_inner()).await.map(Response::new)
    }

    async fn create_key(&self, request: Request<CreateKeyRequest>) -> Result<Response<CreateKeyResponse>, Status> {
        create_key::handle(self, request.into_inner()).await.map(Response::new)
    }

    async fn list_tenants(
        &self,
        request: Request<ListTenantsRequest>,
    ) -> Result<Response<ListTenantsResponse>, Status> {
        list_tenants::handle(self, request.into_inner()).await.map(Response::new)
    }

    async fn set_tenant(&self, request: Request<SetTenantRequest>) -> Result<Response<Tenant>, Status> {
        set_tenant::handle(self, request.into_inner()).await.map(Response::new)
    }

    async fn get_limits(&self, request: Request<GetLimitsRequest>) -> Result<Response<GetLimitsResponse>, Status> {
        get_limits::handle(self, request.into_inner()).await.map(Response::new)
    }
}
