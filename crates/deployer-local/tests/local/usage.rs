//! What runners take is known in the end.

use std::time::Duration;

use greenroom_deployer::Deployer;
use greenroom_domain::{RunnerId, Usage};

use crate::stage::{Stage, exit, launch, new_runner, start};
use greenroom_deployer::Progress;
use greenroom_deployer_local::LocalDeployer;

const MIB: u64 = 1 << 20;

async fn usage(driver: &LocalDeployer, runner: RunnerId) -> Usage {
    driver.usage(runner).await.expect("readable").expect("known")
}

#[tokio::test]
async fn two_hundred_megabytes_are_seen_and_kept_until_the_remains_are_removed() {
    let stage = Stage::new();
    let driver = stage.driver();
    // One line that does not end: `tail` keeps all of it.
    let runner = start(&driver, "(head -c 209715200 /dev/zero; sleep 300) | tail > /dev/null").await;
    let began = std::time::Instant::now();
    while driver.usage(runner).await.expect("readable").is_none_or(|usage| usage.peak_memory_bytes < 200 * MIB) {
        assert!(began.elapsed() < Duration::from_secs(180), "{:?}", driver.usage(runner).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    driver.stop(runner, Duration::ZERO).await.expect("stopped");
    exit(&driver, runner).await;
    let taken = usage(&driver, runner).await;
    // What `tail` reserves for its lines, and two shells.
    assert!((200 * MIB..260 * MIB).contains(&taken.peak_memory_bytes), "{taken:?}");
    assert!(taken.lasted_ms > 0, "{taken:?}");
    driver.remove(runner).await.expect("removed");
    assert_eq!(driver.usage(runner).await, Ok(None), "with the remains");
}

#[tokio::test]
async fn processor_time_of_processes_that_have_ended_counts() {
    let stage = Stage::new();
    let driver = stage.driver();
    // The inner shell ends when it has had its second, by the statistics that are read here as well (a limit of the kernel's
    // counts otherwise, and on a busy machine ends it earlier); the outer one takes nothing. 14 and 15 are hundredths of a
    // second in user and system mode.
    let second =
        r#"sh -c 'while read -r line </proc/$$/stat; do set -- $line; [ $((${14} + ${15})) -lt 100 ] || exit 0; done'"#;
    let runner = start(&driver, &format!("{second}; {second} & exit 3")).await;
    assert_eq!(exit(&driver, runner).await.code, Some(3));
    let taken = usage(&driver, runner).await;
    // The second one was left behind and killed, whatever it had had by then.
    assert!((950..2_500).contains(&taken.cpu_ms), "{taken:?}");
    assert!(taken.cpu_millis().is_some_and(|millis| millis > 0), "{taken:?}");
}

#[tokio::test]
async fn a_runner_may_take_more_than_it_asks_for_up_to_its_limit() {
    let stage = Stage::new();
    let driver = stage.driver();
    let script = "(head -c 209715200 /dev/zero; sleep 300) | tail > /dev/null";
    let started = async |memory_limit_bytes| {
        let mut launch = launch(new_runner(), script);
        launch.spec.resources.memory_bytes = 64 * MIB;
        launch.spec.resources.memory_limit_bytes = memory_limit_bytes;
        driver.ensure(&launch, &Progress::silent()).await.expect("started");
        launch.spec.runner
    };
    let (held, roomy) = (started(None).await, started(Some(512 * MIB)).await);
    assert!(exit(&driver, held).await.out_of_memory, "absent: what it asks for");
    let began = std::time::Instant::now();
    while driver.usage(roomy).await.expect("readable").is_none_or(|usage| usage.peak_memory_bytes < 200 * MIB) {
        assert!(began.elapsed() < Duration::from_secs(180), "{}", stage.log(roomy));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
