//! Consumers go on, whatever happens to what they consume from.

use greenroom_embedded::{Binaries, Nats, scratch};

use crate::house::House;
use crate::until::until;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_stream_was_deleted() {
    let house = House::new().await;
    let _consuming = house.consume(house.subscription(), "one");
    house.say(1).await;
    house.until_done([1]).await;
    house.jetstream.delete_stream(house.stream().name).await.expect("deleted");
    house.say(2).await;
    house.until_done([2]).await;
    house.until_empty().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_consumer_was_deleted() {
    let house = House::new().await;
    let _consuming = house.consume(house.subscription(), "one");
    house.say(1).await;
    house.until_done([1]).await;
    house.until_empty().await;
    let stream = house.jetstream.get_stream(house.stream().name).await.expect("it is there");
    stream.delete_consumer("queue").await.expect("deleted");
    house.say(2).await;
    house.until_done([2]).await;
    house.until_empty().await;
    assert_eq!(house.work.done(), [1, 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_nats_was_killed_and_its_store_wiped() {
    let folder = scratch().expect("a folder");
    let mut nats =
        Nats::start(&Binaries::find().expect("programs"), folder.path().join("nats"), None).await.expect("NATS");
    let house = House::at(&nats.url(), None).await;
    let (_batches, _each) = (
        house.consume(house.subscription(), "batches"),
        house.consume_each(
            greenroom_bus::Subscription {
                consumer: "each".to_owned(),
                stream: greenroom_contracts::streams::commands(&house.installation, "pool-manager"),
                subjects: vec![format!("{}.cmd.pool-manager.*", house.installation)],
                ..house.subscription()
            },
            "each",
            std::time::Duration::from_secs(1),
        ),
    );
    house.say(1).await;
    house.until_done([1]).await;
    // Killed and back with its store: what was acknowledged does not come again, and what was not does.
    nats.kill().await.expect("killed");
    assert!(house.bus.say(house.envelope(crate::house::withdraw(2))).await.is_err(), "said to nobody, it is not said");
    nats.restart().await.expect("back");
    until("it is said", async || house.bus.say(house.envelope(crate::house::withdraw(3))).await.ok()).await;
    house.until_done([3]).await;

    nats.wipe().await.expect("wiped");
    nats.restart().await.expect("empty");
    until("it is said", async || house.bus.say(house.envelope(crate::house::withdraw(4))).await.ok()).await;
    house.until_done([4]).await;
    house.until_empty().await;
    // The other kind of consumer has made its stream and itself again as well, without anybody saying anything.
    let name = greenroom_contracts::streams::commands(&house.installation, "pool-manager").name;
    until("it listens again", async || {
        house
            .jetstream
            .get_consumer_from_stream::<async_nats::jetstream::consumer::pull::Config, _, _>("each", &name)
            .await
            .ok()
    })
    .await;
}

fn signal(name: &str, nats: &Nats) {
    let pid = nats.pid().expect("it runs").to_string();
    let sent = std::process::Command::new("kill").args([&format!("-{name}"), &pid]).status().expect("kill");
    assert!(sent.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_acknowledges_nothing_does_not_work_though_it_is_connected() {
    let folder = scratch().expect("a folder");
    let nats = Nats::start(&Binaries::find().expect("programs"), folder.path().join("nats"), None).await.expect("NATS");
    let house = House::at(&nats.url(), None).await;
    let stop = tokio_util::sync::CancellationToken::new();
    let watching = tokio::spawn({
        let (bus, stop) = (house.bus.clone(), stop.clone());
        async move { bus.watch(stop).await }
    });
    // Nobody publishes anything but the watch.
    until("it works", async || house.bus.works().then_some(())).await;
    house.say(1).await;
    assert_eq!(house.bus.refusing(), []);

    // It holds its connections, and answers nothing.
    signal("STOP", &nats);
    let connected = house.bus.is_connected();
    let said = house.bus.say(house.envelope(crate::house::withdraw(2))).await;
    assert!(connected && said.is_err(), "{said:?}");
    let stream = house.stream().name;
    let refusing = house.bus.refusing();
    assert!(refusing.iter().any(|refusing| refusing.stream == stream), "{refusing:?}");
    until("it does not work", async || (!house.bus.works()).then_some(())).await;

    signal("CONT", &nats);
    until("it works again", async || (house.bus.works() && house.bus.refusing().is_empty()).then_some(())).await;
    stop.cancel();
    watching.await.expect("it ends");
}
