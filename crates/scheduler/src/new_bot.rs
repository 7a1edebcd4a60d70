//! From what a caller asks to a bot that is not made yet.

use greenroom_contracts::BadField;
use greenroom_contracts::proto::internal::v1::Caller;
use greenroom_contracts::proto::v1::CreateBotRequest;
use greenroom_domain::bot::{Bot, BotState};
use greenroom_domain::time::before;
use greenroom_domain::{BotId, TenantId, Timestamp};

use crate::Config;
use crate::rows::{Details, Stored};
use crate::settings::check::{check, idempotency_key};
use crate::settings::{asked, chain, complete, policy, provider, times};
use crate::sizes::Sizes;
use crate::sizing::Own;

/// Returns a bot that is SCHEDULED, and looked at when it is due.
///
/// # Errors
/// Everything that is out of bounds.
pub fn new_bot(
    caller: &Caller,
    request: &CreateBotRequest,
    now: Timestamp,
    config: &Config,
    sizes: &Sizes,
) -> Result<Stored, Vec<BadField>> {
    let one = |bad: BadField| vec![bad];
    let tenant: TenantId = caller.tenant_id.parse().map_err(|error| one(BadField::new("caller.tenant_id", error)))?;
    let mut bad = idempotency_key(&request.idempotency_key);
    let Some(settings) = &request.settings else {
        bad.push(BadField::new("settings", "is missing"));
        return Err(bad);
    };
    bad.extend(check(settings, &config.terms(caller, now)));
    // How much there is at most, only they know.
    let size = provider(settings).and_then(|provider| sizes.choose(&provider, asked(settings), Own::from(caller)));
    let size = match size {
        Ok(size) if bad.is_empty() => size,
        Ok(_) => return Err(bad),
        Err(more) => {
            if bad.iter().all(|known| known.field != more.field) {
                bad.push(more);
            }
            return Err(bad);
        }
    };
    let settings = complete(settings.clone(), caller, &config.defaults, now);
    let (start_at, end_at) = times(&settings).map_err(one)?;
    let provider = provider(&settings).map_err(one)?;
    Ok(Stored {
        bot: Bot {
            id: BotId::generate(),
            tenant,
            state: BotState::Scheduled,
            state_since: now,
            reason: None,
            start_at,
            end_at,
            queued_at: None,
            queue_deadline: None,
            joined_at: None,
            policy: policy(&settings),
            chain: chain(&settings).map_err(one)?,
            chain_from: 0,
            failures: 0,
            wake_at: Some(before(start_at, config.timing.lead)),
            asserts: 0,
            attempt: None,
        },
        details: Details {
            number: 0,
            size,
            provider,
            settings,
            weight: caller.weight.max(1),
            traceparent: greenroom_bus::trace::current(),
            created_at: now,
        },
        version: 1,
        sequence: 0,
        updated_at: now,
    })
}
