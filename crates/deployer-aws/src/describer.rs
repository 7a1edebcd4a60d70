//! Looks at tasks, a hundred in a call: whoever wants to look while others do is taken along with the next call.

use std::collections::HashMap;
use std::sync::Arc;

use greenroom_deployer::{Error, Names};
use greenroom_tasks::Tasks;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::api::{Api, DESCRIBED};
use crate::task::Task;

/// How many calls are under way at a time.
const CALLS: usize = 4;
/// How many callers may stand in line.
const LINE: usize = 1024;

struct Ask {
    arns: Vec<String>,
    answer: oneshot::Sender<Result<Vec<Task>, Error>>,
}

/// Cheap to clone; the last one that is dropped ends the work.
#[derive(Debug, Clone)]
pub struct Describer(mpsc::Sender<Ask>);

impl Describer {
    pub fn start(api: Arc<Api>, names: Names, tasks: &Tasks) -> Self {
        let (sender, mut line) = mpsc::channel(LINE);
        tasks.run("deployer aws description of tasks", async move {
            let (calls, names) = (Arc::new(Semaphore::new(CALLS)), Arc::new(names));
            let mut left = None;
            // Who comes while no call can be made waits for those who come as well: no batch is ever waited for.
            while let Ok(call) = calls.clone().acquire_owned().await {
                let first: Ask = match left.take() {
                    Some(first) => first,
                    None => match line.recv().await {
                        Some(first) => first,
                        None => return,
                    },
                };
                let mut batch: Vec<Ask> = vec![first];
                let mut size = batch[0].arns.len();
                while let Ok(next) = line.try_recv() {
                    if size + next.arns.len() > DESCRIBED {
                        left = Some(next);
                        break;
                    }
                    size += next.arns.len();
                    batch.push(next);
                }
                let (api, names) = (api.clone(), names.clone());
                // Those who asked hear of a panic: their answer is dropped.
                drop(greenroom_tasks::spawn("deployer aws call", async move {
                    describe(&api, &names, batch).await;
                    drop(call);
                }));
            }
        });
        Self(sender)
    }

    /// Those of these that ECS shows.
    pub async fn describe(&self, arns: &[String]) -> Result<Vec<Task>, Error> {
        let mut found = Vec::with_capacity(arns.len());
        for arns in arns.chunks(DESCRIBED) {
            let (answer, hears) = oneshot::channel();
            let nobody = || Error::Transient("nobody describes tasks any more".to_owned());
            self.0.send(Ask { arns: arns.to_vec(), answer }).await.map_err(|_| nobody())?;
            found.extend(hears.await.map_err(|_| nobody())??);
        }
        Ok(found)
    }
}

async fn describe(api: &Api, names: &Names, batch: Vec<Ask>) {
    let batch: Vec<Ask> = batch.into_iter().filter(|ask| !ask.answer.is_closed()).collect();
    let mut arns: Vec<String> = batch.iter().flat_map(|ask| ask.arns.iter().cloned()).collect();
    arns.sort_unstable();
    arns.dedup();
    if arns.is_empty() {
        return;
    }
    let described = api.describe_tasks(arns).await.map(|tasks| {
        let tasks = tasks.iter().filter_map(|task| Task::read(task, names));
        tasks.map(|task| (task.arn.clone(), task)).collect::<HashMap<_, _>>()
    });
    for ask in batch {
        let own = described.as_ref().map(|tasks| ask.arns.iter().filter_map(|arn| tasks.get(arn).cloned()).collect());
        let _ = ask.answer.send(own.map_err(Clone::clone));
    }
}
