//! What the inner door serves.

mod authenticate;
mod create_key;

use greenroom_chassis::Clock;
use greenroom_contracts::proto::v1::accounts_service_server::AccountsService;
use greenroom_contracts::proto::v1::{AuthenticateRequest, Caller, CreateKeyRequest, CreateKeyResponse};
use greenroom_store::Store;
use tonic::{Request, Response, Status};

/// The service as tonic wants it; each method is in its own file.
#[derive(Debug, Clone)]
pub(crate) struct Rpc {
    pub store: Store,
    pub clock: Clock,
}

#[tonic::async_trait]
impl AccountsService for Rpc {
    async fn authenticate(&self, request: Request<AuthenticateRequest>) -> Result<Response<Caller>, Status> {
        authenticate::handle(self, request.into_inner()).await.map(Response::new)
    }

    async fn create_key(&self, request: Request<CreateKeyRequest>) -> Result<Response<CreateKeyResponse>, Status> {
        create_key::handle(self, request.into_inner()).await.map(Response::new)
    }
}
