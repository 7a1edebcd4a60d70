//! Tenants, by name.

use greenroom_contracts::BadField;
use greenroom_contracts::proto::internal::v1::{ListTenantsRequest, ListTenantsResponse, Plan as ShownPlan, Tenant};
use tonic::Status;

use super::Rpc;
use crate::plan::Plan;
use crate::{Error, store};

const DEFAULT: u32 = 100;
const MOST: u32 = 1_000;

pub(super) async fn handle(rpc: &Rpc, request: ListTenantsRequest) -> Result<ListTenantsResponse, Status> {
    let size = match request.page_size {
        None => DEFAULT,
        Some(size @ 1..=MOST) => size,
        Some(_) => return Err(BadField::new("page_size", format!("must be 1 to {MOST}")).into()),
    };
    // Tenants come in the order of their names, so the token is the last name of the page.
    let found = store::tenants(&rpc.store, &request.page_token, size).await.map_err(Error::from)?;
    let full = found.len() == size as usize;
    let next_page_token = found.last().filter(|_| full).map(|last| last.name.clone()).unwrap_or_default();
    Ok(ListTenantsResponse { tenants: found.into_iter().map(|row| shown(rpc, row)).collect(), next_page_token })
}

pub(super) fn shown(rpc: &Rpc, row: store::TenantRow) -> Tenant {
    let store::TenantRow { id, name, plan, own, time_zone, images } = row;
    let terms = rpc.terms(plan, own);
    let of_its_own = [
        ("priority", own.priority),
        ("weight", own.weight),
        ("daily_limit", own.daily_limit),
        ("concurrency_limit", own.concurrency_limit),
        ("cpu_millis", own.cpu_millis),
        ("memory_mb", own.memory_mb),
    ];
    Tenant {
        id: id.to_string(),
        name,
        plan: shown_plan(plan).into(),
        priority: terms.priority,
        weight: terms.weight,
        daily_limit: terms.daily_limit,
        concurrency_limit: terms.concurrency_limit,
        time_zone,
        cpu_millis: terms.cpu_millis,
        memory_mb: terms.memory_mb,
        own: of_its_own
            .into_iter()
            .filter(|(_, own)| own.is_some())
            .map(|(name, _)| name)
            .chain(images.is_some().then_some("images"))
            .map(str::to_owned)
            .collect(),
        images: images.unwrap_or_else(|| rpc.images.clone()),
    }
}

fn shown_plan(plan: Plan) -> ShownPlan {
    match plan {
        Plan::Free => ShownPlan::Free,
        Plan::Standard => ShownPlan::Standard,
        Plan::Professional => ShownPlan::Professional,
        Plan::Enterprise => ShownPlan::Enterprise,
    }
}
