//! What has to be true while the platform's API is in trouble. With a fixture that can make none, nobody looks.

use std::time::Duration;

use futures::TryStreamExt;
use tokio::time::Instant;

use super::proxy::Fault;
use super::scripts::{POLITE, Stage, wrong};
use super::{Fixture, Flaw, Troubled, Verdict};
use crate::{Class, Deployer, Error, Observed, Progress};

/// As often as anybody asks.
const ALWAYS: usize = usize::MAX;
/// Until a platform that throttles has to have taken a start.
const IN_THE_END: Duration = Duration::from_secs(180);

async fn troubled<F: Fixture>(fixture: &F) -> Result<Troubled<F::Driver>, Flaw> {
    fixture.troubled().await.ok_or(Flaw::NotCapable)
}

fn expect_class<T: std::fmt::Debug>(said: &Result<T, Error>, class: Class) -> Verdict {
    match said {
        Err(error) if error.class() == class => Ok(()),
        other => wrong(format!("expected it to be {class:?}, it is {other:?}")),
    }
}

pub(super) async fn a_start_whose_answer_is_lost_is_made_once<F: Fixture>(fixture: &F) -> Verdict {
    let trouble = troubled(fixture).await?;
    let stage = Stage::set(fixture, POLITE).await?;
    trouble.proxy.fault(1, Fault::Lose, trouble.starts);
    // It may have seen to it by itself, or say that it does not know.
    if let Err(error) = trouble.driver.ensure(&stage.launch, &Progress::silent()).await {
        expect_class(&Err::<(), _>(error), Class::Transient)?;
    }
    trouble.driver.ensure(&stage.launch, &Progress::silent()).await?;
    stage.expect_one_start().await?;
    stage.clear().await
}

pub(super) async fn a_start_that_is_throttled_is_made_in_the_end<F: Fixture>(fixture: &F) -> Verdict {
    let trouble = troubled(fixture).await?;
    let stage = Stage::set(fixture, POLITE).await?;
    trouble.proxy.fault(2, trouble.too_fast.clone(), trouble.starts);
    let until = Instant::now() + IN_THE_END;
    loop {
        match trouble.driver.ensure(&stage.launch, &Progress::silent()).await {
            Ok(()) => break,
            Err(error) if error.class() != Class::Transient => {
                return wrong(format!("throttling is no refusal: {error}"));
            }
            Err(error) if Instant::now() > until => return wrong(format!("it is never made: {error}")),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
    stage.expect_one_start().await?;
    stage.clear().await
}

pub(super) async fn a_platform_without_room_says_so<F: Fixture>(fixture: &F) -> Verdict {
    let trouble = troubled(fixture).await?;
    let Some(full) = trouble.full.clone() else { return Err(Flaw::NotCapable) };
    let stage = Stage::set(fixture, POLITE).await?;
    trouble.proxy.fault(ALWAYS, full, trouble.starts);
    expect_class(&trouble.driver.ensure(&stage.launch, &Progress::silent()).await, Class::NoCapacity)?;
    trouble.proxy.calm();
    match stage.inspect().await? {
        Observed::Gone => stage.clear().await,
        other => wrong(format!("nothing was to be left of it, it is {other:?}")),
    }
}

pub(super) async fn refused_credentials_are_told<F: Fixture>(fixture: &F) -> Verdict {
    let trouble = troubled(fixture).await?;
    let Some(forbidden) = trouble.forbidden.clone() else { return Err(Flaw::NotCapable) };
    let stage = Stage::set(fixture, POLITE).await?;
    trouble.proxy.fault(ALWAYS, forbidden, |_| true);
    expect_class(&trouble.driver.ensure(&stage.launch, &Progress::silent()).await, Class::Unauthorized)?;
    expect_class(&trouble.driver.inspect(stage.runner()).await, Class::Unauthorized)?;
    expect_class(&trouble.driver.list().try_concat().await, Class::Unauthorized)?;
    trouble.proxy.calm();
    stage.clear().await
}

pub(super) async fn a_platform_that_fails_is_an_error_and_nobody_is_gone<F: Fixture>(fixture: &F) -> Verdict {
    let trouble = troubled(fixture).await?;
    let stage = Stage::started(fixture, POLITE).await?;
    trouble.proxy.fault(ALWAYS, Fault::answer(500, "something is wrong"), |_| true);
    expect_class(&trouble.driver.inspect(stage.runner()).await, Class::Transient)?;
    expect_class(&trouble.driver.list().try_concat().await, Class::Transient)?;
    expect_class(&trouble.driver.stop(stage.runner(), Duration::ZERO).await, Class::Transient)?;
    expect_class(&trouble.driver.remove(stage.runner()).await, Class::Transient)?;
    trouble.proxy.calm();
    stage.until("running", |observed| observed == Observed::Running).await?;
    stage.clear().await
}

pub(super) async fn a_platform_that_hangs_is_not_waited_for_for_ever<F: Fixture>(fixture: &F) -> Verdict {
    let trouble = troubled(fixture).await?;
    let stage = Stage::started(fixture, POLITE).await?;
    trouble.proxy.fault(ALWAYS, Fault::Hang, |_| true);
    let look = tokio::time::timeout(trouble.patience, trouble.driver.inspect(stage.runner())).await;
    let list = tokio::time::timeout(trouble.patience, trouble.driver.list().try_concat()).await;
    trouble.proxy.calm();
    match (look, list) {
        (Ok(look), Ok(list)) => {
            expect_class(&look, Class::Transient)?;
            expect_class(&list, Class::Transient)?;
        }
        _ => return wrong(format!("it was still waiting after {:?}", trouble.patience)),
    }
    stage.clear().await
}

pub(super) async fn an_image_that_is_not_there_is_told<F: Fixture>(fixture: &F) -> Verdict {
    let Some(image) = fixture.missing_image() else { return Err(Flaw::NotCapable) };
    let mut stage = Stage::set(fixture, POLITE).await?;
    stage.launch.spec.image = Some(image);
    match stage.driver.ensure(&stage.launch, &Progress::silent()).await {
        Err(Error::Image(_)) => {}
        Err(error) => return wrong(format!("expected the image to be named as the reason, it says {error}")),
        // It is known only when the platform has tried.
        Ok(()) => match stage.until("refused", |observed| observed != Observed::Running).await? {
            Observed::Refused(Error::Image(_)) => {}
            other => return wrong(format!("expected the image to be named as the reason, it is {other:?}")),
        },
    }
    stage.clear().await
}
