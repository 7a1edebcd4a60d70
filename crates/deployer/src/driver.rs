//! The contract between the service and a platform.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use greenroom_domain::{Exit, Provider, Resources, RunnerId, RunnerSpec, Standing, Timestamp, Usage};
use tokio::sync::mpsc;

use crate::{Error, Finding, Wanted};

/// What a platform can do beyond the verbs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// What kind of platform it is: `local`, `docker`, …
    pub kind: &'static str,
    /// What keeps runners apart from each other and from us: `none`, `container`, …
    pub isolation: &'static str,
    /// It keeps what runners print.
    pub logs: bool,
    /// It holds runners to their memory and says so when one wanted more.
    pub out_of_memory: bool,
    /// It tells a runner's signal apart from its exit code.
    pub signals: bool,
    /// It ends runners that are older than their spec allows.
    pub max_lifetime: bool,
    /// It keeps standing slots: a container, an application, a machine that is prepared once, waits, and is given to one
    /// runner after another. Every start there names its slot.
    pub pooled: bool,
}

/// What a runner is at the moment of a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed {
    /// It runs, or is about to.
    Running,
    /// It ended; its remains are there still.
    Exited(Exit),
    /// It was accepted, has never run, and never will: its image cannot be had, no machine takes it. Its remains are there
    /// still. Nothing that passes by itself, and never [`Error::Transient`].
    Refused(Error),
    /// The platform has nothing by that name.
    Gone,
}

/// A line of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// Who.
    pub runner: RunnerId,
    /// The list itself says that it runs; otherwise it is worth a look.
    pub running: bool,
}

/// A runner to be, with the secrets that were fetched for it at this moment.
#[derive(Clone, PartialEq, Eq)]
pub struct Launch {
    /// What it needs. Its name on the platform is made of the installation and `spec.runner`.
    pub spec: RunnerSpec,
    /// What stands in its environment, secrets among it: nothing to log or keep.
    pub environment: BTreeMap<String, String>,
    /// A driver that takes long to come to the point looks at its clock again: nothing is to begin after this.
    pub start_by: Timestamp,
    /// On a pooled platform, and only there: the standing slot that it is to run in.
    pub standing: Option<Standing>,
}

impl fmt::Debug for Launch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Launch")
            .field("spec", &self.spec)
            .field("start_by", &self.start_by)
            .field("standing", &self.standing)
            .finish_non_exhaustive()
    }
}

/// A standing slot to be. There is nothing secret about it: what a runner needs comes with its start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preparation {
    /// Which. A generation that was retired never comes again; slot and generation are its name for the driver.
    pub standing: Standing,
    /// Its name for people: `pool-google-meet-001`.
    pub name: String,
    /// Whose runners it is for.
    pub provider: Provider,
    /// The image; none: the provider's own.
    pub image: Option<String>,
    /// What a runner in it may use.
    pub resources: Resources,
    /// Nothing is to begin after this.
    pub prepare_by: Timestamp,
}

/// Where a driver says what it is at: `pulling`, … Deadlines count time without progress.
#[derive(Debug, Clone, Default)]
pub struct Progress(Option<mpsc::UnboundedSender<String>>);

impl Progress {
    /// Nobody listens.
    #[must_use]
    pub fn silent() -> Self {
        Self(None)
    }

    pub(crate) fn to(sender: mpsc::UnboundedSender<String>) -> Self {
        Self(Some(sender))
    }

    /// Says it, in one word.
    pub fn say(&self, what: impl Into<String>) {
        if let Some(sender) = &self.0 {
            let _ = sender.send(what.into());
        }
    }
}

/// What a runner printed, as it printed it.
pub type LogStream = BoxStream<'static, io::Result<Bytes>>;

/// A platform. Every verb may be said again, at the same time, by another replica or after our own restart, and means the
/// same. Throttling is the driver's own; whether to try again is not.
pub trait Deployer: Send + Sync + 'static {
    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// It keeps what a runner printed after its remains are removed, for as long as its own settings say. Of others the end of
    /// it is kept by the service around them.
    fn keeps_logs(&self) -> bool {
        false
    }

    /// It says with which code a runner ended. One that does not only says that it ended.
    fn tells_exit_codes(&self) -> bool {
        true
    }

    /// Has the runner run. One that is there already, running or exited, is success.
    ///
    /// On a pooled platform it runs in its standing slot, and nowhere else. A slot that is not there (any more), which an old
    /// generation is, or that somebody else is in, is [`Error::NoCapacity`]; one that is not ready yet is
    /// [`Error::Transient`].
    fn ensure(&self, launch: &Launch, progress: &Progress) -> impl Future<Output = Result<(), Error>> + Send;

    /// Looks at it. A platform that does not answer is an error, never [`Observed::Gone`].
    fn inspect(&self, runner: RunnerId) -> impl Future<Output = Result<Observed, Error>> + Send;

    /// Asks it to end and forces it after `grace`; comes back when that is on its way. A shorter grace said later counts.
    /// One that is not there is success.
    fn stop(&self, runner: RunnerId, grace: Duration) -> impl Future<Output = Result<(), Error>> + Send;

    /// What those that run have taken so far: asked for at every list, for platforms that forget it with the end. None of
    /// them: not known.
    fn samples(&self) -> impl Future<Output = Result<Vec<(RunnerId, Usage)>, Error>> + Send {
        std::future::ready(Ok(Vec::new()))
    }

    /// What an ended runner really took, as long as its remains are there; none where the platform does not know. What it
    /// cannot say keeps nothing waiting.
    fn usage(&self, _runner: RunnerId) -> impl Future<Output = Result<Option<Usage>, Error>> + Send {
        std::future::ready(Ok(None))
    }

    /// Removes what an ended runner left. What runs is left alone and an error; one that is not there is success.
    fn remove(&self, runner: RunnerId) -> impl Future<Output = Result<(), Error>> + Send;

    /// Every runner of ours, in pages: what runs, or has ended and not been removed.
    fn list(&self) -> BoxStream<'_, Result<Vec<Listed>, Error>>;

    /// Runners that may have ended, as the platform tells; where it tells nothing the sweep alone finds them. A stream that
    /// ends is asked for again.
    fn watch(&self) -> Option<BoxStream<'_, RunnerId>>;

    /// What it printed, from the first line or from the last `tail_lines`; with `follow` until it has ended. None: there is
    /// nothing (any more).
    fn logs(
        &self,
        runner: RunnerId,
        follow: bool,
        tail_lines: Option<u32>,
    ) -> impl Future<Output = Result<Option<LogStream>, Error>> + Send;

    /// Looks at credentials, reachability, quota and images, for `greenroom platforms check`: says what was found and what to
    /// do, changes nothing, and never shows a secret.
    fn check(&self, _wanted: &Wanted) -> impl Future<Output = Vec<Finding>> + Send {
        std::future::ready(Vec::new())
    }

    /// Pooled: has the standing slot be there, ready. One that is there already is success, also with a runner in it.
    fn prepare(
        &self,
        _preparation: &Preparation,
        _progress: &Progress,
    ) -> impl Future<Output = Result<(), Error>> + Send {
        not_pooled()
    }

    /// Pooled: brings a standing slot back to fresh, whatever its runners left. One that a runner runs in is left alone and an
    /// error, and so is one that is not there.
    fn reset(&self, _standing: Standing) -> impl Future<Output = Result<(), Error>> + Send {
        not_pooled()
    }

    /// Pooled: has the standing slot not be there, and nothing of it. One that a runner runs in is left alone and an error; one
    /// that is not there is success.
    fn retire(&self, _standing: Standing) -> impl Future<Output = Result<(), Error>> + Send {
        not_pooled()
    }

    /// Pooled: what people see beside it on the platform. Nobody waits for it.
    fn describe(&self, _standing: Standing, _description: &str) -> impl Future<Output = Result<(), Error>> + Send {
        not_pooled()
    }

    /// Pooled: every standing slot of ours that there is anything of, in pages: ready, being prepared, or broken.
    fn list_standing(&self) -> BoxStream<'_, Result<Vec<Standing>, Error>> {
        futures::stream::empty().boxed()
    }
}

fn not_pooled() -> std::future::Ready<Result<(), Error>> {
    std::future::ready(Err(Error::Rejected("the platform keeps no standing slots".to_owned())))
}
