//! Cases about the standing slots of pooled platforms. Every other case runs in one of its own there.

use std::time::Duration;

use futures::TryStreamExt;
use greenroom_domain::{Attempt, BotId, RunnerId, Standing, Timestamp};
use jiff::SignedDuration;

use super::scripts::{POLITE, Stage, wrong};
use super::{Fixture, Flaw, Verdict};
use crate::{Deployer, Error, Observed, Preparation, Progress};

fn expect(holds: bool, what: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { wrong(what()) }
}

impl<F: Fixture> Stage<'_, F> {
    /// The slot of its runner.
    fn slot(&self) -> Result<Standing, Flaw> {
        self.launch.standing.ok_or(Flaw::NotCapable)
    }

    async fn prepare(&self, preparation: &Preparation) -> Result<(), Error> {
        self.driver.prepare(preparation, &Progress::silent()).await
    }

    /// How often it is listed, by a driver that remembers nothing.
    async fn shown(&self, standing: Standing) -> Result<usize, Flaw> {
        let all: Vec<Standing> = self.fixture.driver().await.list_standing().try_concat().await?;
        Ok(all.into_iter().filter(|listed| *listed == standing).count())
    }

    /// Another runner, in the same slot.
    fn another(&self) -> Self {
        let mut launch = self.launch.clone();
        launch.spec.runner = RunnerId::of_bot(BotId::generate(), Attempt::FIRST);
        Self { fixture: self.fixture, driver: self.driver.clone(), launch }
    }

    /// Ends its runner and takes it away; its slot stays.
    async fn leave(&self) -> Verdict {
        self.driver.stop(self.runner(), Duration::ZERO).await?;
        self.until("over", |observed| observed != Observed::Running).await?;
        Ok(self.driver.remove(self.runner()).await?)
    }

    /// There is no place for it, and nothing of it.
    async fn expect_no_place(&self) -> Verdict {
        match self.driver.ensure(&self.launch, &Progress::silent()).await {
            Err(Error::NoCapacity(_)) => {}
            other => return wrong(format!("expected no capacity, got {other:?}")),
        }
        expect(self.inspect().await? == Observed::Gone, || "it was started".to_owned())
    }
}

pub(super) async fn what_keeps_no_standing_slots_says_so<F: Fixture>(fixture: &F) -> Verdict {
    let stage = Stage::set(fixture, POLITE).await?;
    if stage.slot().is_ok() {
        return stage.clear().await;
    }
    let preparation = stage.preparation();
    let refused = [
        stage.prepare(&preparation).await,
        stage.driver.reset(preparation.standing).await,
        stage.driver.retire(preparation.standing).await,
    ];
    let said = refused.iter().all(|refused| matches!(refused, Err(Error::Rejected(_))));
    expect(said && stage.shown(preparation.standing).await? == 0, || format!("it answers {refused:?}"))
}

pub(super) async fn a_slot_prepared_again_is_the_same<F: Fixture>(fixture: &F) -> Verdict {
    let stage = Stage::set(fixture, POLITE).await?;
    stage.slot()?;
    let (preparation, replica) = (stage.preparation(), fixture.driver().await);
    for _ in 0..2 {
        let silent = Progress::silent();
        let prepares = [&stage.driver, &replica].map(|driver| driver.prepare(&preparation, &silent));
        for prepared in futures::future::join_all(prepares).await {
            prepared?;
        }
    }
    let shown = stage.shown(preparation.standing).await?;
    expect(shown == 1, || format!("it is listed {shown} times"))?;
    // Also with a runner in it, which does not notice.
    let inside =
        Stage { launch: crate::Launch { standing: Some(preparation.standing), ..stage.launch.clone() }, ..stage };
    inside.ensure().await?;
    inside.prepare(&preparation).await?;
    inside.expect_one_start().await?;
    inside.clear().await
}

pub(super) async fn a_lost_answer_prepares_no_second<F: Fixture>(fixture: &F) -> Verdict {
    let stage = Stage::set(fixture, POLITE).await?;
    stage.slot()?;
    for patience in [0, 5, 100].map(Duration::from_millis) {
        let preparation = stage.preparation();
        let _ = tokio::time::timeout(patience, stage.prepare(&preparation)).await;
        fixture.driver().await.prepare(&preparation, &Progress::silent()).await?;
        let shown = stage.shown(preparation.standing).await?;
        expect(shown == 1, || format!("it is listed {shown} times"))?;
        stage.driver.retire(preparation.standing).await?;
        expect(stage.shown(preparation.standing).await? == 0, || "something of it is left".to_owned())?;
    }
    stage.clear().await
}

pub(super) async fn a_prepare_that_comes_too_late_makes_nothing<F: Fixture>(fixture: &F) -> Verdict {
    let stage = Stage::set(fixture, POLITE).await?;
    stage.slot()?;
    let late = Preparation { prepare_by: Timestamp::now() - SignedDuration::from_secs(1), ..stage.preparation() };
    match stage.prepare(&late).await {
        Err(Error::Transient(_)) => {}
        other => return wrong(format!("expected a transient error, got {other:?}")),
    }
    expect(stage.shown(late.standing).await? == 0, || "it was made".to_owned())?;
    stage.clear().await
}

pub(super) async fn a_slot_has_one_runner_after_another<F: Fixture>(fixture: &F) -> Verdict {
    let first = Stage::set(fixture, POLITE).await?;
    let slot = first.slot()?;
    first.ensure().await?;
    first.expect_one_start().await?;
    first.leave().await?;
    expect(first.shown(slot).await? == 1, || "its slot went with it".to_owned())?;
    let second = first.another();
    second.ensure().await?;
    second.expect_one_start().await?;
    expect(first.inspect().await? == Observed::Gone, || "the first one is there again".to_owned())?;
    second.clear().await
}

pub(super) async fn of_two_runners_one_is_in_a_slot<F: Fixture>(fixture: &F) -> Verdict {
    let first = Stage::set(fixture, POLITE).await?;
    first.slot()?;
    first.ensure().await?;
    first.another().expect_no_place().await?;
    expect(first.inspect().await? == Observed::Running, || "the first one had to go".to_owned())?;
    first.clear().await
}

pub(super) async fn a_start_in_an_old_generation_is_refused<F: Fixture>(fixture: &F) -> Verdict {
    let stage = Stage::set(fixture, POLITE).await?;
    let old = stage.slot()?;
    stage.driver.retire(old).await?;
    stage.expect_no_place().await?;
    let next = Preparation { standing: Standing { generation: old.generation + 1, ..old }, ..stage.preparation() };
    stage.prepare(&next).await?;
    stage.expect_no_place().await?;
    let mut there = stage.another();
    there.launch.standing = Some(next.standing);
    there.ensure().await?;
    there.until("running", |observed| observed == Observed::Running).await?;
    there.clear().await
}

pub(super) async fn a_reset_leaves_nothing_of_its_runners<F: Fixture>(fixture: &F) -> Verdict {
    let stage = Stage::set(fixture, "echo started; exit 3").await?;
    let slot = stage.slot()?;
    stage.ensure().await?;
    stage.exit().await?;
    for _ in 0..2 {
        stage.driver.reset(slot).await?;
    }
    stage.until("gone", |observed| observed == Observed::Gone).await?;
    let next = stage.another();
    next.ensure().await?;
    next.exit().await?;
    next.clear().await
}

pub(super) async fn a_reset_leaves_a_running_one_alone<F: Fixture>(fixture: &F) -> Verdict {
    let stage = Stage::set(fixture, POLITE).await?;
    let slot = stage.slot()?;
    stage.ensure().await?;
    stage.until_printed("started").await?;
    let reset = stage.driver.reset(slot).await;
    expect(matches!(reset, Err(Error::Rejected(_))), || format!("expected a rejection, got {reset:?}"))?;
    expect(stage.inspect().await? == Observed::Running, || "it does not run any more".to_owned())?;
    stage.clear().await?;
    let gone = stage.driver.reset(slot).await;
    expect(matches!(gone, Err(Error::Rejected(_))), || format!("of a slot that is not there it says {gone:?}"))
}

pub(super) async fn a_retired_slot_is_gone_and_stays_so<F: Fixture>(fixture: &F) -> Verdict {
    let stage = Stage::set(fixture, POLITE).await?;
    let (slot, replica) = (stage.slot()?, fixture.driver().await);
    expect(stage.shown(slot).await? == 1, || "it is not listed".to_owned())?;
    for _ in 0..2 {
        let retires = [&stage.driver, &replica].map(|driver| driver.retire(slot));
        for retired in futures::future::join_all(retires).await {
            retired?;
        }
        expect(stage.shown(slot).await? == 0, || "it is still listed".to_owned())?;
    }
    Ok(())
}

pub(super) async fn a_retire_leaves_a_running_one_alone<F: Fixture>(fixture: &F) -> Verdict {
    let stage = Stage::set(fixture, POLITE).await?;
    let slot = stage.slot()?;
    stage.ensure().await?;
    expect(stage.driver.retire(slot).await.is_err(), || "retiring its slot succeeded".to_owned())?;
    expect(stage.inspect().await? == Observed::Running, || "it does not run any more".to_owned())?;
    expect(stage.shown(slot).await? == 1, || "its slot is gone".to_owned())?;
    stage.clear().await
}

pub(super) async fn a_slot_is_described<F: Fixture>(fixture: &F) -> Verdict {
    let stage = Stage::set(fixture, POLITE).await?;
    let slot = stage.slot()?;
    for words in ["[IDLE] web, 12 uses", "[BUSY] Bot #456 - \"weekly\" & more, é"] {
        stage.driver.describe(slot, words).await?;
    }
    stage.clear().await
}
