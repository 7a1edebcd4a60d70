//! What both doors stand on.

use std::sync::Arc;
use std::time::Duration;

use greenroom_chassis::Host;
use tokio_util::sync::CancellationToken;

use crate::bots::Bots;
use crate::desired::DesiredCache;
use crate::events::Events;
use crate::forward::Forward;
use crate::keys::Keys;
use crate::requests::Requests;
use crate::runners::Runners;
use crate::upload_fence::UploadFence;
use crate::uploads::Uploads;
use crate::upstream::Upstream;
use crate::{Config, Error};

/// Everything that answers. Shared by all requests.
#[derive(Debug)]
pub(crate) struct Core {
    pub keys: Keys,
    pub bots: Bots,
    pub forward: Forward,
    pub runners: Runners,
    pub events: Events,
    pub requests: Requests,
    pub uploads: Uploads,
    pub desired: DesiredCache,
    pub event_keep_alive: Duration,
    /// Ends what would otherwise go on for ever, when the process ends.
    pub closing: CancellationToken,
}

impl Core {
    pub fn new(config: &Config, host: &Host) -> Result<Arc<Self>, Error> {
        let upstream = Upstream::new(host);
        let upload_fence = UploadFence::new(host, upstream.clone());
        let desired = DesiredCache::new(host, upstream.clone(), upload_fence.clone());
        let closing = CancellationToken::new();
        Ok(Arc::new(Self {
            keys: Keys::new(config, host, upstream.clone()),
            bots: Bots { upstream: upstream.clone() },
            forward: Forward::new(host, upstream.clone())?,
            runners: Runners {
                upstream,
                desired: desired.clone(),
                upload_fence,
                bus: host.bus.clone(),
                secret: host.secret.clone(),
                next_beat: host.scaled(config.heartbeat_interval),
            },
            events: Events::new(host, config.watchers, closing.clone()),
            requests: Requests::new(config.requests, config.requests_per_address),
            uploads: Uploads::new(config.uploads),
            desired,
            event_keep_alive: config.event_keep_alive,
            closing,
        }))
    }
}
