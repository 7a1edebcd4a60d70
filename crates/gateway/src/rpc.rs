//! The gRPC door: the same calls as over HTTP, and for those who ask, what can be called.

mod authorize;
mod forwarded;
mod own;
mod runner;

use std::sync::Arc;

use axum::{Router, middleware};
use greenroom_contracts::proto::DESCRIPTORS;
use greenroom_contracts::proto::v1::bot_service_server::SERVICE_NAME as BOTS;
use greenroom_contracts::proto::v1::event_service_server::{EventServiceServer, SERVICE_NAME as EVENTS};
use greenroom_contracts::proto::v1::log_service_server::{LogServiceServer, SERVICE_NAME as LOGS};
use greenroom_contracts::proto::v1::recording_service_server::{RecordingServiceServer, SERVICE_NAME as RECORDINGS};
use greenroom_contracts::proto::v1::runner_service_server::{RunnerServiceServer, SERVICE_NAME as RUNNERS};
use tonic::Status;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::pb::FILE_DESCRIPTOR_SET as HEALTH;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

use crate::Error;
use crate::core::Core;
use crate::forward::FORWARDED;
use crate::upstream::LARGEST;

/// Services of clients that the gateway answers itself. Internal services are not served here, and reflection does not list them.
const OF_CLIENTS: [&str; 3] = [RECORDINGS, LOGS, EVENTS];
/// Largest message to what is open to everybody: health and reflection.
const LARGEST_OF_STRANGERS: usize = 4 << 10;
/// Largest message of a client.
const LARGEST_OF_CLIENTS: usize = 128 << 10;

/// Everything gRPC as axum routes, without a fallback.
pub(crate) fn router(core: &Arc<Core>, health: &HealthReporter) -> Result<Router, Error> {
    let mut reflection = tonic_reflection::server::Builder::configure();
    let mut old_reflection = tonic_reflection::server::Builder::configure();
    for descriptors in [DESCRIPTORS, HEALTH] {
        reflection = reflection.register_encoded_file_descriptor_set(descriptors);
        old_reflection = old_reflection.register_encoded_file_descriptor_set(descriptors);
    }
    let own = OF_CLIENTS.into_iter().chain([RUNNERS, "grpc.health.v1.Health"]);
    for service in own.chain(FORWARDED.map(|forwarded| forwarded.service)) {
        reflection = reflection.with_service_name(service);
        old_reflection = old_reflection.with_service_name(service);
    }
    let own = own::Own(core.clone());
    let routes = Routes::default()
        .add_service(RecordingServiceServer::new(own.clone()).max_decoding_message_size(LARGEST_OF_CLIENTS))
        .add_service(LogServiceServer::new(own.clone()).max_decoding_message_size(LARGEST_OF_CLIENTS))
        .add_service(EventServiceServer::new(own).max_decoding_message_size(LARGEST_OF_CLIENTS))
        .add_service(RunnerServiceServer::new(runner::Runners(core.clone())).max_decoding_message_size(LARGEST))
        .add_service(
            HealthServer::new(HealthService::from_health_reporter(health.clone()))
                .max_decoding_message_size(LARGEST_OF_STRANGERS),
        )
        .add_service(reflection.build_v1()?.max_decoding_message_size(LARGEST_OF_STRANGERS))
        .add_service(old_reflection.build_v1alpha()?.max_decoding_message_size(LARGEST_OF_STRANGERS));
    // What is said to whoever asks for something else is the HTTP door's.
    let router = routes.into_axum_router().reset_fallback().merge(forwarded::router(core));
    Ok(router.route_layer(middleware::from_fn_with_state(core.clone(), authorize::authorize)))
}

/// Says over gRPC whether the public services work.
pub(crate) async fn set_serving(health: &HealthReporter, serving: bool) {
    let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
    for service in ["", BOTS, RUNNERS] {
        health.set_service_status(service, status).await;
    }
}

/// A bot's id in a request.
fn bot_id(text: &str) -> Result<greenroom_domain::BotId, Status> {
    text.parse().map_err(|_| Status::not_found("there is no such bot"))
}
