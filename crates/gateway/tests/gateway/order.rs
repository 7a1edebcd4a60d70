//! The order of platforms: for operators.

use greenroom_contracts::operator;
use greenroom_contracts::proto::v1::order_service_server::OrderService;
use greenroom_contracts::proto::v1::{
    ClearPlatformOrderRequest, GetPlatformOrderRequest, PlatformOrder, SetPlatformOrderRequest,
};
use serde_json::{Value, json};
use tonic::{Request, Response};

use crate::fakes::{Answer, Fakes};
use crate::house::{House, named, problem, send};

const OPERATOR: &str = "grk_an-operators";

fn order(platforms: &[String]) -> PlatformOrder {
    let setting = ["docker", "aws"].map(str::to_owned).to_vec();
    let by_operator = !platforms.is_empty();
    PlatformOrder { platforms: if by_operator { platforms.to_vec() } else { setting.clone() }, setting, by_operator }
}

#[tonic::async_trait]
impl OrderService for Fakes {
    async fn get_platform_order(&self, _: Request<GetPlatformOrderRequest>) -> Answer<PlatformOrder> {
        drop(self.enter()?);
        Ok(Response::new(order(&[])))
    }

    async fn set_platform_order(&self, request: Request<SetPlatformOrderRequest>) -> Answer<PlatformOrder> {
        let by = operator(&request)?.key_id;
        let mut kept = self.enter()?;
        let platforms = request.into_inner().platforms;
        kept.pool.push(format!("order [{}] by {by}", platforms.join(",")));
        Ok(Response::new(order(&platforms)))
    }

    async fn clear_platform_order(&self, request: Request<ClearPlatformOrderRequest>) -> Answer<PlatformOrder> {
        let by = operator(&request)?.key_id;
        self.enter()?.pool.push(format!("clear by {by}"));
        Ok(Response::new(order(&[])))
    }
}

#[tokio::test]
async fn operators_switch_the_order_of_platforms() {
    let house = House::without_bus().await;
    assert_eq!(problem(house.get("/v1/pool/order")).await.0, 403);
    house.add_operator(OPERATOR);
    let url = house.url("/v1/pool/order");
    let answered = async |request: reqwest::RequestBuilder| {
        let response = send(request.bearer_auth(OPERATOR)).await;
        assert_eq!(response.status(), 200);
        response.json::<Value>().await.expect("JSON")
    };
    let settings = json!({"platforms": ["docker", "aws"], "setting": ["docker", "aws"], "byOperator": false});
    assert_eq!(answered(house.http.get(&url)).await, settings);
    let set = answered(house.http.put(&url).json(&json!({"platforms": ["aws", "docker"]}))).await;
    assert_eq!((&set["platforms"], &set["byOperator"]), (&json!(["aws", "docker"]), &json!(true)));
    assert_eq!(answered(house.http.delete(&url)).await, settings);
    assert_eq!(house.fakes.kept().pool, ["order [aws,docker] by operators-key", "clear by operators-key"]);

    for (bad, field, detail) in [
        (json!({"platforms": "aws"}), "platforms", "platforms must be an array"),
        (json!({"platforms": [7]}), "platforms[0]", "platforms[0] must be a string"),
        (json!({"platforms": ["aws"], "colour": 1}), "colour", "colour there is no such field"),
        (json!([["aws"]]), "(body)", "(body) must be a JSON object"),
    ] {
        let (status, document) = problem(house.http.put(&url).bearer_auth(OPERATOR).json(&bad)).await;
        assert_eq!((status, named(&document)), (422, vec![field]), "{document}");
        assert_eq!(document["detail"], detail);
    }
}
