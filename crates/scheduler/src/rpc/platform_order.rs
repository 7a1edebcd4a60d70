//! The order of platforms: seen and set.

use greenroom_contracts::bad_fields;
use greenroom_contracts::proto::internal::v1::Caller;
use greenroom_contracts::proto::v1::PlatformOrder;
use greenroom_domain::PlatformName;
use tonic::Status;

use super::Door;
use crate::settings::check::check_platforms;
use crate::{Error, store};

fn names(order: &[PlatformName]) -> Vec<String> {
    order.iter().map(PlatformName::to_string).collect()
}

pub fn get(door: &Door) -> PlatformOrder {
    let order = &door.writer.order;
    let (holds, by_operator) = order.now();
    PlatformOrder { platforms: names(&holds), setting: names(order.setting()), by_operator }
}

/// Sets the order. Empty: as the settings say.
pub async fn set(door: &Door, platforms: &[String], caller: &Caller) -> Result<PlatformOrder, Status> {
    let bad = check_platforms(platforms, &door.config.platforms);
    if !bad.is_empty() {
        return Err(bad_fields(&bad));
    }
    let chain: Vec<PlatformName> = platforms.iter().filter_map(|name| PlatformName::new(name.clone()).ok()).collect();
    let writer = &door.writer;
    store::set_platform_order(writer.store().pool(), &chain, writer.now()).await.map_err(Error::from)?;
    tracing::info!(order = ?platforms, key.id = caller.key_id, "an operator set the order of platforms");
    writer.order.learn(chain);
    Ok(get(door))
}
