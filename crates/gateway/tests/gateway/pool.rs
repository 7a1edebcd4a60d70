//! Operators, over HTTP.

use greenroom_contracts::proto::internal::v1::Caller;
use greenroom_contracts::proto::v1::pool_operator_service_client::PoolOperatorServiceClient;
use greenroom_contracts::proto::v1::pool_operator_service_server::PoolOperatorService;
use greenroom_contracts::proto::v1::*;
use greenroom_contracts::{BadField, operator};
use greenroom_domain::TenantId;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tonic::{Code, Request};

use crate::fakes::{Answer, Fakes};
use crate::house::{House, KEY, named, problem, send};

const OPERATOR: &str = "grk_an-operators";

fn platform() -> PlatformStats {
    PlatformStats {
        name: "k8s-eu".to_owned(),
        kind: "k8s".to_owned(),
        slots: Some(SlotCounts { total: 3, busy: 2, cordoned: 1, ..SlotCounts::default() }),
        limit: Some(PoolLimit {
            value: 2,
            from: LimitOrigin::Operator.into(),
            preset: None,
            setting: Some(80),
            operator: Some(2),
        }),
        draining: true,
        pooled: true,
        pools: vec![StandingPool {
            provider: "zoom".to_owned(),
            target: 8,
            ready: 3,
            why: "grows from 3 to 8".to_owned(),
            changes: vec![PoolChange { at: None, change: -2, target: 3, why: "shrinks from 5 to 3".to_owned() }],
            ..StandingPool::default()
        }],
        providers: vec![ProviderStats {
            provider: "zoom".to_owned(),
            breaker: Some(PoolBreaker { state: BreakerState::Open.into(), failures: 5, probe_at: None }),
            ..ProviderStats::default()
        }],
        ..PlatformStats::default()
    }
}

impl Fakes {
    fn heard<T>(&self, what: String, answer: T) -> Answer<T> {
        self.kept().pool.push(what);
        drop(self.enter()?);
        Ok(tonic::Response::new(answer))
    }

    fn slot(&self, action: &str, by: String, slot: String) -> Answer<PoolSlot> {
        let what = format!("{action} {slot} by {by}");
        self.heard(what, PoolSlot { name: slot, state: SlotState::Idle.into(), ..PoolSlot::default() })
    }
}

/// The key of who calls, as the service behind the gateway sees it.
fn by<T>(request: &Request<T>) -> String {
    operator(request).expect("an operator").key_id
}

#[tonic::async_trait]
impl PoolOperatorService for Fakes {
    async fn get_pool(&self, request: Request<GetPoolRequest>) -> Answer<PoolStats> {
        let stats = PoolStats { platforms: vec![platform()], limit: Some(9), ..PoolStats::default() };
        self.heard(format!("get by {}", by(&request)), stats)
    }

    async fn get_platform(&self, request: Request<GetPlatformRequest>) -> Answer<PlatformStats> {
        self.heard(format!("get {}", request.into_inner().platform), platform())
    }

    async fn update_platform(&self, request: Request<UpdatePlatformRequest>) -> Answer<PlatformStats> {
        let by = by(&request);
        let UpdatePlatformRequest { platform: name, settings, update_mask } = request.into_inner();
        let (settings, mut paths) = (settings.expect("settings"), update_mask.expect("a mask").paths);
        paths.sort_unstable();
        let PlatformSettings { limit, permits, draining } = settings;
        self.heard(format!("change {name} {paths:?} {limit:?} {permits:?} {draining} by {by}"), platform())
    }

    async fn set_provider_limit(&self, request: Request<SetProviderLimitRequest>) -> Answer<PlatformStats> {
        let by = by(&request);
        let SetProviderLimitRequest { platform: name, provider, limit } = request.into_inner();
        self.heard(format!("limit {name} {provider} {limit:?} by {by}"), platform())
    }

    async fn clear_provider_limit(&self, request: Request<ClearProviderLimitRequest>) -> Answer<PlatformStats> {
        let by = by(&request);
        let ClearProviderLimitRequest { platform: name, provider } = request.into_inner();
        self.heard(format!("clear {name} {provider} by {by}"), platform())
    }

    async fn list_slots(&self, request: Request<ListSlotsRequest>) -> Answer<ListSlotsResponse> {
        let state = request.get_ref().state().word();
        let ListSlotsRequest { platform, page_token, page_size, .. } = request.into_inner();
        let slot = PoolSlot {
            name: "k8s-eu-007".to_owned(),
            runner: Some(RunnerRef { kind: "bot".to_owned(), id: "b".to_owned(), attempt: 2 }),
            generation: 3,
            uses: 12,
            ..PoolSlot::default()
        };
        let page = ListSlotsResponse { slots: vec![slot], next_page_token: "k8s-eu-007".to_owned() };
        self.heard(format!("slots {platform} {state} {page_token} {page_size:?}"), page)
    }

    async fn cordon_slot(&self, request: Request<CordonSlotRequest>) -> Answer<PoolSlot> {
        self.slot("cordon", by(&request), request.into_inner().slot)
    }

    async fn uncordon_slot(&self, request: Request<UncordonSlotRequest>) -> Answer<PoolSlot> {
        self.slot("uncordon", by(&request), request.into_inner().slot)
    }

    async fn reset_slot(&self, request: Request<ResetSlotRequest>) -> Answer<PoolSlot> {
        self.slot("reset", by(&request), request.into_inner().slot)
    }

    async fn force_free_slot(&self, request: Request<ForceFreeSlotRequest>) -> Answer<PoolSlot> {
        self.slot("force-free", by(&request), request.into_inner().slot)
    }

    async fn get_history(&self, request: Request<GetHistoryRequest>) -> Answer<GetHistoryResponse> {
        let points = vec![HistoryPoint { at: None, used: 3, limit: 5 }];
        self.heard(format!("history {}", request.into_inner().platform), GetHistoryResponse { points })
    }
}

impl House {
    fn operator(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, self.url(path)).bearer_auth(OPERATOR)
    }
}

async fn house() -> House {
    let house = House::without_bus().await;
    let tenant_id = TenantId::generate().to_string();
    let caller = Caller { tenant_id, key_id: "op".to_owned(), operator: true, ..Caller::default() };
    house.fakes.kept().callers.insert(Sha256::digest(OPERATOR.as_bytes()).to_vec(), caller);
    house
}

async fn fine(request: RequestBuilder) -> Value {
    let response = send(request).await;
    assert_eq!(response.status(), 200);
    response.json().await.expect("JSON")
}

#[tokio::test]
async fn the_pool_is_for_operators() {
    let house = house().await;
    for (method, path) in [
        (Method::GET, "/v1/pool"),
        (Method::GET, "/v1/pool/platforms/k8s-eu"),
        (Method::PATCH, "/v1/pool/platforms/k8s-eu"),
        (Method::PUT, "/v1/pool/platforms/k8s-eu/providers/zoom/limit"),
        (Method::DELETE, "/v1/pool/platforms/k8s-eu/providers/zoom/limit"),
        (Method::GET, "/v1/pool/slots"),
        (Method::POST, "/v1/pool/slots/k8s-eu-007/cordon"),
        (Method::GET, "/v1/pool/history"),
    ] {
        let request = house.http.request(method.clone(), house.url(path));
        let (status, document) = problem(request.try_clone().expect("no body").bearer_auth(KEY)).await;
        assert_eq!((status, document["type"].as_str()), (403, Some("urn:greenroom:problem:forbidden")), "{path}");
        assert_eq!(problem(request).await.0, 401, "{path}");
    }
    assert!(house.fakes.kept().pool.is_empty(), "nobody else was asked");
}

#[tokio::test]
async fn an_operator_sees_and_changes_the_pool() {
    let house = house().await;
    let pool = fine(house.operator(Method::GET, "/v1/pool")).await;
    assert_eq!(pool["limit"], 9);
    let platform = &pool["platforms"][0];
    assert_eq!(platform["limit"], json!({"value": 2, "from": "operator", "setting": 80, "operator": 2}));
    assert_eq!((&platform["slots"]["busy"], &platform["draining"]), (&json!(2), &json!(true)));
    assert_eq!(platform["providers"][0]["breaker"], json!({"state": "open", "failures": 5}));

    let pool = &platform["pools"][0];
    assert_eq!((&pool["target"], &pool["ready"], &pool["why"]), (&json!(8), &json!(3), &json!("grows from 3 to 8")));
    assert_eq!(pool["changes"], json!([{"change": -2, "target": 3, "why": "shrinks from 5 to 3"}]));

    let one = "/v1/pool/platforms/k8s-eu";
    let provider = format!("{one}/providers/zoom/limit");
    fine(house.operator(Method::GET, one)).await;
    fine(house.operator(Method::PATCH, one).json(&json!({"limit": 5, "permits": null}))).await;
    fine(house.operator(Method::PATCH, one).json(&json!({"draining": true}))).await;
    fine(house.operator(Method::PUT, &provider).json(&json!({"limit": 1}))).await;
    fine(house.operator(Method::DELETE, &provider)).await;
    let page =
        fine(house.operator(Method::GET, "/v1/pool/slots?platform=k8s-eu&state=busy&pageToken=k8s-eu-001")).await;
    assert_eq!((&page["nextPageToken"], &page["slots"][0]["runner"]["attempt"]), (&json!("k8s-eu-007"), &json!(2)));
    let slot = &page["slots"][0];
    assert_eq!((&slot["generation"], &slot["uses"], slot.get("lastError")), (&json!(3), &json!(12), None));
    for action in ["cordon", "uncordon", "reset", "force-free"] {
        fine(house.operator(Method::POST, &format!("/v1/pool/slots/k8s-eu-007/{action}"))).await;
    }
    let history = fine(house.operator(Method::GET, "/v1/pool/history?platform=k8s-eu")).await;
    assert_eq!(history["points"], json!([{"used": 3, "limit": 5}]));
    assert_eq!(
        house.fakes.kept().pool,
        [
            "get by op",
            "get k8s-eu",
            r#"change k8s-eu ["limit", "permits"] Some(5) None false by op"#,
            r#"change k8s-eu ["draining"] None None true by op"#,
            "limit k8s-eu zoom Some(1) by op",
            "clear k8s-eu zoom by op",
            "slots k8s-eu busy k8s-eu-001 None",
            "cordon k8s-eu-007 by op",
            "uncordon k8s-eu-007 by op",
            "reset k8s-eu-007 by op",
            "force-free k8s-eu-007 by op",
            "history k8s-eu",
        ]
    );
}

#[tokio::test]
async fn refused_pool_changes_name_the_field() {
    let house = house().await;
    let one = "/v1/pool/platforms/k8s-eu";
    let bad = json!({"limit": "many", "draining": 3, "colour": "red"});
    let (status, document) = problem(house.operator(Method::PATCH, one).json(&bad)).await;
    assert_eq!((status, named(&document)), (422, vec!["colour", "draining", "limit"]));
    let limit = house.operator(Method::PUT, &format!("{one}/providers/zoom/limit")).json(&json!({"limit": "one"}));
    assert_eq!(named(&problem(limit).await.1), ["limit"]);
    assert_eq!(problem(house.operator(Method::POST, "/v1/pool/slots/k8s-eu-007/paint")).await.0, 404);
    assert!(house.fakes.kept().pool.is_empty());

    let reset = || house.operator(Method::POST, "/v1/pool/slots/k8s-eu-007/reset");
    house.fakes.fail(1, Code::FailedPrecondition, "k8s-eu-007: its runner runs");
    let (status, document) = problem(reset()).await;
    assert_eq!((status, document["detail"].as_str()), (409, Some("k8s-eu-007: its runner runs")));
    house.fakes.fail_as(1, BadField::new("provider", "must not be empty").into());
    let limit = house.operator(Method::PUT, &format!("{one}/providers/x/limit")).json(&json!({"limit": 1}));
    assert_eq!(named(&problem(limit).await.1), ["provider"]);
    // A reset is asked once; the rest again.
    house.fakes.kept().pool.clear();
    house.fakes.fail(1, Code::Unavailable, "restarting");
    assert_eq!(problem(reset()).await.0, 503);
    house.fakes.fail(1, Code::Unavailable, "restarting");
    fine(house.operator(Method::GET, one)).await;
    assert_eq!(house.fakes.kept().pool, ["reset k8s-eu-007 by op", "get k8s-eu", "get k8s-eu"]);
    // A field of the body is called as in the body.
    house.fakes.fail_as(1, BadField::new("settings.limit", "must not be more than 100000").into());
    let (status, document) = problem(house.operator(Method::PATCH, one).json(&json!({"limit": 200_000}))).await;
    assert_eq!((status, named(&document)), (422, vec!["limit"]));
}

#[tokio::test]
async fn operators_call_the_pool_over_grpc() {
    let house = house().await;
    let channel = tonic::transport::Endpoint::from_shared(house.url("")).expect("an address").connect_lazy();
    let mut pool = PoolOperatorServiceClient::new(channel);
    let call = |key: &str| {
        let mut request = Request::new(GetPlatformRequest { platform: "k8s-eu".to_owned() });
        request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().expect("ASCII"));
        request
    };
    assert_eq!(pool.get_platform(call(OPERATOR)).await.expect("stats").into_inner(), platform());
    assert_eq!(pool.get_platform(call(KEY)).await.expect_err("a tenant").code(), Code::PermissionDenied);
    let nobody = Request::new(GetPlatformRequest::default());
    assert_eq!(pool.get_platform(nobody).await.expect_err("nobody").code(), Code::Unauthenticated);
    house.fakes.fail(1, Code::NotFound, "there is no such platform");
    assert_eq!(pool.get_platform(call(OPERATOR)).await.expect_err("unknown").message(), "there is no such platform");
    assert_eq!(house.fakes.kept().pool, ["get k8s-eu", "get k8s-eu"]);
}
