//! Every operation of `/openapi.json` and every public gRPC method, called as they are described: with a good request, without a key,
//! with another tenant's key, and with fields that are wrong. Statuses, content types and bodies are held against the description. An
//! operation or method that has no entry here fails the test.

#[path = "contract/calls.rs"]
mod calls;
#[path = "contract/grpc.rs"]
mod grpc;
#[path = "contract/http.rs"]
mod http;
#[path = "contract/schemas.rs"]
mod schemas;
#[path = "contract/world.rs"]
mod world;

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use serde_json::Value;

use crate::world::World;

/// Bounds each step, so that a hang has a name.
const HANG: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operations_and_methods_answer_as_they_are_described() {
    let world =
        tokio::time::timeout(HANG * 2, World::start()).await.expect("a Greenroom with a recording starts in time");
    println!("started: {:.1?}", world.began.elapsed());
    let described: Value = world.fetch("/openapi.json").await;
    let mut wrong = http::walk(&world, &described).await;
    wrong.extend(grpc::walk(&world).await);
    assert!(wrong.is_empty(), "{} mismatches:\n{}\n{}", wrong.len(), wrong.join("\n"), world.sandbox.logs(20));
    tokio::time::timeout(HANG, world.sandbox.stop()).await.expect("it stops in time").expect("it stops");
}

/// Calls an operation or method, and prints which. One that panics or does not end is wrong too; the others are called nonetheless.
async fn step(name: &str, called: impl Future<Output = Vec<String>>) -> Vec<String> {
    println!("{name} …");
    let began = Instant::now();
    let wrong = match tokio::time::timeout(HANG, AssertUnwindSafe(called).catch_unwind()).await {
        Ok(Ok(wrong)) => wrong,
        Ok(Err(panic)) => {
            let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref().copied());
            vec![format!("it panicked: {}", text.unwrap_or("without a text"))]
        }
        Err(_) => vec![format!("it did not end within {HANG:?}")],
    };
    println!("{name}: {} mismatches, {:.1?}", wrong.len(), began.elapsed());
    wrong.into_iter().map(|one| format!("{name}: {one}")).collect()
}
