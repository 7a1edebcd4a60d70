//! The order of platforms, switched while bots are there.

use greenroom_contracts::messages::Enqueue;
use greenroom_contracts::proto::v1::{
    BotSettings, ClearPlatformOrderRequest, GetPlatformOrderRequest, PlatformOrder, SetPlatformOrderRequest,
};
use greenroom_domain::PlatformName;
use std::time::Duration;
use tonic::{Code, Status};

use crate::heard::until;
use crate::house::{House, id_of, new_bot};

impl House {
    async fn set_order(&self, platforms: &[&str]) -> Result<PlatformOrder, Status> {
        let platforms = platforms.iter().map(|name| (*name).to_owned()).collect();
        let request = SetPlatformOrderRequest { platforms };
        self.orders.clone().set_platform_order(request).await.map(tonic::Response::into_inner)
    }

    /// The platforms for which a bot asks for a slot first.
    async fn asked(&self, bot: &greenroom_contracts::proto::v1::Bot) -> Vec<String> {
        let id = id_of(bot).uuid();
        let said = until("it asks for a slot", async || self.heard.about::<Enqueue>(id).into_iter().next()).await;
        said.platforms.iter().map(PlatformName::to_string).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bot_without_platforms_follows_the_order_until_due() {
    let house = House::new().await;
    let (before, later) = (house.create(new_bot()).await, house.create_later(Duration::from_secs(3600)).await);
    let chosen = BotSettings { platforms: vec!["one".to_owned()], ..new_bot() };
    assert_eq!(house.asked(&before).await, ["one", "two"]);
    assert!(later.platforms.is_empty(), "it is not known yet");

    let order = house.set_order(&["two", "one"]).await.expect("set");
    assert_eq!((order.platforms, order.by_operator), (vec!["two".to_owned(), "one".to_owned()], true));
    assert_eq!(house.asked(&house.create(new_bot()).await).await, ["two", "one"]);
    assert_eq!(house.asked(&house.create(chosen).await).await, ["one"], "its own word");
    house.scheduler.clone().deploy_bot(house.request(&later)).await.expect("deployed early");
    assert_eq!(house.asked(&later).await, ["two", "one"], "made before, due after");
    assert_eq!(house.get(&later).await.platforms, ["two", "one"]);
    assert_eq!(house.get(&before).await.platforms, ["one", "two"], "it was due");

    // One alone is an order as well, and none is that of the settings.
    house.set_order(&["two"]).await.expect("set");
    assert_eq!(house.asked(&house.create(new_bot()).await).await, ["two"]);
    assert_eq!(house.set_order(&[]).await.expect_err("none").code(), Code::InvalidArgument);
    let order =
        house.orders.clone().clear_platform_order(ClearPlatformOrderRequest {}).await.expect("cleared").into_inner();
    assert_eq!((order.platforms, order.by_operator), (vec!["one".to_owned(), "two".to_owned()], false));
    assert_eq!(house.asked(&house.create(new_bot()).await).await, ["one", "two"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_hear_of_an_order_and_a_bad_one_is_refused() {
    let house = House::fast().await;
    let (replica, _) = house.replica().await;
    for (bad, field) in [(&["three"][..], "platforms[0]"), (&["one", "one"], "platforms[1]")] {
        let status = house.set_order(bad).await.expect_err(field);
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().starts_with(field), "{}", status.message());
    }
    house.set_order(&["two"]).await.expect("set");
    until("the other replica follows it", async || {
        let request = house.creation(house.tenant, new_bot(), "");
        let bot = replica.clone().create_bot(request).await.expect("made").into_inner();
        (bot.platforms == ["two"]).then_some(())
    })
    .await;
    let seen = house.orders.clone().get_platform_order(GetPlatformOrderRequest {}).await.expect("answered");
    assert_eq!(seen.into_inner().setting, ["one", "two"]);
}
