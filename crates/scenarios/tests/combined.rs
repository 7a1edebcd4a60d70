//! The combined story: 200 bots, 20 slots, and everything that can fail does. `./dev chaos` plays the whole matrix.

use std::path::PathBuf;

use greenroom_scenarios::{Plan, Trouble, run};
use greenroom_testkit::Layout;
use greenroom_testkit::checker::check;

fn plan(layout: Layout, trouble: Trouble) -> Plan {
    Plan {
        program: PathBuf::from(env!("CARGO_BIN_EXE_greenroom-node")),
        layout,
        trouble,
        bots: 200,
        slots: 20,
        seed: 7,
    }
}

#[tokio::test]
async fn the_promises_hold_while_everything_fails() {
    let outcome = run(&plan(Layout::Split, Trouble::Combined)).await.expect("the story is played");
    assert_eq!(outcome.violations, [], "ends: {:?}\n{}", outcome.ends, outcome.logs);
    assert!(outcome.ends.iter().any(|(end, count)| end.starts_with("DONE") && *count > 100), "{:?}", outcome.ends);

    // The same evidence, tampered with, is found out: the checker can fail on what it has just passed.
    let mut lost = outcome.evidence.clone();
    lost.bots.remove(0);
    assert!(check(&lost).iter().any(|violation| violation.promise == "I1"));
    let mut unheard = outcome.evidence;
    let (subject, sequence) = (unheard.heard[0].subject.clone(), unheard.heard[0].sequence);
    unheard.heard.retain(|heard| (heard.subject.as_str(), heard.sequence) != (&subject, sequence));
    assert!(check(&unheard).iter().any(|violation| violation.promise == "I5"));
}

#[tokio::test]
async fn all_in_one_is_no_different() {
    let outcome = run(&plan(Layout::AllInOne, Trouble::None)).await.expect("the story is played");
    assert_eq!(outcome.violations, [], "ends: {:?}\n{}", outcome.ends, outcome.logs);
}

#[tokio::test]
async fn operators_change_the_pool_while_it_is_in_use() {
    let outcome = run(&plan(Layout::Split, Trouble::Operators)).await.expect("the story is played");
    assert_eq!(outcome.violations, [], "ends: {:?}\n{}", outcome.ends, outcome.logs);
    assert!(outcome.ends.iter().any(|(end, count)| end.starts_with("DONE") && *count > 100), "{:?}", outcome.ends);
}

#[tokio::test]
async fn a_platform_that_refuses_everything_is_passed_over_until_it_is_well() {
    let outcome = run(&plan(Layout::Split, Trouble::Refusing)).await.expect("the story is played");
    assert_eq!(outcome.violations, [], "ends: {:?}\n{}", outcome.ends, outcome.logs);
    assert!(outcome.ends.iter().any(|(end, count)| end.starts_with("DONE") && *count > 100), "{:?}", outcome.ends);
}

#[tokio::test]
async fn without_another_platform_bots_time_out() {
    let outcome = run(&plan(Layout::Split, Trouble::Alone)).await.expect("the story is played");
    assert_eq!(outcome.violations, [], "ends: {:?}\n{}", outcome.ends, outcome.logs);
}

#[tokio::test]
async fn answers_that_come_too_late_double_and_leak_nothing() {
    let outcome = run(&plan(Layout::Split, Trouble::Late)).await.expect("the story is played");
    assert_eq!(outcome.violations, [], "ends: {:?}\n{}", outcome.ends, outcome.logs);
    assert!(outcome.ends.iter().any(|(end, count)| end.starts_with("DONE") && *count > 100), "{:?}", outcome.ends);
}

#[tokio::test]
async fn either_of_two_replicas_may_fail() {
    let outcome = run(&plan(Layout::Twice, Trouble::Kill)).await.expect("the story is played");
    assert_eq!(outcome.violations, [], "ends: {:?}\n{}", outcome.ends, outcome.logs);
    assert!(outcome.ends.iter().any(|(end, count)| end.starts_with("DONE") && *count > 100), "{:?}", outcome.ends);
}

#[tokio::test]
async fn a_clock_that_jumps_and_comes_back_ends_nobody() {
    let plan = Plan { bots: 100, ..plan(Layout::Split, Trouble::Clock) };
    let outcome = run(&plan).await.expect("the story is played");
    assert_eq!(outcome.violations, [], "ends: {:?}\n{}", outcome.ends, outcome.logs);
    assert!(outcome.ends.iter().any(|(end, count)| end.starts_with("DONE") && *count > 50), "{:?}", outcome.ends);
}

#[tokio::test]
async fn standing_slots_outlive_those_who_see_to_them() {
    let plan = Plan { bots: 120, ..plan(Layout::Split, Trouble::Pooled) };
    let outcome = run(&plan).await.expect("the story is played");
    assert_eq!(outcome.violations, [], "ends: {:?}\n{}", outcome.ends, outcome.logs);
    assert!(outcome.ends.iter().any(|(end, count)| end.starts_with("DONE") && *count > 60), "{:?}", outcome.ends);
}
