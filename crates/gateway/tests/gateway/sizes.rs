//! How large runners are: said by clients, and seen by operators.

use greenroom_contracts::BadField;
use greenroom_contracts::proto::v1::sizes_service_server::SizesService;
use greenroom_contracts::proto::v1::*;
use serde_json::{Value, json};
use tonic::{Code, Request, Response};

use crate::fakes::{Answer, Fakes};
use crate::house::{House, KEY, named, problem, send};

const OPERATOR: &str = "grk_an-operators";

#[tonic::async_trait]
impl SizesService for Fakes {
    async fn get_sizes(&self, _: Request<GetSizesRequest>) -> Answer<GetSizesResponse> {
        drop(self.enter()?);
        let set = BotResources { cpu_millis: 700, memory_mb: 1536, cpu_limit_millis: 1400, memory_limit_mb: 2304 };
        let teams = ProviderSize {
            provider: "microsoft-teams".to_owned(),
            set: Some(set),
            sample: 214,
            cpu_millis_p95: Some(490),
            peak_memory_bytes_p99: Some(1_543_503_872),
            recommended: Some(RecommendedSize { cpu_millis: 600, memory_mb: 1792 }),
            advice: vec!["MICROSOFT_TEAMS_MEMORY_MB=1792".to_owned()],
        };
        let zoom = ProviderSize { provider: "zoom".to_owned(), ..ProviderSize::default() };
        Ok(Response::new(GetSizesResponse { providers: vec![teams, zoom], right_sizing: true, sample_needed: 20 }))
    }
}

fn body(resources: Value) -> Value {
    json!({"meeting": {"provider": "web", "url": "https://example.com/room"}, "resources": resources})
}

#[tokio::test]
async fn a_bot_says_how_large_it_is_to_be() {
    let house = House::without_bus().await;
    let asked = json!({"cpuMillis": 600, "memoryMb": 1500, "cpuLimitMillis": 900, "memoryLimitMb": 2000});
    assert_eq!(send(house.post("/v1/bots").json(&body(asked))).await.status(), 201);
    let created = house.fakes.kept().created.pop().and_then(|(_, create)| create.settings).expect("a bot");
    let expected = Resources {
        cpu_millis: Some(600),
        memory_mb: Some(1500),
        cpu_limit_millis: Some(900),
        memory_limit_mb: Some(2000),
    };
    assert_eq!(created.resources, Some(expected));
    // The bounds are the scheduler's.
    let bad = json!({"cpuMillis": -1, "memoryMb": 512, "memoryLimitMb": 4_294_967_296_u64, "gpu": 1});
    let (status, document) = problem(house.post("/v1/bots").json(&body(bad))).await;
    let mut fields = named(&document);
    fields.sort_unstable();
    assert_eq!((status, fields), (422, vec!["resources.cpuMillis", "resources.gpu", "resources.memoryLimitMb"]));
    house.fakes.fail_as(1, BadField::new("settings.resources.memory_mb", "must not be more than 8192").into());
    let (_, document) = problem(house.post("/v1/bots").json(&body(json!({"memoryMb": 9000})))).await;
    assert_eq!(named(&document), ["resources.memoryMb"]);
    assert!(document.to_string().contains("must not be more than 8192"), "with the bound: {document}");
    // An edit names what it changes.
    let edit = house.http.patch(house.url("/v1/bots/0198c0de-0000-7000-8000-000000000001")).bearer_auth(KEY);
    assert_eq!(send(edit.json(&json!({"resources": {"memoryMb": 2048}}))).await.status(), 200);
    let update = house.fakes.kept().updated.pop().map(|(_, update)| update).expect("an edit");
    assert_eq!(update.update_mask.expect("a mask").paths, ["resources.memory_mb"]);
}

#[tokio::test]
async fn operators_see_what_is_set_and_what_is_recommended() {
    let house = House::without_bus().await;
    assert_eq!(problem(house.get("/v1/pool/sizes")).await.0, 403);
    assert_eq!(problem(house.http.get(house.url("/v1/pool/sizes"))).await.0, 401);
    house.add_operator(OPERATOR);
    // Asked again while nobody is there.
    house.fakes.fail(1, Code::Unavailable, "restarting");
    let response = send(house.http.get(house.url("/v1/pool/sizes")).bearer_auth(OPERATOR)).await;
    assert_eq!(response.status(), 200);
    let sizes: Value = response.json().await.expect("JSON");
    assert_eq!(
        sizes,
        json!({
            "rightSizing": true,
            "sampleNeeded": 20,
            "providers": [
                {
                    "provider": "microsoft-teams",
                    "set": {"cpuMillis": 700, "memoryMb": 1536, "cpuLimitMillis": 1400, "memoryLimitMb": 2304},
                    "sample": 214,
                    "cpuMillisP95": 490,
                    "peakMemoryBytesP99": 1_543_503_872,
                    "recommended": {"cpuMillis": 600, "memoryMb": 1792},
                    "advice": ["MICROSOFT_TEAMS_MEMORY_MB=1792"],
                },
                {"provider": "zoom", "sample": 0, "advice": []},
            ],
        })
    );
}
