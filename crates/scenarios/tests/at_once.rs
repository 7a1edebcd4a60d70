//! Bots that are cancelled as soon as they are made leave every slot idle at once, and not when the deadline of a start that nobody
//! will make has passed.

use std::path::PathBuf;
use std::time::Duration;

use futures::future::join_all;
use greenroom_testkit::checker::slots_at_rest;
use greenroom_testkit::evidence::Evidence;
use greenroom_testkit::simulated::{Fact, Script, What};
use greenroom_testkit::story::User;
use greenroom_testkit::{Layout, Sandbox, Settings, until};

/// Against a hang, on a machine however busy.
const SOON: Duration = Duration::from_secs(180);
const SLOTS: u32 = 6;
/// Nothing here waits for a period. The pool commands a start again when it was not answered within ten seconds, and then waits for
/// the deadline by design: on a busy machine that would be soon.
const TIME_SCALE: f64 = 6.0;

async fn sandbox(layout: Layout) -> Sandbox {
    let more = [
        // A slot that waits for the deadline of its start waits for longer than this test does.
        ("START_TIMEOUT_MS", "3600000"),
        // Half of it is the age at which a command may have been delivered to another deployer, too.
        ("GREENROOM_ACK_WAIT_MS", "600000"),
    ];
    Sandbox::start(Settings {
        program: PathBuf::from(env!("CARGO_BIN_EXE_greenroom-node")),
        layout,
        slots: SLOTS,
        time_scale: TIME_SCALE,
        script: Script::default(),
        more: more.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
    })
    .await
    .expect("a sandbox")
}

async fn until_every_slot_is_idle(sandbox: &Sandbox) {
    until("every slot is idle", SOON, async || {
        let evidence = Evidence::collect(sandbox).await.expect("evidence");
        evidence.assignments.len() == SLOTS as usize
            && evidence.assignments.iter().all(|assignment| assignment.state == "over")
            && slots_at_rest(&evidence).is_empty()
    })
    .await;
}

#[tokio::test]
async fn slots_of_bots_that_are_cancelled_before_a_deployer_reads_their_starts_are_idle_at_once() {
    let mut sandbox = sandbox(Layout::Split).await;
    let user = User::new(sandbox.url(), sandbox.key());
    sandbox.node_of("deployer").kill().expect("it is killed");
    // Each as soon as it may be, before its start is commanded once more.
    join_all((0..SLOTS).map(async |number| {
        let bot = user.create(&format!("bot-{number}")).await;
        until("its start is commanded", SOON, async || {
            user.get(&format!("/v1/bots/{bot}")).await.is_ok_and(|shown| shown["state"] == "DEPLOYING")
        })
        .await;
        user.cancel(&bot).await;
    }))
    .await;
    sandbox.node_of("deployer").start().expect("it starts");
    until_every_slot_is_idle(&sandbox).await;
    let facts = Fact::read(sandbox.platform.facts()).expect("the facts");
    assert!(facts.iter().all(|fact| fact.what != What::Started), "{facts:#?}");
    sandbox.stop().await.expect("it stops");
}

#[tokio::test]
async fn slots_of_bots_that_are_made_and_cancelled_at_once_are_idle_at_once() {
    let sandbox = sandbox(Layout::AllInOne).await;
    let user = User::new(sandbox.url(), sandbox.key());
    join_all((0..SLOTS).map(async |number| {
        let bot = user.create(&format!("bot-{number}")).await;
        user.cancel(&bot).await;
    }))
    .await;
    // One that was cancelled before it had a slot has no assignment.
    until("every slot is idle", SOON, async || {
        let evidence = Evidence::collect(&sandbox).await.expect("evidence");
        evidence.bots.iter().all(|bot| bot.state == "CANCELLED")
            && evidence.assignments.iter().all(|assignment| assignment.state == "over")
            && slots_at_rest(&evidence).is_empty()
    })
    .await;
    sandbox.stop().await.expect("it stops");
}
