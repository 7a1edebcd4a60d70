//! `bot.state_changed`: the bot is over, or it is none of our business.

use greenroom_contracts::messages::BotStateChanged;
use greenroom_contracts::{Envelope, Header};

use super::Heard;
use crate::policy::Fact;

pub fn parse(header: &Header, body: &[u8]) -> Result<Option<Heard>, serde_json::Error> {
    // Public events name the tenant; without one there is nobody to keep a recording for.
    let Some(tenant) = header.tenantid else { return Ok(None) };
    let changed = serde_json::from_slice::<Envelope<BotStateChanged>>(body)?.data;
    Ok(changed.state.is_terminal().then_some(Heard {
        bot: changed.bot,
        tenant: Some(tenant),
        traceparent: header.traceparent.clone(),
        fact: Fact::BotOver { attempt: changed.attempt },
    }))
}
