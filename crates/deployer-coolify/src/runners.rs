//! What is done for and to a runner.

use std::time::Duration;

use greenroom_deployer::{Class, Error, Launch, Observed, Progress};
use greenroom_domain::{Exit, RunnerId, Standing};
use serde_json::json;

use crate::api::Deployment;
use crate::driver::{Inner, Slot, chosen};
use crate::look::{Container, Look, container, look, started, under_way};
use crate::request::{blank, change, claim, environment};
use crate::title::{Inside, Title};

/// Between two looks whether something has ended.
const AGAIN: Duration = Duration::from_millis(500);
/// How long an end is waited for, at most.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often a start looks anew when somebody else, most likely another replica with the same start, was faster.
const TRIES: u32 = 4;

/// What came of one try to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begun {
    /// It is under way, or was before.
    Yes,
    /// The slot changed between two looks: look again.
    Moved,
}

fn late() -> Error {
    Error::Transient("it is too late for it to begin".to_owned())
}

impl Inner {
    pub async fn ensure(&self, launch: &Launch, progress: &Progress) -> Result<(), Error> {
        let standing = launch
            .standing
            .ok_or_else(|| Error::Rejected("a start on Coolify has to name a standing slot".to_owned()))?;
        let _turn = self.turn(standing.slot).await;
        for _ in 0..TRIES {
            if self.try_ensure(launch, standing, progress).await? == Begun::Yes {
                return Ok(());
            }
        }
        Err(Error::Transient("somebody else is at that slot".to_owned()))
    }

    async fn try_ensure(&self, launch: &Launch, standing: Standing, progress: &Progress) -> Result<Begun, Error> {
        let runner = launch.spec.runner;
        let slots = self.slots().await?;
        let has = |slot: &&Slot| slot.title.inside.as_ref().is_some_and(|inside| inside.runner == runner);
        if let Some(slot) = slots.iter().find(has) {
            let latest = self.api.latest(&slot.application.uuid).await?;
            if slot.title.inside.as_ref().is_some_and(|inside| started(inside, latest.as_ref())) {
                return Ok(Begun::Yes);
            }
            if slot.title.standing != standing {
                return Err(Error::NoCapacity("it has a place in another slot".to_owned()));
            }
        }
        if self.clock.now() > launch.start_by {
            return Err(late());
        }
        let slot = chosen(&slots, standing).ok_or_else(|| Error::NoCapacity("there is no such slot".to_owned()))?;
        let begun = self.begin(launch, slot, progress).await;
        if let Err(error) = &begun
            && error.class() != Class::Transient
        {
            // Nothing runs, and nobody comes again: what is left of it are secrets.
            if let Err(error) = self.give_back(runner).await {
                tracing::warn!(runner.id = %runner, platform = %self.platform, %error, "cannot release a slot; the next start cleans it");
            }
        }
        begun
    }

    /// From a slot that nobody runs in to a deployment that is under way.
    async fn begin(&self, launch: &Launch, slot: &Slot, progress: &Progress) -> Result<Begun, Error> {
        let (uuid, runner) = (slot.application.uuid.as_str(), launch.spec.runner);
        let image = self.config.images.of(&launch.spec);
        let latest = self.api.latest(uuid).await?;
        // Before the claim, and not after it: what is begun from here on by whomever is not what was there before us.
        let now = self.api.application(uuid).await?.ok_or_else(|| Error::NoCapacity("it is gone".to_owned()))?;
        if now.name != slot.application.name {
            return Ok(Begun::Moved);
        }
        match &slot.title.inside {
            Some(inside) if started(inside, latest.as_ref()) && inside.runner == runner => return Ok(Begun::Yes),
            Some(inside) if started(inside, latest.as_ref()) => {
                return Err(Error::NoCapacity("somebody else is in that slot".to_owned()));
            }
            // The one before was begun anew at the moment when it was looked at, or somebody did something by hand: whoever it
            // is has no right to be there.
            _ if container(&now) != Container::Over => {
                progress.say("clearing");
                self.end(&Slot { application: now, title: slot.title.clone() }).await?;
                return Ok(Begun::Moved);
            }
            _ => {}
        }
        let after = latest.map(|latest| latest.deployment_uuid);
        let inside = Inside { runner, after };
        let title = Title { inside: Some(inside.clone()), ..slot.title.clone() };
        let name = self.titles.write(&title);
        progress.say("claiming");
        self.api.update(uuid, &claim(&name, &image, &launch.spec.resources, self.config.shm_mb)).await?;

        let variables = self.api.variables(uuid).await?;
        let change = change(&variables, &environment(&launch.environment, &image));
        for variable in &change.delete {
            self.api.delete_variable(uuid, variable).await?;
        }
        if let Some(body) = &change.set {
            self.api.set_variables(uuid, body).await?;
        }

        // The last look before the start: is it still ours, and has nobody started it meanwhile?
        let now = self.api.application(uuid).await?;
        if now.and_then(|now| now.name).as_deref() != Some(name.as_str()) {
            return Err(Error::NoCapacity("somebody else has got that slot".to_owned()));
        }
        if started(&inside, self.api.latest(uuid).await?.as_ref()) {
            return Ok(Begun::Yes);
        }
        if self.clock.now() > launch.start_by {
            return Err(late());
        }
        progress.say("deploying");
        self.api.start(uuid).await?;
        // Coolify says "queued" as well when its queue is full and nothing was queued.
        if started(&inside, self.api.latest(uuid).await?.as_ref()) {
            tracing::debug!(runner.id = %runner, platform = %self.platform, coolify.application = uuid, "deployment is under way");
            return Ok(Begun::Yes);
        }
        Err(Error::NoCapacity("Coolify has not queued it: its deployment queue is full".to_owned()))
    }

    /// What the runner in it is, with a look at the container itself where it may be over.
    pub async fn observe(&self, slot: &Slot, inside: &Inside) -> Result<Observed, Error> {
        let uuid = slot.application.uuid.as_str();
        let latest = self.api.latest(uuid).await?;
        match look(&slot.application, inside, latest.as_ref()) {
            Look::Is(observed) => Ok(observed),
            Look::Ask => Ok(match self.api.logs(uuid, 1).await? {
                Some(_) => Observed::Running,
                None => Observed::Exited(Exit::default()),
            }),
        }
    }

    pub async fn stop(&self, runner: RunnerId, grace: Duration) -> Result<(), Error> {
        let Some((slot, inside)) = self.slot_of(runner).await? else { return Ok(()) };
        let latest = self.api.latest(&slot.application.uuid).await?.filter(|latest| started(&inside, Some(latest)));
        if latest.is_none() && container(&slot.application) == Container::Over {
            // Never started. Whoever starts it at this moment has looked at the name already: he is let through, and what he has
            // begun is ended.
            let _turn = self.turn(slot.title.standing.slot).await;
            let Some((slot, begun)) = self.give_back(runner).await? else { return Ok(()) };
            return self.halt(&slot, Some(&begun), grace).await;
        }
        self.halt(&slot, latest.as_ref(), grace).await
    }

    /// Ends what has been begun: its deployment, as long as that is under way, and its container.
    async fn halt(&self, slot: &Slot, begun: Option<&Deployment>, grace: Duration) -> Result<(), Error> {
        let uuid = slot.application.uuid.as_str();
        if let Some(begun) = begun.filter(|begun| under_way(begun)) {
            self.api.cancel(&begun.deployment_uuid).await?;
        }
        // Coolify's grace is a setting of the application, in seconds, and not less than one.
        let seconds = grace.as_millis().div_ceil(1000).clamp(1, 3600);
        self.api.update(uuid, &json!({ "stop_grace_period": seconds })).await?;
        self.api.stop(uuid).await
    }

    pub async fn remove(&self, runner: RunnerId) -> Result<(), Error> {
        let Some((slot, _)) = self.slot_of(runner).await? else { return Ok(()) };
        let _turn = self.turn(slot.title.standing.slot).await;
        let Some((slot, inside)) = self.slot_of(runner).await? else { return Ok(()) };
        let over = container(&slot.application) == Container::Over;
        match self.observe(&slot, &inside).await? {
            Observed::Running => return Err(Error::Rejected("it runs".to_owned())),
            // It was looked at, or never began.
            Observed::Gone | Observed::Exited(_) if over => {}
            Observed::Gone | Observed::Exited(_) | Observed::Refused(_) => self.end(&slot).await?,
        }
        self.empty(&slot).await
    }

    /// Makes sure that nothing runs in it: what was begun anew, that is.
    pub async fn end(&self, slot: &Slot) -> Result<(), Error> {
        let uuid = slot.application.uuid.as_str();
        let until = tokio::time::Instant::now() + PATIENCE;
        let mut application = slot.application.clone();
        let mut stopped = false;
        loop {
            let over = container(&application) == Container::Over;
            if over && self.api.logs(uuid, 1).await?.is_none() {
                return Ok(());
            }
            if !stopped {
                self.api.update(uuid, &json!({ "stop_grace_period": 1 })).await?;
                self.api.stop(uuid).await?;
                stopped = true;
            }
            if tokio::time::Instant::now() > until {
                return Err(Error::Transient("it was begun anew, and has not ended yet".to_owned()));
            }
            tokio::time::sleep(AGAIN).await;
            let Some(now) = self.api.application(uuid).await? else { return Ok(()) };
            application = now;
        }
    }

    /// Takes a runner's environment and name away. The name goes last: as long as it stands there, this is repeated.
    pub async fn empty(&self, slot: &Slot) -> Result<(), Error> {
        let uuid = slot.application.uuid.as_str();
        if let Some(body) = blank(&self.api.variables(uuid).await?) {
            self.api.set_variables(uuid, &body).await?;
        }
        let title = Title { inside: None, ..slot.title.clone() };
        self.api.update(uuid, &json!({ "name": self.titles.write(&title) })).await
    }

    /// The claim of a runner that has not been started; where it has been after all, that deployment, and nothing is done. Whoever
    /// calls this has the slot's turn.
    async fn give_back(&self, runner: RunnerId) -> Result<Option<(Slot, Deployment)>, Error> {
        let Some((slot, inside)) = self.slot_of(runner).await? else { return Ok(None) };
        let uuid = slot.application.uuid.as_str();
        let begun = async || Ok(self.api.latest(uuid).await?.filter(|latest| started(&inside, Some(latest))));
        if let Some(begun) = begun().await? {
            return Ok(Some((slot, begun)));
        }
        self.empty(&slot).await?;
        // Another replica, which our turn does not keep away, may have looked at the name just before: then something begins in a
        // slot that counts as free.
        let Some(begun) = begun().await? else { return Ok(None) };
        let free = Title { inside: None, ..slot.title.clone() };
        let name = self.api.application(uuid).await?.and_then(|now| now.name);
        if name.as_deref() != Some(self.titles.write(&free).as_str()) {
            // Somebody else has claimed it since: he ends what he finds there, or it is his.
            return Ok(None);
        }
        self.api.update(uuid, &json!({ "name": self.titles.write(&slot.title) })).await?;
        // Its environment is gone, so there is nothing that it could do with a grace.
        self.halt(&slot, Some(&begun), Duration::ZERO).await?;
        Ok(None)
    }
}
