//! A pooled platform made of a local one: its standing slots are names in a book, and runners run as they do anywhere. It shows
//! that the suite's cases about standing slots can be passed, and that they can be failed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use greenroom_deployer::conformance::{self, Fixture, Outcome, Stranger};
use greenroom_deployer::{Capabilities, Deployer, Error, Launch, Listed, LogStream, Observed, Preparation, Progress};
use greenroom_deployer_local::LocalDeployer;
use greenroom_domain::{RunnerId, Standing, Timestamp};
use tokio::sync::Mutex;

use crate::stage::Stage;

/// What the platform knows, whoever drives it.
#[derive(Default)]
struct Book {
    slots: BTreeSet<Standing>,
    inside: BTreeMap<RunnerId, Standing>,
}

struct Pooled {
    local: LocalDeployer,
    book: Arc<Mutex<Book>>,
    /// It does not look who is in a slot.
    careless: bool,
}

impl Pooled {
    /// What is there of runners in a slot.
    async fn others(
        &self,
        book: &Book,
        standing: Standing,
        but: Option<RunnerId>,
    ) -> Result<Vec<(RunnerId, bool)>, Error> {
        let mut there = Vec::new();
        for (runner, _) in book.inside.iter().filter(|(runner, slot)| **slot == standing && Some(**runner) != but) {
            match self.local.inspect(*runner).await? {
                Observed::Running => there.push((*runner, true)),
                Observed::Exited(_) => there.push((*runner, false)),
                Observed::Gone | Observed::Refused(_) => {}
            }
        }
        Ok(there)
    }

    async fn clear(&self, book: &Book, standing: Standing) -> Result<(), Error> {
        let there = self.others(book, standing, None).await?;
        if !self.careless && there.iter().any(|(_, runs)| *runs) {
            return Err(Error::Rejected("a runner runs in it".to_owned()));
        }
        for (runner, _) in there {
            self.local.stop(runner, Duration::ZERO).await?;
            while self.local.inspect(runner).await? == Observed::Running {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            self.local.remove(runner).await?;
        }
        Ok(())
    }
}

impl Deployer for Pooled {
    fn capabilities(&self) -> Capabilities {
        Capabilities { pooled: true, ..self.local.capabilities() }
    }

    async fn ensure(&self, launch: &Launch, progress: &Progress) -> Result<(), Error> {
        let mut book = self.book.lock().await;
        let runner = launch.spec.runner;
        if self.local.inspect(runner).await? != Observed::Gone {
            return Ok(());
        }
        let standing = launch.standing.ok_or_else(|| Error::Rejected("no slot is named".to_owned()))?;
        if !self.careless {
            let is_free = self.others(&book, standing, Some(runner)).await?.is_empty();
            if !book.slots.contains(&standing) || !is_free {
                return Err(Error::NoCapacity("it has no place".to_owned()));
            }
        }
        book.inside.insert(runner, standing);
        self.local.ensure(launch, progress).await
    }

    async fn inspect(&self, runner: RunnerId) -> Result<Observed, Error> {
        self.local.inspect(runner).await
    }

    async fn stop(&self, runner: RunnerId, grace: Duration) -> Result<(), Error> {
        self.local.stop(runner, grace).await
    }

    async fn remove(&self, runner: RunnerId) -> Result<(), Error> {
        self.local.remove(runner).await
    }

    fn list(&self) -> BoxStream<'_, Result<Vec<Listed>, Error>> {
        self.local.list()
    }

    fn watch(&self) -> Option<BoxStream<'_, RunnerId>> {
        self.local.watch()
    }

    async fn logs(&self, runner: RunnerId, follow: bool, tail_lines: Option<u32>) -> Result<Option<LogStream>, Error> {
        self.local.logs(runner, follow, tail_lines).await
    }

    async fn prepare(&self, preparation: &Preparation, progress: &Progress) -> Result<(), Error> {
        progress.say("making");
        let mut book = self.book.lock().await;
        if !book.slots.contains(&preparation.standing) && Timestamp::now() > preparation.prepare_by {
            return Err(Error::Transient("it is too late".to_owned()));
        }
        book.slots.insert(preparation.standing);
        Ok(())
    }

    async fn reset(&self, standing: Standing) -> Result<(), Error> {
        let book = self.book.lock().await;
        if !book.slots.contains(&standing) {
            return Err(Error::Rejected("there is no such slot".to_owned()));
        }
        self.clear(&book, standing).await
    }

    async fn retire(&self, standing: Standing) -> Result<(), Error> {
        let mut book = self.book.lock().await;
        self.clear(&book, standing).await?;
        book.slots.remove(&standing);
        Ok(())
    }

    async fn describe(&self, _: Standing, _: &str) -> Result<(), Error> {
        Ok(())
    }

    fn list_standing(&self) -> BoxStream<'_, Result<Vec<Standing>, Error>> {
        stream::once(async { Ok(self.book.lock().await.slots.iter().copied().collect()) }).boxed()
    }
}

struct House {
    stage: Stage,
    book: Arc<Mutex<Book>>,
    careless: bool,
}

impl Fixture for House {
    type Driver = Pooled;

    async fn driver(&self) -> Arc<Pooled> {
        Arc::new(Pooled { local: self.stage.driver(), book: self.book.clone(), careless: self.careless })
    }

    async fn stranger(&self, _: RunnerId) -> Option<Stranger> {
        None
    }
}

async fn outcomes(careless: bool) -> Vec<(&'static str, Outcome)> {
    let report = conformance::run(&House { stage: Stage::new(), book: Arc::default(), careless }).await;
    println!("{report}");
    report.cases().to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn standing_slots_can_be_kept_as_the_suite_wants_it() {
    for (case, outcome) in outcomes(false).await {
        // Strangers and trouble are for those who have them.
        assert!(!matches!(outcome, Outcome::Failed(_)), "{case}: {outcome:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_careless_driver_is_found_out() {
    let failed: BTreeSet<_> = outcomes(true)
        .await
        .into_iter()
        .filter(|(_, outcome)| matches!(outcome, Outcome::Failed(_)))
        .map(|(case, _)| case)
        .collect();
    let expected = [
        "of_two_runners_one_is_in_a_slot",
        "a_start_in_an_old_generation_is_refused",
        "a_reset_leaves_a_running_one_alone",
        "a_retire_leaves_a_running_one_alone",
    ];
    assert_eq!(failed, BTreeSet::from(expected));
}
