//! First pulls are single-flight: of all who want an image on a node, one pulls it and the others wait for it.
//!
//! At the top of the hour a hundred starts may want an image that a node does not have yet. A hundred pulls of a gigabyte
//! at once are slower than one, and get a registry's limits upon everybody. So a driver asks here first:
//!
//! ```ignore
//! let pulled = self.pulls.pull((node, image), progress, |progress| self.pull(node, image, progress)).await?;
//! self.create(launch).await?;
//! drop(pulled);
//! ```
//!
//! **What is promised, for each key by itself:**
//! - at most one pull is under way in this process;
//! - whoever waits hears the progress of the one that pulls, so that no deadline passes while a pull gets on;
//! - when it succeeds everybody goes on: at once, or so many at a time as [`Pulls::at_once`] says, in the order in which
//!   they came;
//! - when it fails for want of something that may come (an answer, room), that is the failure of the one that pulled, and
//!   the next one tries. What is refused for good (there is no such image, nobody may have it) is refused to all who wait;
//! - when the one that pulls goes away, cancelled or in a panic, the next one pulls;
//! - nothing is kept that nobody waits for. Whoever comes after a success pulls again: for an image that is there this is
//!   one look, and a node may have thrown it away in the meantime.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::{Class, Error, Progress};

/// Pulls under way, by key: mostly (node, image). One for each platform; cheap to clone.
pub struct Pulls<K: Eq + Hash>(Arc<Inner<K>>);

struct Inner<K: Eq + Hash> {
    flights: Mutex<HashMap<K, Flight<K>>>,
    at_once: Option<NonZeroUsize>,
}

/// A key that somebody pulls.
struct Flight<K: Eq + Hash> {
    waiting: VecDeque<Waiter<K>>,
    /// The last word of the one that pulls, for those who come later.
    last: Option<String>,
}

struct Waiter<K: Eq + Hash> {
    word: oneshot::Sender<Word<K>>,
    progress: Progress,
}

/// What whoever waits is told in the end.
enum Word<K: Eq + Hash> {
    /// It is there. Where starts are limited: take your place in here first.
    Go(Option<Arc<Semaphore>>),
    /// It never will be.
    Refused(Error),
    /// The one before you did not manage it: it is your turn.
    Pull(Turn<K>),
}

/// Who has this pulls; dropped in whatever way, the next one does.
struct Turn<K: Eq + Hash> {
    inner: Arc<Inner<K>>,
    /// None: settled.
    key: Option<K>,
}

/// The image is there. Where a platform cannot take many starts right after a pull, this is the right to be one of them:
/// keep it until the start has been accepted.
#[derive(Debug)]
#[must_use = "the next one may start as soon as this is dropped"]
pub struct Pulled {
    _place: Option<OwnedSemaphorePermit>,
}

/// Those who went away are taken off the list when it has grown by so many.
const TIDIED: usize = 64;

impl<K: Eq + Hash> Clone for Pulls<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K: Eq + Hash> fmt::Debug for Pulls<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pulls").field("at_once", &self.0.at_once).finish_non_exhaustive()
    }
}

impl<K: Clone + Eq + Hash> Default for Pulls<K> {
    fn default() -> Self {
        Self::at_once(None)
    }
}

impl<K: Clone + Eq + Hash> Pulls<K> {
    /// After a pull, so many of those who waited for it may start at once; none: all of them.
    #[must_use]
    pub fn at_once(at_once: Option<NonZeroUsize>) -> Self {
        Self(Arc::new(Inner { flights: Mutex::default(), at_once }))
    }

    /// Comes back when what the key names is there. `pull` is asked for it only when nobody else is at it, and may be called
    /// though it is there already.
    ///
    /// # Errors
    /// `pull`'s own, or a `Rejected` or `Unauthorized` of somebody else's who pulled the same while we waited.
    pub async fn pull<F, Pulling>(&self, key: K, progress: &Progress, pull: F) -> Result<Pulled, Error>
    where
        F: FnOnce(Progress) -> Pulling,
        Pulling: Future<Output = Result<(), Error>>,
    {
        let turn = match self.stand(&key, progress) {
            Stand::First(turn) => turn,
            Stand::Behind(word) => match word.await {
                Ok(Word::Pull(turn)) => turn,
                Ok(Word::Go(wave)) => return Ok(Pulled::in_turn(wave).await),
                Ok(Word::Refused(error)) => return Err(error),
                // Words are given before their senders are dropped; only the end of the world is another case.
                Err(_) => return Err(Error::Transient("nobody pulls any more".to_owned())),
            },
        };
        let (words, mut said) = mpsc::unbounded_channel();
        let mut pulling = std::pin::pin!(pull(Progress::to(words)));
        let pulled = loop {
            tokio::select! {
                pulled = &mut pulling => break pulled,
                Some(what) = said.recv() => turn.tell(progress, what),
            }
        };
        turn.settle(pulled)
    }

    fn stand(&self, key: &K, progress: &Progress) -> Stand<K> {
        let mut flights = self.0.lock();
        let Some(flight) = flights.get_mut(key) else {
            flights.insert(key.clone(), Flight { waiting: VecDeque::new(), last: None });
            return Stand::First(Turn { inner: self.0.clone(), key: Some(key.clone()) });
        };
        if flight.waiting.len() % TIDIED == TIDIED - 1 {
            flight.waiting.retain(|waiter| !waiter.word.is_closed());
        }
        if let Some(last) = &flight.last {
            progress.say(last.clone());
        }
        let (word, hears) = oneshot::channel();
        flight.waiting.push_back(Waiter { word, progress: progress.clone() });
        Stand::Behind(hears)
    }
}

enum Stand<K: Eq + Hash> {
    First(Turn<K>),
    Behind(oneshot::Receiver<Word<K>>),
}

impl<K: Eq + Hash> Inner<K> {
    fn lock(&self) -> MutexGuard<'_, HashMap<K, Flight<K>>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash> Turn<K> {
    /// Everybody hears it, and whoever pulls first.
    fn tell(&self, own: &Progress, what: String) {
        own.say(what.clone());
        let mut flights = self.inner.lock();
        if let Some(flight) = self.key.as_ref().and_then(|key| flights.get_mut(key)) {
            flight.waiting.iter().for_each(|waiter| waiter.progress.say(what.clone()));
            flight.last = Some(what);
        }
    }

    fn settle(mut self, pulled: Result<(), Error>) -> Result<Pulled, Error> {
        match pulled {
            Ok(()) => {
                let wave = self.inner.at_once.map(|at_once| Arc::new(Semaphore::new(at_once.get())));
                // Ours is the first place: nobody else knows of it yet.
                let own = Pulled { _place: wave.clone().and_then(|wave| wave.try_acquire_owned().ok()) };
                for waiter in self.end() {
                    let _ = waiter.word.send(Word::Go(wave.clone()));
                }
                Ok(own)
            }
            Err(error) => {
                if matches!(error.class(), Class::Rejected | Class::Unauthorized) {
                    for waiter in self.end() {
                        let _ = waiter.word.send(Word::Refused(error.clone()));
                    }
                }
                // Otherwise dropping the turn hands it on.
                Err(error)
            }
        }
    }

    /// Whoever comes from now on begins anew.
    fn end(&mut self) -> VecDeque<Waiter<K>> {
        let flight = self.key.take().and_then(|key| self.inner.lock().remove(&key));
        flight.map(|flight| flight.waiting).unwrap_or_default()
    }
}

impl<K: Eq + Hash> Drop for Turn<K> {
    fn drop(&mut self) {
        let Some(mut key) = self.key.take() else { return };
        // Until somebody has taken it: a turn that went to one who is just going away comes back here.
        loop {
            let mut flights = self.inner.lock();
            let Some(flight) = flights.get_mut(&key) else { return };
            flight.last = None;
            let Some(next) = flight.waiting.pop_front() else {
                flights.remove(&key);
                return;
            };
            drop(flights);
            let turn = Self { inner: self.inner.clone(), key: Some(key) };
            match next.word.send(Word::Pull(turn)) {
                Err(Word::Pull(mut back)) => match back.key.take() {
                    Some(again) => key = again,
                    None => return,
                },
                Ok(()) | Err(Word::Go(_) | Word::Refused(_)) => return,
            }
        }
    }
}

impl Pulled {
    async fn in_turn(wave: Option<Arc<Semaphore>>) -> Self {
        match wave {
            // Nobody ever closes it.
            Some(wave) => Self { _place: wave.acquire_owned().await.ok() },
            None => Self { _place: None },
        }
    }
}

#[cfg(test)]
mod tests;
