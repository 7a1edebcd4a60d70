//! Public services that a service behind the gateway serves. Their calls are forwarded as they come, with their caller: the
//! gateway knows who may call them, and nothing of what they say.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::http::uri::PathAndQuery;
use bytes::{Buf, BufMut, Bytes};
use greenroom_chassis::{Host, InnerChannel};
use greenroom_contracts::proto::DESCRIPTORS;
use greenroom_contracts::proto::v1::{order_service_server, pool_operator_service_server, sizes_service_server};
use greenroom_contracts::set_caller;
use greenroom_transcode::{BadApi, Operation, descriptors, is_idempotent, methods, operations};
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Request, Status};

use crate::keys::Client;
use crate::operator::Operator;
use crate::upstream::{Upstream, outward};

/// Every forwarded service, and the service that serves it. All of them are for operators.
pub(crate) const FORWARDED: [(&str, &str); 3] = [
    (pool_operator_service_server::SERVICE_NAME, "pool-manager"),
    (sizes_service_server::SERVICE_NAME, "scheduler"),
    (order_service_server::SERVICE_NAME, "scheduler"),
];

/// Longest time a call may take: the platform of a slot is asked for five seconds.
const CALL: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct Method {
    path: PathAndQuery,
    /// For logs.
    name: &'static str,
    channel: InnerChannel,
    is_idempotent: bool,
}

/// Forwards calls. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Forward {
    /// By the path of gRPC.
    methods: Arc<HashMap<String, Method>>,
    operations: Arc<[Arc<Operation>]>,
    upstream: Upstream,
}

impl Forward {
    pub fn new(host: &Host, upstream: Upstream) -> Result<Self, BadApi> {
        let pool = descriptors(DESCRIPTORS)?;
        let mut by_path = HashMap::new();
        for (service, upstream) in FORWARDED {
            for rpc in methods(&pool, service)? {
                let path = format!("/{service}/{}", rpc.name());
                let method = Method {
                    path: path.parse().map_err(|error| BadApi::new(&path, error))?,
                    name: path.clone().leak(),
                    channel: host.peers.channel(upstream),
                    is_idempotent: is_idempotent(&rpc),
                };
                by_path.insert(path, method);
            }
        }
        let operations = operations(&pool, &FORWARDED.map(|(service, _)| service))?;
        Ok(Self { methods: Arc::new(by_path), operations: operations.into_iter().map(Arc::new).collect(), upstream })
    }

    /// Returns the operations that are reached over HTTP.
    pub fn operations(&self) -> &[Arc<Operation>] {
        &self.operations
    }

    /// Calls a method by its path, `/package.Service/Method`, with an encoded message.
    pub async fn call(&self, path: &str, client: &Client, message: Bytes) -> Result<Bytes, Status> {
        let method = self.methods.get(path).ok_or_else(|| Status::unimplemented("there is no such method"))?;
        Operator::new(client)?;
        let once = || {
            let mut grpc = Grpc::new(method.channel.clone());
            let mut request = Request::new(message.clone());
            request.set_timeout(CALL);
            set_caller(request.metadata_mut(), &client.caller);
            async move {
                grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
                grpc.unary(request, method.path.clone(), Encoded).await
            }
        };
        if method.is_idempotent {
            self.upstream.ask(method.name, once).await
        } else {
            once().await.map(tonic::Response::into_inner).map_err(|status| outward(method.name, &status))
        }
    }
}

/// Messages that are encoded already.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Encoded;

impl Codec for Encoded {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Encoded {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Encoded {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
