//! Public services that a service behind the gateway serves. Their calls are forwarded as they come, with their caller: the
//! gateway knows who may call them, and nothing of what they say.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::http::uri::PathAndQuery;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use greenroom_chassis::{Host, InnerChannel};
use greenroom_contracts::proto::DESCRIPTORS;
use greenroom_contracts::proto::v1::{
    bot_service_server, order_service_server, pool_operator_service_server, sizes_service_server,
};
use greenroom_contracts::set_caller;
use greenroom_transcode::{
    BadApi, DynamicMessage, FieldDescriptor, MessageDescriptor, Messages, Operation, descriptors, is_idempotent,
    methods, operations,
};
use prost::{Message as _, encoding};
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Request, Status};
use uuid::Uuid;

use crate::keys::Client;
use crate::operator::Operator;
use crate::upstream::{LARGEST, Upstream, outward};

/// A service that is forwarded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Forwarded {
    /// Its name in the protos.
    pub service: &'static str,
    /// The service of ours that serves it.
    upstream: &'static str,
    /// Whether all of it is for operators.
    operators: bool,
}

/// All of them.
pub(crate) const FORWARDED: [Forwarded; 4] = [
    Forwarded { service: bot_service_server::SERVICE_NAME, upstream: "scheduler", operators: false },
    Forwarded { service: pool_operator_service_server::SERVICE_NAME, upstream: "pool-manager", operators: true },
    Forwarded { service: sizes_service_server::SERVICE_NAME, upstream: "scheduler", operators: true },
    Forwarded { service: order_service_server::SERVICE_NAME, upstream: "scheduler", operators: true },
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
    operators: bool,
    request: MessageDescriptor,
    /// With a key it may be called again.
    key: Option<FieldDescriptor>,
}

impl Method {
    /// Adds a key of ours where the decoded message has none, so that our own second try does nothing twice.
    fn with_key(&self, message: Bytes, decoded: &DynamicMessage) -> Bytes {
        let Some(key) = self.key.as_ref().filter(|key| !decoded.has_field(key)) else { return message };
        // Messages that follow each other are merged.
        let mut with_key = BytesMut::from(message);
        encoding::string::encode(key.number(), &format!("gateway-{}", Uuid::now_v7()), &mut with_key);
        with_key.freeze()
    }
}

/// Forwards calls. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Forward {
    /// By the path of gRPC.
    methods: Arc<HashMap<String, Method>>,
    operations: Arc<[Arc<Operation>]>,
    /// Converts what is answered to runners.
    pub messages: Messages,
    upstream: Upstream,
}

impl Forward {
    pub fn new(host: &Host, upstream: Upstream) -> Result<Self, BadApi> {
        let pool = descriptors(DESCRIPTORS)?;
        let mut by_path = HashMap::new();
        for Forwarded { service, upstream, operators } in FORWARDED {
            for rpc in methods(&pool, service)? {
                let path = format!("/{service}/{}", rpc.name());
                let method = Method {
                    path: path.parse().map_err(|error| BadApi::new(&path, error))?,
                    name: path.clone().leak(),
                    channel: host.peers.channel(upstream),
                    is_idempotent: is_idempotent(&rpc),
                    operators,
                    request: rpc.input(),
                    key: rpc.input().get_field_by_name("idempotency_key"),
                };
                by_path.insert(path, method);
            }
        }
        let operations = operations(&pool, &FORWARDED.map(|forwarded| forwarded.service))?;
        Ok(Self {
            methods: Arc::new(by_path),
            operations: operations.into_iter().map(Arc::new).collect(),
            messages: Messages::new(&pool),
            upstream,
        })
    }

    /// Returns the operations that are reached over HTTP.
    pub fn operations(&self) -> &[Arc<Operation>] {
        &self.operations
    }

    /// Refuses a client that may not call a method at all.
    pub fn check(&self, path: &str, client: &Client) -> Result<(), Status> {
        match self.methods.get(path) {
            Some(method) if method.operators => Operator::new(client).map(drop),
            _ => Ok(()),
        }
    }

    /// Calls a method as a client has called it over gRPC: nobody has looked into the message yet.
    pub async fn call_unseen(&self, path: &str, client: &Client, message: Bytes) -> Result<Bytes, Status> {
        let method = self.method(path, client)?;
        let decoded = DynamicMessage::decode(method.request.clone(), message.clone());
        // The service would call it a fault of ours.
        let decoded = decoded.map_err(|_| Status::invalid_argument("the message cannot be decoded"))?;
        self.send(method, client, method.with_key(message, &decoded)).await
    }

    /// Calls a method by its path, `/package.Service/Method`.
    pub async fn call(&self, path: &str, client: &Client, message: &DynamicMessage) -> Result<Bytes, Status> {
        let method = self.method(path, client)?;
        self.send(method, client, method.with_key(message.encode_to_vec().into(), message)).await
    }

    fn method(&self, path: &str, client: &Client) -> Result<&Method, Status> {
        let method = self.methods.get(path).ok_or_else(|| Status::unimplemented("there is no such method"))?;
        self.check(path, client)?;
        Ok(method)
    }

    async fn send(&self, method: &Method, client: &Client, message: Bytes) -> Result<Bytes, Status> {
        let once = || {
            let mut grpc = Grpc::new(method.channel.clone()).max_decoding_message_size(LARGEST);
            let mut request = Request::new(message.clone());
            request.set_timeout(CALL);
            set_caller(request.metadata_mut(), &client.caller);
            async move {
                grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
                grpc.unary(request, method.path.clone(), Encoded).await
            }
        };
        if method.is_idempotent || method.key.is_some() {
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
