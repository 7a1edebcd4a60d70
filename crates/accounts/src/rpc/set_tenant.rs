//! Another plan for a tenant, or terms of its own.

use greenroom_contracts::BadField;
use greenroom_contracts::proto::internal::v1::{SetTenantRequest, Tenant};
use jiff::tz::TimeZone;
use tonic::Status;

use super::{Rpc, list_tenants};
use crate::images;
use crate::plan::Plan;
use crate::{Error, store};

/// Whatever a request may ask for, too.
const HIGHEST_PRIORITY: u32 = 10_000;
const HIGHEST_WEIGHT: u32 = 1_000;
const HIGHEST_LIMIT: u32 = 1_000_000_000;
/// More than one machine has. What a runner may have at most, the scheduler knows and holds it to.
const HIGHEST_CPU_MILLIS: u32 = 1_000_000;
const HIGHEST_MEMORY_MB: u32 = 16 << 20;
/// In the database of time zones, and of no place: the first is whatever a machine is set to.
const NO_PLACE: [&str; 2] = ["localtime", "Factory"];
const OWN: [&str; 7] = ["priority", "weight", "daily_limit", "concurrency_limit", "cpu_millis", "memory_mb", "images"];

pub(super) async fn handle(rpc: &Rpc, request: SetTenantRequest) -> Result<Tenant, Status> {
    let plan = request.plan.map(|_| request.plan().word().parse::<Plan>()).transpose();
    let plan = plan.map_err(|problem| BadField::new("plan", problem))?;
    for (field, given, least, most) in [
        ("priority", request.priority, 0, HIGHEST_PRIORITY),
        ("weight", request.weight, 1, HIGHEST_WEIGHT),
        ("daily_limit", request.daily_limit, 0, HIGHEST_LIMIT),
        ("concurrency_limit", request.concurrency_limit, 0, HIGHEST_LIMIT),
        ("cpu_millis", request.cpu_millis, 1, HIGHEST_CPU_MILLIS),
        ("memory_mb", request.memory_mb, 1, HIGHEST_MEMORY_MB),
    ] {
        if given.is_some_and(|given| given < least || given > most) {
            return Err(BadField::new(field, format!("must be {least} to {most}")).into());
        }
        if given.is_some() && request.as_planned.iter().any(|name| name == field) {
            return Err(BadField::new(field, "is given, and is to be as planned").into());
        }
    }
    if let Some(list) = &request.images {
        images::check(&list.images).map_err(|problem| BadField::new("images", problem))?;
        if request.as_planned.iter().any(|name| name == "images") {
            return Err(BadField::new("images", "is given, and is to be as planned").into());
        }
    }
    if let Some(unknown) = request.as_planned.iter().find(|name| !OWN.contains(&name.as_str())) {
        return Err(BadField::new("as_planned", format!("{unknown:?} is none of {}", OWN.join(", "))).into());
    }
    // By name alone, as an offset would be wrong for half of the year.
    if request.time_zone.as_deref().is_some_and(|zone| NO_PLACE.contains(&zone) || TimeZone::get(zone).is_err()) {
        return Err(BadField::new("time_zone", "must be an IANA name, as Europe/Berlin").into());
    }
    let row = store::set_tenant(&rpc.store, plan, &request).await.map_err(Error::from)?;
    let row = row.ok_or_else(|| Status::not_found("there is no tenant of that name"))?;
    tracing::info!(tenant.id = %row.id, plan = %row.plan, own = ?row.own, images = ?row.images, "tenant changed");
    Ok(list_tenants::shown(rpc, row))
}
