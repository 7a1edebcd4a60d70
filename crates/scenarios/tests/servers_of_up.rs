//! The servers of `greenroom up` are killed while bots are asked for.

use std::path::Path;

use greenroom_scenarios::{ServerTrouble, endure};

#[tokio::test]
async fn servers_may_be_killed_and_no_promise_breaks() {
    let program = Path::new(env!("CARGO_BIN_EXE_greenroom-node"));
    let endured = endure(program, ServerTrouble::Killed, 60, 7).await.expect("the story is played");
    assert_eq!(endured.violations, [], "{}", endured.log);
    assert!(endured.done > 20, "{} bots are done", endured.done);
    for name in ["postgres", "nats-server"] {
        let told = endured.errors.iter().filter(|line| line["server"] == name).count();
        assert!(told >= 2, "{name}: {:?}", endured.errors);
    }
}
