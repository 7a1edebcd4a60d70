//! A disk that fills up and is freed. Needs the right to mount one: `greenroom-servers` says where it is left out.

use std::path::Path;

use greenroom_scenarios::{ServerTrouble, endure};

#[tokio::test]
async fn when_a_full_disk_is_freed_everything_goes_on_by_itself() {
    let program = Path::new(env!("CARGO_BIN_EXE_greenroom-node"));
    let endured = endure(program, ServerTrouble::Disk, 40, 7).await.expect("the story is played");
    assert_eq!(endured.violations, [], "{}", endured.log);
    assert!(endured.done > 10, "{} bots are done", endured.done);
    let told = |words: &str| endured.errors.iter().any(|line| line.to_string().contains(words));
    assert!(told("a stream refuses messages"), "{:?}", endured.errors);
    assert!(told("there is room on its disk, and it refuses messages to"), "{:?}", endured.errors);
}

#[tokio::test]
async fn when_a_full_disk_of_postgres_is_freed_bots_that_wait_go_on() {
    let program = Path::new(env!("CARGO_BIN_EXE_greenroom-node"));
    let endured = endure(program, ServerTrouble::PostgresDisk, 40, 7).await.expect("the story is played");
    assert_eq!(endured.violations, [], "{}", endured.log);
    assert!(endured.done > 10, "{} bots are done", endured.done);
    for service in ["accounts", "scheduler", "queue", "pool-manager", "recordings"] {
        let told = |line: &&serde_json::Value| {
            line["service"] == service && line.to_string().contains("the database takes nothing")
        };
        assert_eq!(endured.errors.iter().filter(told).count(), 1, "{service}: {:?}", endured.errors);
    }
}
