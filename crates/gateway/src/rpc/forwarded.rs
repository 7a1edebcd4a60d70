//! Forwarded services over gRPC.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::IntoResponse;
use axum::routing::post;
use axum::{Extension, Router};
use bytes::Bytes;
use tonic::server::{Grpc, UnaryService};
use tonic::{Response, Status};

use super::LARGEST_OF_CLIENTS;
use crate::core::Core;
use crate::forward::{Encoded, FORWARDED};
use crate::keys::Client;

pub(super) fn router(core: &Arc<Core>) -> Router {
    let routes = FORWARDED
        .iter()
        .fold(Router::new(), |router, one| router.route(&format!("/{}/{{*rest}}", one.service), post(call)));
    routes.with_state(core.clone())
}

async fn call(
    State(core): State<Arc<Core>>,
    Extension(client): Extension<Client>,
    request: Request,
) -> impl IntoResponse {
    let path = request.uri().path().to_owned();
    let service = Call { core, client, path };
    Grpc::new(Encoded).max_decoding_message_size(LARGEST_OF_CLIENTS).unary(service, request).await
}

struct Call {
    core: Arc<Core>,
    client: Client,
    path: String,
}

impl UnaryService<Bytes> for Call {
    type Response = Bytes;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Response<Bytes>, Status>> + Send>>;

    fn call(&mut self, request: tonic::Request<Bytes>) -> Self::Future {
        let (core, client, path) = (self.core.clone(), self.client.clone(), self.path.clone());
        Box::pin(async move { core.forward.call_unseen(&path, &client, request.into_inner()).await.map(Response::new) })
    }
}
