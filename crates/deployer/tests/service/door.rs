//! gRPC: what platforms say of their runners.

use std::sync::Arc;

use futures::TryStreamExt;
use greenroom_chassis::{Inner, Peers, Process, Secret, Settings, telemetry};
use greenroom_contracts::proto::internal::v1::deployer_service_client::DeployerServiceClient;
use greenroom_contracts::proto::internal::v1::inspect_response::State;
use greenroom_contracts::proto::internal::v1::{InspectRequest, LogsRequest};
use greenroom_deployer::{Deployers, Observed};
use greenroom_domain::PlatformName;
use greenroom_tasks::Tasks;
use tokio::net::TcpListener;
use tonic::Code;

use crate::stage::{Scripted, exited, new_runner};

#[tokio::test]
async fn every_platform_of_a_process_is_behind_one_door() {
    let telemetry =
        telemetry::Telemetry::install(&telemetry::Config::parse(&mut Settings::new([], "")), "test").expect("once");
    let mut process = Process::new(telemetry, Tasks::default());
    let deployers = Deployers::default();
    deployers.register(&mut process);
    let drivers = ["one", "two"].map(|name| {
        let driver = Arc::new(Scripted::default());
        deployers.add(PlatformName::new(name).expect("valid"), driver.clone());
        driver
    });
    let (here, ended) = (new_runner(), new_runner());
    drivers[0].told().runners.insert(here, Observed::Running);
    drivers[1].told().runners.insert(ended, exited(3));

    let secret = Secret::new("sixteen characters".to_owned().into()).expect("long enough");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    process.serve_inner(listener, Inner::new(&secret));
    let peers = Peers::parse(&mut Settings::new([], ""), &address, &[], &secret);
    let client = DeployerServiceClient::new(peers.deployer(&PlatformName::new("one").expect("valid")));

    let inspect = async |platform: &str, runner: greenroom_domain::RunnerId| {
        let request = InspectRequest { platform: platform.to_owned(), runner: Some(runner.into()) };
        client.clone().inspect(request).await.map(tonic::Response::into_inner)
    };
    assert_eq!(inspect("one", here).await.expect("answered").state(), State::Running);
    assert_eq!(inspect("two", here).await.expect("answered").state(), State::Gone);
    let answer = inspect("two", ended).await.expect("answered");
    assert_eq!((answer.state(), answer.exit_code), (State::Exited, Some(3)));
    assert_eq!(inspect("three", here).await.expect_err("no such platform").code(), Code::Unavailable);
    drivers[0].told().blind = 1;
    assert_eq!(inspect("one", here).await.expect_err("never gone").code(), Code::Unavailable);

    let logs = async |runner: greenroom_domain::RunnerId| {
        let request =
            LogsRequest { platform: "one".to_owned(), runner: Some(runner.into()), follow: false, tail_lines: Some(5) };
        let stream = client.clone().logs(request).await?.into_inner();
        stream
            .try_fold(String::new(), |all, chunk| async move { Ok(all + &String::from_utf8_lossy(&chunk.content)) })
            .await
    };
    assert_eq!(logs(here).await.expect("logs"), "tail Some(5)\nend\n");
    assert_eq!(logs(ended).await.expect_err("none here").code(), Code::NotFound);
}
