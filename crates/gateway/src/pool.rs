//! What operators can ask of the pool.

use std::time::Duration;

use greenroom_contracts::proto::v1::{
    ChangePlatformRequest, ChangeSlotRequest, GetHistoryRequest, GetHistoryResponse, GetPlatformOrderRequest,
    GetPoolRequest, GetSizesRequest, GetSizesResponse, ListSlotsRequest, ListSlotsResponse, PlatformOrder,
    PlatformStats, PoolSlot, PoolStats, SetPlatformOrderRequest, SetProviderLimitRequest,
};
use tonic::{Request, Status};

use crate::keys::Client;
use crate::upstream::{Upstream, outward};

/// Longest time a call may take: a slot's platform is asked for five seconds.
const CALL: Duration = Duration::from_secs(10);

/// An operator who has shown a good key.
#[derive(Debug, Clone)]
pub(crate) struct Operator {
    /// For the log of who is asked.
    pub key: String,
}

impl Operator {
    /// What concerns everybody is for operators.
    pub fn new(client: &Client) -> Result<Self, Status> {
        if client.caller.operator {
            Ok(Self { key: client.caller.key_id.clone() })
        } else {
            Err(Status::permission_denied("this is for operators' keys"))
        }
    }
}

/// Asks the pool manager in an operator's name.
#[derive(Debug, Clone)]
pub(crate) struct Pool {
    pub upstream: Upstream,
}

/// A call that may be made again.
macro_rules! operators {
    ($self:ident . $method:ident ($request:expr)) => {{
        let (request, upstream) = ($request, &$self.upstream);
        upstream.ask(concat!("PoolOperatorService.", stringify!($method)), move || {
            let mut operators = upstream.pool_operators.clone();
            let request = within(request.clone());
            async move { operators.$method(request).await }
        })
    }};
}

impl Pool {
    pub async fn stats(&self) -> Result<PoolStats, Status> {
        operators!(self.get_pool(GetPoolRequest::default())).await
    }

    pub async fn platform(&self, name: &str) -> Result<PlatformStats, Status> {
        let pool = operators!(self.get_pool(GetPoolRequest { platform: name.to_owned() })).await?;
        pool.platforms.into_iter().next().ok_or_else(|| Status::not_found("there is no such platform"))
    }

    pub async fn change_platform(
        &self,
        operator: Operator,
        change: ChangePlatformRequest,
    ) -> Result<PlatformStats, Status> {
        operators!(self.change_platform(ChangePlatformRequest { by: operator.key, ..change })).await
    }

    pub async fn limit_provider(
        &self,
        operator: Operator,
        limit: SetProviderLimitRequest,
    ) -> Result<PlatformStats, Status> {
        operators!(self.set_provider_limit(SetProviderLimitRequest { by: operator.key, ..limit })).await
    }

    pub async fn slots(&self, list: ListSlotsRequest) -> Result<ListSlotsResponse, Status> {
        operators!(self.list_slots(list)).await
    }

    /// Asked once: the second time a slot that was reset is one that nobody has.
    pub async fn change_slot(&self, operator: Operator, change: ChangeSlotRequest) -> Result<PoolSlot, Status> {
        let request = within(ChangeSlotRequest { by: operator.key, ..change });
        let answer = self.upstream.pool_operators.clone().change_slot(request).await;
        answer.map(tonic::Response::into_inner).map_err(|status| outward("PoolOperatorService.change_slot", &status))
    }

    pub async fn history(&self, platform: &str) -> Result<GetHistoryResponse, Status> {
        operators!(self.get_history(GetHistoryRequest { platform: platform.to_owned() })).await
    }

    /// Which platforms bots try that name none.
    pub async fn order(&self) -> Result<PlatformOrder, Status> {
        let answer = self.upstream.ask("OrderService.GetPlatformOrder", || {
            let mut order = self.upstream.order.clone();
            async move { order.get_platform_order(within(GetPlatformOrderRequest {})).await }
        });
        answer.await
    }

    /// Empty: as the settings say.
    pub async fn set_order(&self, operator: Operator, platforms: Vec<String>) -> Result<PlatformOrder, Status> {
        let request = SetPlatformOrderRequest { platforms, by: operator.key };
        let answer = self.upstream.ask("OrderService.SetPlatformOrder", || {
            let (mut order, request) = (self.upstream.order.clone(), within(request.clone()));
            async move { order.set_platform_order(request).await }
        });
        answer.await
    }

    /// How large runners are, and how large they ought to be: whoever owns intents knows.
    pub async fn sizes(&self) -> Result<GetSizesResponse, Status> {
        let answer = self.upstream.ask("SizesService.GetSizes", || {
            let mut sizes = self.upstream.sizes.clone();
            async move { sizes.get_sizes(within(GetSizesRequest {})).await }
        });
        answer.await
    }
}

fn within<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL);
    request
}
