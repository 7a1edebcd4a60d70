//! Finds ended runners at once, where the platform tells.

use std::time::Duration;

use futures::StreamExt;
use greenroom_domain::RunnerId;
use tokio_util::sync::CancellationToken;

use crate::service::Shared;
use crate::{Deployer, Observed};

/// How many changes are looked into at a time.
const AT_A_TIME: usize = 16;

pub(crate) async fn run<D: Deployer>(shared: &Shared<D>, stop: &CancellationToken) {
    while !stop.is_cancelled() {
        // A platform that does not tell is only listed.
        let Some(changes) = shared.driver.watch() else { return stop.cancelled().await };
        changes.take_until(stop.cancelled()).for_each_concurrent(AT_A_TIME, |runner| look(shared, runner)).await;
        tokio::select! {
            () = stop.cancelled() => {}
            () = shared.pause(Duration::from_secs(1)) => {}
        }
    }
}

/// What cannot be said now the sweep finds again: the remains are removed only just before it is said.
async fn look<D: Deployer>(shared: &Shared<D>, runner: RunnerId) {
    let looked = match shared.driver.inspect(runner).await {
        Ok(Observed::Running) => {
            shared.memory.seen(runner, shared.host.clock.now());
            Ok(())
        }
        // Somebody else has removed it, and said so.
        Ok(Observed::Gone) => Ok(()),
        Ok(Observed::Exited(exit)) => shared.over(runner, exit, "watch").await,
        Ok(Observed::Refused(error)) => shared.never_ran(runner, &error, "watch").await,
        Err(error) => Err(error.into()),
    };
    if let Err(error) = looked {
        tracing::warn!(runner.id = %runner, platform = %shared.platform, %error, "cannot handle a change, trying again with the next list");
    }
}
