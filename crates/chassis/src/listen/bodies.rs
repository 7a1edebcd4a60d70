//! Bodies that end: a request's when its caller is too slow, an answer's with its request.

use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::{BoxError, Error};
use http_body::{Frame, SizeHint};
use hyper::body::{Bytes, Incoming};
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::Status;

use super::activity::{Exchange, Progress};

/// A body may take a second for so much of it, beside what it may pause.
const BYTES_PER_SECOND: u64 = 64 << 10;

/// The caller sent its request body too slowly.
#[derive(Debug, thiserror::Error)]
#[error("the request body came too slowly")]
pub struct BodyTooSlow {
    /// What a gRPC caller is told.
    #[source]
    status: Box<Status>,
}

/// A request body that has to come in time.
pub(super) struct TimedBody {
    body: Incoming,
    limit: Duration,
    /// From the first time somebody wanted some of it.
    clock: Option<(Instant, Pin<Box<Sleep>>)>,
    received: u64,
}

impl TimedBody {
    pub fn new(body: Incoming, limit: Duration) -> Self {
        Self { body, limit, clock: None, received: 0 }
    }
}

/// Until when the next piece has to be there.
fn deadline(began: Instant, now: Instant, received: u64, limit: Duration) -> Instant {
    let whole = began + limit + Duration::from_secs(received / BYTES_PER_SECOND);
    whole.min(now + limit)
}

impl http_body::Body for TimedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        match Pin::new(&mut this.body).poll_frame(context) {
            Poll::Ready(frame) => {
                if let Some(Ok(frame)) = &frame {
                    this.received += frame.data_ref().map_or(0, |data| data.len() as u64);
                    if let Some((began, sleep)) = &mut this.clock {
                        sleep.as_mut().reset(deadline(*began, Instant::now(), this.received, this.limit));
                    }
                }
                Poll::Ready(frame.map(|frame| frame.map_err(BoxError::from)))
            }
            Poll::Pending => {
                let (limit, received) = (this.limit, this.received);
                let (_, sleep) = this.clock.get_or_insert_with(|| {
                    let now = Instant::now();
                    (now, Box::pin(sleep_until(deadline(now, now, received, limit))))
                });
                ready!(sleep.as_mut().poll(context));
                let status = Box::new(Status::deadline_exceeded("the request came too slowly"));
                Poll::Ready(Some(Err(BodyTooSlow { status }.into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Something that an answer holds until it was sent: among its extensions.
#[derive(Clone)]
pub struct UntilSent(pub Arc<dyn Any + Send + Sync>);

/// An answer's body, which records whether the caller takes it. Its request ends with it.
pub(super) struct Answer {
    body: Body,
    progress: Progress,
    _exchange: Exchange,
    _held: Option<UntilSent>,
}

impl Answer {
    pub fn new(body: Body, progress: Progress, exchange: Exchange, held: Option<UntilSent>) -> Self {
        Self { body, progress, _exchange: exchange, _held: held }
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.progress.taken();
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if matches!(frame, Poll::Ready(Some(Ok(_)))) {
            self.progress.offered();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.progress.taken();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_large_body_may_take_longer_and_a_pause_may_not() {
        let (began, limit) = (Instant::now(), Duration::from_secs(30));
        let due = |after, received| {
            deadline(began, began + Duration::from_secs(after), received, limit).duration_since(began).as_secs()
        };
        assert_eq!(due(0, 0), 30);
        assert_eq!(due(10, 1), 30, "a byte now and then does not help");
        assert_eq!(due(10, 16 << 20), 40, "no longer than a pause may be");
        assert_eq!(due(280, 16 << 20), 286, "but the whole may take as long as its size says");
    }
}
