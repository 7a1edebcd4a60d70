//! NATS goes away, or loses its store.

use std::collections::BTreeSet;
use std::path::Path;

use greenroom_contracts::streams;
use greenroom_domain::{MessageId, Timestamp};
use greenroom_embedded::{Binaries, Nats, scratch};

use crate::house::{House, command, event, micros};
use crate::until::until;

pub async fn own_nats() -> (Nats, tempfile::TempDir) {
    let folder = scratch().expect("a folder");
    let nats = Nats::start(&Binaries::find().expect("programs"), folder.path().join("nats"), None).await.expect("NATS");
    (nats, folder)
}

fn set(ids: &[MessageId]) -> BTreeSet<MessageId> {
    ids.iter().copied().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_jetstream_wiped_the_days_events_are_said_again_and_commands_are_not() {
    let (mut nats, _folder) = own_nats().await;
    let house = House::with(Some(nats.url()), || micros(Timestamp::now())).await;
    let (store, run) = house.store();
    let relay = run();
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(house.write(&store, event()).await.expect("written"));
        house.write(&store, command()).await.expect("written");
    }
    assert_eq!(set(&house.events(5).await), set(&ids));
    house.until_all_is_sent().await;
    let (before, _) = house.bus.end_of(&streams::events(&house.installation)).await.expect("NATS is there");

    nats.wipe().await.expect("wiped");
    // Written while it is away.
    ids.push(house.write(&store, event()).await.expect("Postgres is the truth"));
    nats.restart().await.expect("empty");
    let events = until("all events are there again", async || {
        Some(house.events(6).await).filter(|events| set(events).len() >= 6)
    })
    .await;
    assert_eq!(set(&events), set(&ids), "the same ids");
    let (after, _) = house.bus.end_of(&streams::events(&house.installation)).await.expect("NATS is there");
    assert_ne!(before, after);
    let (_, commands) =
        house.bus.end_of(&streams::commands(&house.installation, "queue")).await.expect("NATS is there");
    assert_eq!(commands, 0, "the sweeps say what is still wanted");

    // And life goes on.
    ids.push(house.write(&store, event()).await.expect("written"));
    house.write(&store, command()).await.expect("written");
    assert_eq!(set(&house.events(7).await), set(&ids));
    house.until_all_is_sent().await;
    relay.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_starts_after_the_wipe_says_the_day_again() {
    let (mut nats, _folder) = own_nats().await;
    let house = House::with(Some(nats.url()), || micros(Timestamp::now())).await;
    let (store, run) = house.store();
    let relay = run();
    // More than a page.
    let mut ids = Vec::new();
    for _ in 0..520 {
        ids.push(house.write(&store, event()).await.expect("written"));
    }
    house.until_all_is_sent().await;
    relay.end().await;
    nats.wipe().await.expect("wiped");
    nats.restart().await.expect("empty");
    let (_store, run) = house.store();
    let relay = run();
    assert_eq!(set(&house.events(520).await), set(&ids));
    relay.end().await;
}

/// The machine lost its power: JetStream comes back without what it had not yet written, and the relay starts anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_that_was_lost_before_the_start_is_said_again() {
    let house = House::new().await;
    let (store, run) = house.store();
    let relay = run();
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(house.write(&store, event()).await.expect("written"));
    }
    house.until_all_is_sent().await;
    relay.end().await;
    // As rows say that were marked before: two more events, at places that the stream does not have.
    for place in [5_i64, 6] {
        let (store, _never) = house.store();
        let id = house.write(&store, event()).await.expect("written");
        sqlx::query(
            "UPDATE house.outbox SET sequence = $2, epoch = (SELECT max(epoch) FROM house.outbox WHERE epoch > 0)
              WHERE id = $1",
        )
        .bind(id.uuid())
        .bind(place)
        .execute(&house.sql)
        .await
        .expect("marked");
        ids.push(id);
    }
    let (store, run) = house.store();
    let relay = run();
    ids.push(house.write(&store, event()).await.expect("written"));
    assert_eq!(set(&house.events(7).await), set(&ids));
    relay.end().await;
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copied");
        }
    }
}

/// JetStream comes back from an older copy of itself: the stream is the same one, its tail is gone, and new events take
/// the places of those that were lost before anybody has looked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_that_is_lost_under_a_running_relay_is_said_again() {
    let (mut nats, folder) = own_nats().await;
    let (live, old) = (folder.path().join("nats/store"), folder.path().join("old"));
    let house = House::with(Some(nats.url()), || micros(Timestamp::now())).await;
    let (store, run) = house.store();
    let relay = run();
    let mut ids = Vec::new();
    for n in 0..6 {
        ids.push(house.write(&store, event()).await.expect("written"));
        if n == 3 {
            house.until_all_is_sent().await;
            nats.stop().await.expect("stopped");
            copy(&live, &old);
            nats.restart().await.expect("the same");
        }
    }
    house.until_all_is_sent().await;
    assert_eq!(house.events(6).await.len(), 6);
    nats.kill().await.expect("killed");
    std::fs::remove_dir_all(&live).expect("removed");
    copy(&old, &live);
    for _ in 0..3 {
        ids.push(house.write(&store, event()).await.expect("Postgres is the truth"));
    }
    nats.restart().await.expect("older");
    let events =
        until("all events are there", async || Some(house.events(9).await).filter(|events| set(events).len() >= 9));
    assert_eq!(set(&events.await), set(&ids));
    relay.end().await;
}
