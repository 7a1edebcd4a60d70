//! What tenants may have under way at a time, as the accounts service says it. Whoever calls brings it along; for a bot whose time has
//! come nobody calls.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use greenroom_chassis::InnerChannel;
use greenroom_contracts::proto::internal::v1::GetLimitsRequest;
use greenroom_contracts::proto::internal::v1::accounts_service_client::AccountsServiceClient;
use greenroom_domain::TenantId;
use tonic::Request;

/// After so long a tenant's limit is asked for again, as gateways do with what they know of a key.
const KEPT: Duration = Duration::from_secs(60);
/// The sweep of due bots waits for the answer.
const ASK: Duration = Duration::from_secs(2);
/// In one request.
const PAGE: usize = 500;
/// More are not kept: some MiB.
const MOST: usize = 100_000;

/// Concurrency limits of tenants, cached.
#[derive(Debug)]
pub struct Tenants {
    accounts: AccountsServiceClient<InnerChannel>,
    known: Mutex<BTreeMap<TenantId, Known>>,
    kept: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    /// The inner option: any number. The outer: the accounts service has not said it yet.
    limit: Option<Option<u32>>,
    asked: Instant,
}

impl Tenants {
    /// `time_scale` makes tests faster.
    pub fn new(accounts: InnerChannel, time_scale: f64) -> Self {
        let accounts = AccountsServiceClient::new(accounts);
        Self { accounts, known: Mutex::default(), kept: KEPT.mul_f64(time_scale) }
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<TenantId, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A tenant's limit as it was last heard of; the inner option: any number. None: never heard.
    pub fn limit(&self, tenant: TenantId) -> Option<Option<u32>> {
        self.known().get(&tenant)?.limit
    }

    /// Those of the tenants that have to be asked about.
    pub fn unknown(&self, tenants: impl IntoIterator<Item = TenantId>) -> Vec<TenantId> {
        let known = self.known();
        let mut unknown: Vec<TenantId> = tenants
            .into_iter()
            .filter(|tenant| known.get(tenant).is_none_or(|known| known.asked.elapsed() > self.kept))
            .collect();
        unknown.sort_unstable();
        unknown.dedup();
        unknown
    }

    /// Asks about tenants. When the accounts service does not answer, what was known stays, and it is asked again later.
    pub async fn learn(&self, tenants: &[TenantId]) {
        for page in tenants.chunks(PAGE) {
            let mut request =
                Request::new(GetLimitsRequest { tenant_ids: page.iter().map(TenantId::to_string).collect() });
            request.set_timeout(ASK);
            let answer = self.accounts.clone().get_limits(request).await;
            let asked = Instant::now();
            let mut known = self.known();
            if known.len() > MOST {
                known.clear();
            }
            let mut limits: BTreeMap<TenantId, Option<u32>> = BTreeMap::new();
            match &answer {
                Ok(answer) => limits.extend(
                    answer
                        .get_ref()
                        .limits
                        .iter()
                        .filter_map(|one| Some((one.tenant_id.parse().ok()?, one.concurrency_limit))),
                ),
                Err(status) => {
                    tracing::warn!(error = status.message(), "cannot read tenants' limits; using the last ones");
                }
            }
            for tenant in page {
                let before = known.get(tenant).and_then(|known| known.limit);
                // Whom the accounts service does not know has no limit.
                let limit = if answer.is_ok() { Some(limits.get(tenant).copied().flatten()) } else { before };
                known.insert(*tenant, Known { limit, asked });
            }
        }
    }
}
