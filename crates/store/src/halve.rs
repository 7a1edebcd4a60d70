//! One request that cannot be must not fail the others of its batch.

use std::sync::Arc;

use futures::future::BoxFuture;

/// Hands a batch to `handle`, and halves it until the culprit is alone where `handle` refuses it. Returns one answer for each
/// request, in order.
///
/// `handle` must have written nothing of a batch that it refuses, or answer the same when it is asked again. `is_refused` says
/// whether a smaller batch might do better. Any other error (the database is unavailable) is the answer to every request that
/// is left: each part would wait for as long, and fail as well.
///
/// A batch of n requests with one culprit takes at most 2 log2(n) + 1 calls.
pub async fn halve<'a, Q, A, E>(
    batch: &'a [Q],
    is_refused: impl Fn(&E) -> bool,
    handle: impl Fn(&'a [Q]) -> BoxFuture<'a, Result<Vec<A>, E>>,
) -> Vec<Result<A, Arc<E>>> {
    let mut answers = Vec::with_capacity(batch.len());
    // The parts that are to be done, the first of them last.
    let mut parts = vec![batch];
    while let Some(part) = parts.pop() {
        if part.is_empty() {
            continue;
        }
        match handle(part).await {
            Ok(answered) => {
                debug_assert_eq!(answered.len(), part.len(), "one answer each");
                answers.extend(answered.into_iter().map(Ok));
            }
            Err(error) if !is_refused(&error) => {
                let error = Arc::new(error);
                answers.extend((answers.len()..batch.len()).map(|_| Err(error.clone())));
                return answers;
            }
            Err(error) => match part.split_at(part.len() / 2) {
                ([], _) => answers.push(Err(Arc::new(error))),
                (first, second) => parts.extend([second, first]),
            },
        }
    }
    answers
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::FutureExt;

    use super::*;

    #[derive(Debug, PartialEq, Eq)]
    enum Why {
        Refused(u32),
        Away,
    }

    /// Doubles even numbers, refuses a batch with an odd one, and finds its database unavailable from 100 on. Returns the answers and
    /// the number of calls.
    async fn doubled(batch: &[u32]) -> (Vec<Result<u32, Why>>, usize) {
        let calls = AtomicUsize::new(0);
        let answers = halve(
            batch,
            |why| *why != Why::Away,
            |part| {
                calls.fetch_add(1, Ordering::Relaxed);
                let answer = if part.iter().any(|number| *number >= 100) {
                    Err(Why::Away)
                } else {
                    match part.iter().find(|number| *number % 2 == 1) {
                        Some(odd) => Err(Why::Refused(*odd)),
                        None => Ok(part.iter().map(|number| number * 2).collect()),
                    }
                };
                async move { answer }.boxed()
            },
        )
        .await;
        let plain = |error: Arc<Why>| match *error {
            Why::Refused(odd) => Why::Refused(odd),
            Why::Away => Why::Away,
        };
        (answers.into_iter().map(|answer| answer.map_err(plain)).collect(), calls.into_inner())
    }

    #[tokio::test]
    async fn every_request_but_the_culprit_is_answered() {
        for size in [1, 2, 3, 7, 64] {
            for culprit in 0..size {
                let batch: Vec<u32> = (0..size).map(|at| if at == culprit { 1 } else { 2 * at % 100 }).collect();
                let (answers, calls) = doubled(&batch).await;
                for (at, (number, answer)) in batch.iter().zip(answers).enumerate() {
                    let expected = if at == culprit as usize { Err(Why::Refused(1)) } else { Ok(number * 2) };
                    assert_eq!(answer, expected, "request {at} of {size}, culprit {culprit}");
                }
                assert!(calls <= 2 * size.ilog2() as usize + 3, "{calls} calls for {size}");
            }
        }
    }

    #[tokio::test]
    async fn a_batch_without_a_culprit_is_handled_once() {
        assert_eq!(doubled(&[2, 4, 6]).await, (vec![Ok(4), Ok(8), Ok(12)], 1));
        assert_eq!(doubled(&[]).await, (Vec::new(), 0));
    }

    #[tokio::test]
    async fn an_unavailable_database_is_asked_once_and_answers_everybody_left() {
        let (answers, calls) = doubled(&[2, 1, 100, 4]).await;
        assert_eq!(answers, [Err(Why::Away), Err(Why::Away), Err(Why::Away), Err(Why::Away)]);
        assert_eq!(calls, 1);
    }
}
