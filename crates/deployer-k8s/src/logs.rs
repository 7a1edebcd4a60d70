//! What a runner printed: as long as its pod is there from the pod, and for a while after a stop from what was read along.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use futures::{AsyncBufRead, AsyncBufReadExt};
use greenroom_deployer::{Error, LogStream};
use greenroom_domain::RunnerId;
use k8s_openapi::api::core::v1::Pod;
use kube::api::LogParams;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::driver::K8sDeployer;
use crate::observe::{PodState, pod_state};
use crate::pauses::Pauses;
use crate::spec::RUNNER;

/// Of a stopped runner's words, so many bytes are kept,
const KEPT: usize = 64 << 10;
/// and before it was asked to end so many lines,
const LINES: i64 = 200;
/// for so long,
const FOR: Duration = Duration::from_secs(600);
/// of so many runners.
const RUNNERS: usize = 512;

/// How long the last of it may be on its way after the end.
const LATE: Duration = Duration::from_secs(2);

/// What one printed.
#[derive(Debug, Default)]
struct Words {
    text: Mutex<VecDeque<u8>>,
    /// There is no more of it.
    complete: CancellationToken,
}

/// The last words of runners that were stopped here.
#[derive(Debug, Default)]
pub struct LastWords(Mutex<HashMap<RunnerId, (Instant, Arc<Words>)>>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LastWords {
    /// A place for a runner's; none: it has one, or there are too many.
    fn place(&self, runner: RunnerId) -> Option<Arc<Words>> {
        let mut all = lock(&self.0);
        all.retain(|_, (since, _)| since.elapsed() < FOR);
        if all.len() >= RUNNERS || all.contains_key(&runner) {
            return None;
        }
        let words = Arc::<Words>::default();
        all.insert(runner, (Instant::now(), words.clone()));
        Some(words)
    }

    /// Of one that has ended.
    async fn of(&self, runner: RunnerId, tail_lines: Option<u32>) -> Option<Bytes> {
        let words = lock(&self.0).get(&runner)?.1.clone();
        let _ = tokio::time::timeout(LATE, words.complete.cancelled()).await;
        let words: Vec<u8> = lock(&words.text).iter().copied().collect();
        Some(Bytes::copy_from_slice(tail(&words, tail_lines)))
    }

    /// Nobody asks any more.
    pub fn forget(&self, runner: RunnerId) {
        lock(&self.0).remove(&runner);
    }
}

/// The last lines.
fn tail(text: &[u8], lines: Option<u32>) -> &[u8] {
    let Some(lines) = lines.and_then(|lines| usize::try_from(lines).ok()) else { return text };
    if lines == 0 {
        return &[];
    }
    let ended = text.strip_suffix(b"\n").unwrap_or(text);
    let from = ended.iter().rposition_nth(lines);
    &text[from..]
}

/// Where the n-th line from the end begins.
trait Lines {
    fn rposition_nth(self, lines: usize) -> usize;
}

impl<'a, I: DoubleEndedIterator<Item = &'a u8> + ExactSizeIterator> Lines for I {
    fn rposition_nth(self, lines: usize) -> usize {
        self.enumerate().rev().filter(|(_, byte)| **byte == b'\n').nth(lines - 1).map_or(0, |(at, _)| at + 1)
    }
}

fn params(follow: bool, tail_lines: Option<i64>) -> LogParams {
    LogParams { container: Some(RUNNER.to_owned()), follow, tail_lines, ..LogParams::default() }
}

/// Reads along what a runner prints from now on, as its node throws that away with the container.
pub(crate) async fn keep(deployer: &K8sDeployer, runner: RunnerId, pod: &Pod) {
    let name = pod.metadata.name.clone().unwrap_or_default();
    if !has_begun(pod) {
        return;
    }
    let Some(words) = deployer.words.place(runner) else { return };
    match deployer.cluster.call(deployer.cluster.pods.log_stream(&name, &params(true, Some(LINES)))).await {
        Ok(reader) => {
            let work = async move {
                let mut chunks = chunks(reader);
                while let Some(Ok(chunk)) = chunks.next().await {
                    let mut text = lock(&words.text);
                    text.extend(chunk);
                    let over = text.len().saturating_sub(KEPT);
                    text.drain(..over);
                }
                words.complete.cancel();
            };
            drop(greenroom_tasks::spawn("deployer k8s log", work));
        }
        Err(failure) => {
            deployer.words.forget(runner);
            let error = Error::from(failure);
            tracing::debug!(runner.id = %runner, %error, "cannot keep a stopped runner's log");
        }
    }
}

fn chunks(reader: impl AsyncBufRead + Send + 'static) -> BoxStream<'static, io::Result<Bytes>> {
    async_stream::try_stream! {
        let mut reader = Box::pin(reader);
        loop {
            let chunk = Bytes::copy_from_slice(reader.fill_buf().await?);
            if chunk.is_empty() {
                break;
            }
            reader.as_mut().consume(chunk.len());
            yield chunk;
        }
    }
    .boxed()
}

/// Whether its container has printed anything that its node knows of.
fn has_begun(pod: &Pod) -> bool {
    let containers = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let mut states =
        containers.filter(|container| container.name == RUNNER).filter_map(|container| container.state.as_ref());
    states.any(|state| state.running.is_some() || state.terminated.is_some())
}

pub(crate) async fn read(
    deployer: &K8sDeployer,
    runner: RunnerId,
    follow: bool,
    tail_lines: Option<u32>,
) -> Result<Option<LogStream>, Error> {
    let mut pauses = Pauses::default();
    loop {
        let look = deployer.look(runner).await?;
        let newest = look.pods.iter().max_by_key(|pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0));
        let Some(pod) = newest else {
            // Nothing yet, or nothing any more.
            return Ok(match (look.job, deployer.words.of(runner, tail_lines).await) {
                (None, None) => None,
                (Some(_), None) => Some(stream::empty().boxed()),
                (_, Some(words)) => Some(stream::iter([Ok(words)]).boxed()),
            });
        };
        let state = pod_state(pod, deployer.patience(), deployer.clock.now());
        let over = !matches!(state, PodState::Live);
        if over && pod.metadata.deletion_timestamp.is_some() {
            // Its node has tidied up, or will at any moment.
            if let Some(words) = deployer.words.of(runner, tail_lines).await {
                return Ok(Some(stream::iter([Ok(words)]).boxed()));
            }
            return remains(deployer, pod, tail_lines).await;
        }
        if !has_begun(pod) {
            if follow && !over {
                tokio::time::sleep(pauses.longer()).await;
                continue;
            }
            return Ok(Some(stream::empty().boxed()));
        }
        let name = pod.metadata.name.clone().unwrap_or_default();
        let how = params(follow, tail_lines.map(i64::from));
        return Ok(deployer.cluster.find(deployer.cluster.pods.log_stream(&name, &how)).await?.map(chunks));
    }
}

/// What a node still has of a pod that somebody else deleted: a minute's worth, or nothing.
async fn remains(deployer: &K8sDeployer, pod: &Pod, tail_lines: Option<u32>) -> Result<Option<LogStream>, Error> {
    if !has_begun(pod) {
        return Ok(Some(stream::empty().boxed()));
    }
    let name = pod.metadata.name.clone().unwrap_or_default();
    let how = params(false, tail_lines.map(i64::from));
    let text = deployer.cluster.find(deployer.cluster.pods.logs(&name, &how)).await?;
    // The node's words for it, in place of the runner's and with status 200.
    let text = text.filter(|text| !text.starts_with("unable to retrieve container logs"));
    Ok(text.map(|text| stream::iter([Ok(Bytes::from(text))]).boxed()))
}

#[cfg(test)]
mod tests {
    use greenroom_domain::{Attempt, BotId};

    use super::*;

    #[test]
    fn a_tail_is_whole_lines() {
        let text = b"one\ntwo\nthree\n";
        let of = |text: &'static [u8], lines| std::str::from_utf8(tail(text, lines)).expect("text");
        assert_eq!(of(text, None), "one\ntwo\nthree\n");
        assert_eq!((of(text, Some(0)), of(text, Some(1)), of(text, Some(2))), ("", "three\n", "two\nthree\n"));
        assert_eq!((of(text, Some(3)), of(text, Some(9))), ("one\ntwo\nthree\n", "one\ntwo\nthree\n"));
        assert_eq!(of(b"one\ntwo", Some(1)), "two", "a line that has no end yet");
        assert_eq!(of(b"", Some(1)), "");
    }

    #[tokio::test]
    async fn last_words_have_one_place_for_a_while() {
        let (words, runner) = (LastWords::default(), RunnerId::of_bot(BotId::generate(), Attempt::FIRST));
        let place = words.place(runner).expect("a place");
        assert!(words.place(runner).is_none(), "whoever was first reads along");
        lock(&place.text).extend(b"a\nb\n");
        place.complete.cancel();
        assert_eq!(words.of(runner, Some(1)).await.as_deref(), Some(b"b\n".as_slice()));
        words.forget(runner);
        assert_eq!(words.of(runner, None).await, None);
    }
}
