//! The truth: which runners run.

mod standing;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use greenroom_deployer::{Error, Launch, Listed, Observed};
use greenroom_domain::{Exit, InstanceId, RunnerId, Standing, Timestamp};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};

use super::facts::{Fact, Facts, What};
use super::images::{Image, Images};
use super::life::{Life, Wish};
use super::link::Link;
use super::script::Script;
use super::slots::Slots;

/// A name on a platform.
type Name = (String, RunnerId);

/// What is known under a name. Kept after its removal, as lists lag and tries are counted.
#[derive(Default)]
struct Known {
    tries: u32,
    running: u32,
    /// Where it runs, or left its remains.
    standing: Option<Standing>,
    exit: Option<Exit>,
    signals: Vec<watch::Sender<Wish>>,
    made_at: Option<Instant>,
    ended_at: Option<Instant>,
    removed_at: Option<Instant>,
    log: String,
}

impl Known {
    fn is_there(&self) -> bool {
        self.made_at.is_some() && self.removed_at.is_none()
    }

    fn removed(&mut self) {
        self.removed_at = Some(Instant::now());
        self.signals.clear();
        self.exit = None;
    }

    fn observed(&self) -> Observed {
        match self.exit {
            _ if !self.is_there() => Observed::Gone,
            Some(exit) if self.running == 0 => Observed::Exited(exit),
            _ => Observed::Running,
        }
    }
}

/// How all platforms behave that have no script of their own.
struct Scripts {
    all: Arc<Script>,
    own: BTreeMap<String, Arc<Script>>,
}

/// Runners are processes of their own and share no connection; so many of them do here, or a thousand would have a thousand.
const CONNECTIONS: usize = 4;

/// All platforms of one server. Cheap to clone.
#[derive(Clone)]
pub(super) struct Truth(Arc<Inner>);

struct Inner {
    scripts: Mutex<Scripts>,
    facts: Arc<Facts>,
    known: Mutex<BTreeMap<Name, Known>>,
    images: Images,
    slots: Slots,
    channels: Mutex<BTreeMap<String, Vec<Channel>>>,
    /// Runners that ended, in order.
    changes: Mutex<Vec<Name>>,
    changed: Notify,
    began: Instant,
    under_way: AtomicUsize,
}

/// A start that may still make a runner, although nobody waits for its answer any more.
struct UnderWay(Truth);

impl UnderWay {
    fn of(truth: &Truth) -> Self {
        truth.0.under_way.fetch_add(1, Ordering::SeqCst);
        Self(truth.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.0.under_way.fetch_sub(1, Ordering::SeqCst);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Truth {
    /// What a runner tells that runs elsewhere.
    pub fn write(&self, fact: &Fact) {
        self.0.facts.write(fact);
    }

    pub fn new(script: Script, facts: Facts) -> Self {
        Self(Arc::new(Inner {
            scripts: Mutex::new(Scripts { all: Arc::new(script), own: BTreeMap::new() }),
            facts: Arc::new(facts),
            known: Mutex::default(),
            images: Images::default(),
            slots: Slots::default(),
            channels: Mutex::default(),
            changes: Mutex::default(),
            changed: Notify::new(),
            began: Instant::now(),
            under_way: AtomicUsize::new(0),
        }))
    }

    pub fn script(&self, platform: &str) -> Arc<Script> {
        let scripts = lock(&self.0.scripts);
        scripts.own.get(platform).unwrap_or(&scripts.all).clone()
    }

    /// None: the script of all that have none of their own.
    pub fn set_script(&self, platform: Option<&str>, script: Script) {
        let mut scripts = lock(&self.0.scripts);
        match platform {
            Some(platform) => drop(scripts.own.insert(platform.to_owned(), Arc::new(script))),
            None => scripts.all = Arc::new(script),
        }
    }

    pub fn is_reachable(&self, platform: &str) -> bool {
        !self.script(platform).is_unreachable(self.0.began.elapsed())
    }

    fn tell(&self, name: &Name, what: What) {
        self.0.facts.tell(&name.0, name.1, None, what);
    }

    /// What a runner's node does not have yet.
    pub fn missing(&self, platform: &str, launch: &Launch) -> Option<Image> {
        self.0.images.missing(platform, &launch.spec, &self.script(platform))
    }

    pub async fn pull(&self, platform: &str, runner: RunnerId, image: Image) -> Result<(), Error> {
        let script = self.script(platform);
        let (number, others) = self.0.images.begins(platform, &image);
        let pulling = What::Pulling { node: image.node.clone(), image: image.image.clone(), others };
        self.tell(&(platform.to_owned(), runner), pulling);
        let mut fate = script.dice(runner, ("pull", number));
        tokio::time::sleep(fate.within(script.pull_ms)).await;
        let fails = fate.happens(script.pull_failures);
        self.0.images.ends(platform, &image, !fails);
        if fails { Err(Error::Transient("simulated: the registry is away".to_owned())) } else { Ok(()) }
    }

    pub async fn ensure(&self, platform: &str, launch: Launch) -> Result<(), Error> {
        let name = (platform.to_owned(), launch.spec.runner);
        let (answer, result) = self.try_ensure(&name, launch).await;
        self.tell(&name, What::Ensured { answer: answer.to_owned() });
        result
    }

    async fn try_ensure(&self, name: &Name, launch: Launch) -> (&'static str, Result<(), Error>) {
        let under_way = UnderWay::of(self);
        let script = self.script(&name.0);
        let number = {
            let mut known = lock(&self.0.known);
            let known = known.entry(name.clone()).or_default();
            known.tries += 1;
            known.tries
        };
        let mut fate = script.dice(name.1, ("ensure", number));
        tokio::time::sleep(fate.within(script.ensure_ms)).await;
        // Each is decided whatever the others are, so that one rate does not change another's story.
        let [no_capacity, rejected, transient, lost, late, doubled] = [
            script.no_capacity,
            script.rejected,
            script.transient,
            script.lost_answers,
            script.late_starts,
            script.doubled_starts,
        ]
        .map(|rate| fate.happens(rate));
        let [unauthorized, late_answer, begins_late] =
            [script.unauthorized, script.late_answers, 0.5].map(|rate| fate.happens(rate));
        {
            let known = lock(&self.0.known);
            if known.get(name).is_some_and(Known::is_there) {
                return ("exists", Ok(()));
            }
            let running =
                known.iter().filter(|((platform, _), known)| *platform == name.0 && known.running > 0).count();
            if let Some((answer, error)) = self.no_place(name, &known, launch.standing) {
                return (answer, Err(error));
            }
            if no_capacity || script.capacity.is_some_and(|capacity| running >= capacity) {
                return ("no_capacity", Err(Error::NoCapacity("simulated: full".to_owned())));
            }
        }
        if Timestamp::now() > launch.start_by {
            return ("late", Err(Error::Transient("simulated: it is too late".to_owned())));
        }
        if rejected {
            return ("rejected", Err(Error::Rejected("simulated: never like this".to_owned())));
        }
        if unauthorized {
            return ("unauthorized", Err(Error::Unauthorized("simulated: who are you?".to_owned())));
        }
        if transient {
            return ("transient", Err(Error::Transient("simulated: not this time".to_owned())));
        }
        if late {
            let (this, name, after) = (self.clone(), name.clone(), fate.within(script.late_start_ms));
            tokio::spawn(async move {
                tokio::time::sleep(after).await;
                // Nobody hears whether it could.
                let _ = this.start(&name, &launch, number);
                drop(under_way);
            });
            return ("delayed", Err(Error::Transient("simulated: no answer".to_owned())));
        }
        if late_answer && begins_late {
            tokio::time::sleep(fate.within(script.late_answer_ms)).await;
            if lock(&self.0.known).get(name).is_some_and(Known::is_there) {
                return ("exists", Ok(()));
            }
        }
        for instance in 0..=u32::from(doubled) {
            if let Err((answer, error)) = self.start(name, &launch, number * 1_000 + instance) {
                return (answer, Err(error));
            }
        }
        if late_answer {
            if !begins_late {
                tokio::time::sleep(fate.within(script.late_answer_ms)).await;
            }
            return ("late_answer", Ok(()));
        }
        if lost {
            return ("lost", Err(Error::Transient("simulated: no answer".to_owned())));
        }
        ("ok", Ok(()))
    }

    /// One more process under this name.
    fn start(&self, name: &Name, launch: &Launch, number: u32) -> Result<(), (&'static str, Error)> {
        let instance = InstanceId::generate();
        let (signals, wish) = watch::channel(Wish::Stay);
        {
            let mut known = lock(&self.0.known);
            // Looked at again under the lock under which it is taken.
            if let Some(no_place) = self.no_place(name, &known, launch.standing) {
                return Err(no_place);
            }
            let known = known.entry(name.clone()).or_default();
            // A start that comes late makes the name anew, as platforms do.
            known.removed_at = None;
            known.ended_at = None;
            known.made_at.get_or_insert_with(Instant::now);
            known.standing = launch.standing;
            known.running += 1;
            known.signals.push(signals);
            known.log.push_str(&format!("started {instance}\n"));
            self.0.facts.tell(&name.0, name.1, Some(instance), What::Started);
            if let Some(standing) = launch.standing {
                self.0.facts.tell(&name.0, name.1, Some(instance), What::Placed { standing });
            }
        }
        let variable = |variable: &str| launch.environment.get(variable).cloned().unwrap_or_default();
        let link = self
            .channel(&variable("GREENROOM_URL"), instance)
            .and_then(|channel| Link::new(channel, &variable("GREENROOM_TOKEN"), name.1, instance));
        let (this, name) = (self.clone(), name.clone());
        let Some(link) = link else {
            tracing::error!(runner.id = %name.1, "the environment of a simulated runner names no gateway or no token");
            this.over(&name, instance, Exit::with_code(2));
            return Ok(());
        };
        let (mut killed, lifetime) = (wish.clone(), launch.spec.max_lifetime);
        let life = Life {
            script: self.script(&name.0),
            facts: self.0.facts.clone(),
            platform: name.0.clone(),
            runner: name.1,
            link,
            number,
            wish,
        };
        tokio::spawn(async move {
            let kill = Exit::with_signal(9);
            let killed = async {
                // The sender is gone only with the name, which is not before it has ended.
                let _ = killed.wait_for(|wish| *wish == Wish::Exit).await;
            };
            let exit = tokio::select! {
                // First, or the runner could still answer to being killed.
                biased;
                () = killed => kill,
                () = tokio::time::sleep(lifetime) => kill,
                exit = life.live() => exit,
            };
            this.over(&name, instance, exit);
        });
        Ok(())
    }

    fn channel(&self, url: &str, instance: InstanceId) -> Option<Channel> {
        let mut channels = lock(&self.0.channels);
        if !channels.contains_key(url) {
            let endpoint = Endpoint::from_shared(url.to_owned())
                .ok()?
                .connect_timeout(Duration::from_secs(2))
                .http2_keep_alive_interval(Duration::from_secs(2))
                .keep_alive_timeout(Duration::from_secs(2))
                .tcp_nodelay(true);
            let made = std::iter::repeat_with(|| endpoint.connect_lazy()).take(CONNECTIONS).collect();
            channels.insert(url.to_owned(), made);
        }
        let of = &channels[url];
        Some(of[instance.uuid().as_u128() as usize % of.len()].clone())
    }

    fn over(&self, name: &Name, instance: InstanceId, exit: Exit) {
        self.0.facts.tell(&name.0, name.1, Some(instance), What::Exited { exit });
        {
            let mut known = lock(&self.0.known);
            if let Some(known) = known.get_mut(name) {
                known.running = known.running.saturating_sub(1);
                known.log.push_str(&format!("exited {instance} {exit:?}\n"));
                // Of doubled ones the one that was let in says how it ended; the other only left the stage.
                if known.exit.is_none_or(|before| before.code == Some(0)) {
                    known.exit = Some(exit);
                }
                if known.running == 0 {
                    known.ended_at = Some(Instant::now());
                }
            }
        }
        lock(&self.0.changes).push(name.clone());
        self.0.changed.notify_waiters();
    }

    pub fn starts_under_way(&self) -> usize {
        self.0.under_way.load(Ordering::SeqCst)
    }

    pub fn tries(&self, platform: &str, runner: RunnerId) -> u32 {
        lock(&self.0.known).get(&(platform.to_owned(), runner)).map_or(0, |known| known.tries)
    }

    pub fn inspect(&self, platform: &str, runner: RunnerId) -> Observed {
        let known = lock(&self.0.known);
        known.get(&(platform.to_owned(), runner)).map_or(Observed::Gone, Known::observed)
    }

    pub fn stop(&self, platform: &str, runner: RunnerId, grace: Duration) {
        let name = (platform.to_owned(), runner);
        let signals = {
            let known = lock(&self.0.known);
            match known.get(&name) {
                Some(known) if known.observed() == Observed::Running => known.signals.clone(),
                _ => return,
            }
        };
        self.tell(&name, What::Asked);
        let script = self.script(platform);
        let deaf = script.dice(runner, "deaf").happens(script.deaf);
        if !deaf {
            for signal in &signals {
                signal.send_if_modified(|wish| {
                    let first = *wish == Wish::Stay;
                    if first {
                        *wish = Wish::Leave("terminated");
                    }
                    first
                });
            }
        }
        tokio::spawn(async move {
            tokio::time::sleep(grace).await;
            for signal in signals {
                signal.send_replace(Wish::Exit);
            }
        });
    }

    /// False: it runs still.
    pub fn remove(&self, platform: &str, runner: RunnerId) -> bool {
        let name = (platform.to_owned(), runner);
        {
            let mut known = lock(&self.0.known);
            let Some(known) = known.get_mut(&name) else { return true };
            match known.observed() {
                Observed::Running => return false,
                Observed::Gone => return true,
                Observed::Exited(_) | Observed::Refused(_) => known.removed(),
            }
        }
        self.tell(&name, What::Removed);
        true
    }

    /// Where anything was ever started, or asked to be.
    pub fn platforms(&self) -> BTreeSet<String> {
        let runners = lock(&self.0.known).keys().map(|(platform, _)| platform.clone()).collect::<BTreeSet<_>>();
        runners.into_iter().chain(self.0.slots.platforms()).collect()
    }

    /// As things stood a while ago.
    pub fn list(&self, platform: &str) -> Vec<Listed> {
        let script = self.script(platform);
        self.list_before(platform, script.scaled(script.list_lag_ms))
    }

    pub fn list_before(&self, platform: &str, lag: Duration) -> Vec<Listed> {
        let was = |at: Option<Instant>| at.is_some_and(|at| at.elapsed() >= lag);
        let known = lock(&self.0.known);
        known
            .iter()
            .filter(|((on, _), known)| on == platform && was(known.made_at) && !was(known.removed_at))
            .map(|((_, runner), known)| Listed { runner: *runner, running: !was(known.ended_at) })
            .collect()
    }

    pub fn log(&self, platform: &str, runner: RunnerId) -> Option<String> {
        let known = lock(&self.0.known);
        known.get(&(platform.to_owned(), runner)).map(|known| known.log.clone()).filter(|log| !log.is_empty())
    }

    /// Runners that ended after the first so many changes, and how many changes there are now. Waits a while for one.
    pub async fn changes(&self, platform: &str, after: Option<usize>) -> (usize, Vec<RunnerId>) {
        let look = |after: usize| {
            let changes = lock(&self.0.changes);
            let new = changes
                .iter()
                .skip(after)
                .filter(|(on, _)| on == platform)
                .map(|(_, runner)| *runner)
                .collect::<Vec<_>>();
            (changes.len(), new)
        };
        let Some(after) = after else { return (look(usize::MAX).0, Vec::new()) };
        let end = Instant::now() + Duration::from_secs(5);
        loop {
            let mut changed = std::pin::pin!(self.0.changed.notified());
            changed.as_mut().enable();
            let (now, new) = look(after);
            if !new.is_empty() || tokio::time::timeout_at(end, changed).await.is_err() {
                return (now, new);
            }
        }
    }
}
