//! Limit, permits and draining of a platform.

use greenroom_contracts::BadField;
use greenroom_contracts::proto::internal::v1::Caller;
use greenroom_contracts::proto::v1::{PlatformStats, UpdatePlatformRequest};
use tonic::Status;

use super::{OperatorDoor, get_pool, no_such, platform};
use crate::operate::{self, Change};

/// More is a slip of the finger: a row is made for each slot.
pub const MOST: u32 = 100_000;

pub async fn update_platform(
    door: &OperatorDoor,
    request: UpdatePlatformRequest,
    caller: &Caller,
) -> Result<PlatformStats, Status> {
    let name = platform(&request.platform)?;
    let change = change(&request)?;
    if !operate::change_platform(&door.ledger, &name, change).await? {
        return Err(no_such(&name));
    }
    tracing::info!(platform = %name, key.id = caller.key_id, limit = ?change.limit, permits = ?change.permits, draining = ?change.draining, "an operator changed a platform");
    get_pool::one(door, &name).await
}

/// Returns the change of what the mask names: a setting that it names and that is absent is cleared.
fn change(request: &UpdatePlatformRequest) -> Result<Change, BadField> {
    let settings = request.settings.unwrap_or_default();
    let mut change = Change::default();
    for path in request.update_mask.iter().flat_map(|mask| &mask.paths) {
        match path.as_str() {
            "limit" => change.limit = Some(number("settings.limit", settings.limit)?),
            "permits" => change.permits = Some(number("settings.permits", settings.permits)?),
            "draining" => change.draining = Some(settings.draining),
            _ => return Err(BadField::new("update_mask", "must name limit, permits and draining only")),
        }
    }
    if change == Change::default() {
        return Err(BadField::new("settings", "must name limit, permits or draining"));
    }
    Ok(change)
}

fn number(field: &'static str, given: Option<u32>) -> Result<Option<u32>, BadField> {
    if given.is_some_and(|value| value > MOST) {
        return Err(BadField::new(field, format!("must not be more than {MOST}")));
    }
    Ok(given)
}

#[cfg(test)]
mod tests {
    use greenroom_contracts::proto::v1::PlatformSettings;
    use prost_types::FieldMask;

    use super::*;

    #[test]
    fn only_what_the_mask_names_changes() {
        let settings = PlatformSettings { limit: Some(5), permits: None, draining: true };
        let read = |paths: &[&str]| {
            let mask = FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() };
            change(&UpdatePlatformRequest {
                platform: String::new(),
                settings: Some(settings),
                update_mask: Some(mask),
            })
        };
        let changed = read(&["limit", "permits"]).expect("a change");
        assert_eq!(changed, Change { limit: Some(Some(5)), permits: Some(None), draining: None });
        assert_eq!(read(&["draining"]).expect("a change").draining, Some(true));
        assert_eq!(read(&[]).expect_err("nothing").field, "settings");
        assert_eq!(read(&["limit", "colour"]).expect_err("unknown").field, "update_mask");
    }
}
