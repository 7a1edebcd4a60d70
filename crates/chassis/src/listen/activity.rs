//! What happens on a connection, and when it has to end.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::Limits;

/// Why a connection is closed from our side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overdue {
    /// It has not sent the headers of a request.
    Headers,
    /// It has no request.
    Idle,
    /// It does not take what is sent to it.
    Stalled,
}

impl Overdue {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Headers => "header_timeout",
            Self::Idle => "idle_timeout",
            Self::Stalled => "stall_timeout",
        }
    }
}

/// What happens on a connection. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Activity(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// When the connection was opened, or its last request ended.
    quiet_since: Instant,
    requests: u64,
    in_flight: usize,
    /// Since when the socket has taken nothing of what is written to it.
    blocked_since: Option<Instant>,
    /// Nothing of what our service answered is on its way: what is written now comes from the HTTP library itself.
    between_answers: bool,
}

impl Activity {
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(State {
            quiet_since: Instant::now(),
            requests: 0,
            in_flight: 0,
            blocked_since: None,
            between_answers: true,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request has come; it lasts until this is dropped.
    pub fn begin(&self) -> Exchange {
        let mut state = self.lock();
        state.requests += 1;
        state.in_flight += 1;
        state.between_answers = false;
        Exchange(self.clone())
    }

    /// The socket took nothing, or something.
    pub fn blocked(&self, blocked: bool) {
        let mut state = self.lock();
        if blocked {
            state.blocked_since.get_or_insert_with(Instant::now);
        } else {
            state.blocked_since = None;
        }
    }

    /// All that was written is on its way.
    pub fn flushed(&self) {
        let mut state = self.lock();
        if state.in_flight == 0 {
            state.between_answers = true;
        }
    }

    /// Whether what is written now comes from the HTTP library itself.
    pub fn between_answers(&self) -> bool {
        self.lock().between_answers
    }

    /// Returns when the connection has to end.
    pub async fn overdue(&self, limits: &Limits) -> Overdue {
        loop {
            let look = self.lock().look(Instant::now(), limits);
            match look {
                Ok(next) => sleep_until(next).await,
                Err(why) => return why,
            }
        }
    }
}

impl State {
    /// When to look again, or why the connection has to end now.
    fn look(&self, now: Instant, limits: &Limits) -> Result<Instant, Overdue> {
        let stalled = self.blocked_since.map(|since| (since + limits.stall_timeout, Overdue::Stalled));
        let quiet = (self.in_flight == 0).then(|| match self.requests {
            0 => (self.quiet_since + limits.header_timeout, Overdue::Headers),
            _ => (self.quiet_since + limits.idle_timeout, Overdue::Idle),
        });
        let due = stalled.into_iter().chain(quiet).min_by_key(|(at, _)| *at);
        match due {
            Some((at, why)) if at <= now => Err(why),
            // What begins or ends meanwhile is seen at the next look.
            due => {
                let soon = now + limits.header_timeout.min(limits.idle_timeout).min(limits.stall_timeout);
                Ok(due.map_or(soon, |(at, _)| at.min(soon)))
            }
        }
    }
}

/// A request in flight, up to the end of its answer.
#[derive(Debug)]
pub(super) struct Exchange(Activity);

impl Drop for Exchange {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.in_flight -= 1;
        if state.in_flight == 0 {
            state.quiet_since = Instant::now();
        }
    }
}

/// Whether the caller takes an answer. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress(Arc<Mutex<Option<Instant>>>);

impl Progress {
    /// Something is there for the caller to take.
    pub fn offered(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// It was taken, or there is nothing to take.
    pub fn taken(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Returns when something was not taken for so long.
    pub async fn stalled(&self, limit: Duration) {
        loop {
            let offered = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match offered.map(|offered| offered + limit) {
                Some(due) if due <= Instant::now() => return,
                Some(due) => sleep_until(due).await,
                None => sleep(limit).await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        let seconds = Duration::from_secs;
        Limits { header_timeout: seconds(1), idle_timeout: seconds(5), stall_timeout: seconds(20), ..Limits::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_ends_when_nothing_happens_on_it() {
        let began = Instant::now();
        let silent = Activity::new();
        assert_eq!(silent.overdue(&limits()).await, Overdue::Headers);
        assert_eq!(began.elapsed(), Duration::from_secs(1));

        let began = Instant::now();
        let idle = Activity::new();
        drop(idle.begin());
        assert_eq!(idle.overdue(&limits()).await, Overdue::Idle);
        assert_eq!(began.elapsed(), Duration::from_secs(5));

        let began = Instant::now();
        let deaf = Activity::new();
        let _exchange = deaf.begin();
        deaf.blocked(true);
        assert_eq!(deaf.overdue(&limits()).await, Overdue::Stalled);
        assert_eq!(began.elapsed(), Duration::from_secs(20));
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_request_is_not_overdue_while_it_is_taken() {
        let (activity, progress) = (Activity::new(), Progress::default());
        let exchange = activity.begin();
        let hours = Duration::from_secs(7_200);
        let takes = async {
            loop {
                progress.offered();
                sleep(Duration::from_secs(15)).await;
                progress.taken();
                sleep(Duration::from_secs(90)).await;
            }
        };
        let limits = limits();
        tokio::select! {
            why = activity.overdue(&limits) => panic!("{why:?}"),
            () = progress.stalled(limits.stall_timeout) => panic!("it was taken"),
            () = takes => {}
            () = sleep(hours) => {}
        }
        drop(exchange);
        assert_eq!(activity.overdue(&limits).await, Overdue::Idle);
        progress.offered();
        progress.stalled(limits.stall_timeout).await;
    }
}
