//! Pages that were loaded anew, and time of which a recording has nothing.

use greenroom_contracts::proto::v1::PutPartRequest;
use greenroom_domain::bot::BotState;

use crate::house::{House, Said};
use crate::sound;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_stream_is_reported() {
    let house = House::new().await;
    let bot = house.bot();
    // The page's process was stopped from second 4 on: the stream goes on 15 seconds later.
    house.put(&bot, 1, 0, &sound::with_a_hole(4, 15, 4)).await.expect("stored");
    house.over(&bot, BotState::Done, 1).await;
    house.gone(&bot, 1).await;
    let Said::Ready { ready, .. } = house.said(&bot, 1).await else { panic!("it is ready") };
    assert!((22_000..24_000).contains(&ready.duration_ms), "{ready:?}");
    let detail = house.get(&bot).await.detail;
    assert_eq!(detail, "about 15 s in it hold no sound, because the recorder stood still");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_was_loaded_anew_is_joined_to_what_came_before() {
    let house = House::new().await;
    let bot = house.bot();
    let (first, second) = (sound::cut(&sound::webm(6), 3), sound::cut(&sound::webm(4), 2));
    for (index, part) in first.iter().chain(&second).enumerate() {
        house.put(&bot, 1, index, part).await.expect("stored");
    }
    house.over(&bot, BotState::Done, 1).await;
    house.gone(&bot, 1).await;
    let Said::Ready { ready, .. } = house.said(&bot, 1).await else { panic!("it is ready") };
    assert!((9_500..10_700).contains(&ready.duration_ms), "6 and 4 seconds: {ready:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unrecorded_time_between_streams_is_a_gap() {
    let house = House::new().await;
    let bot = house.bot();
    // Six seconds; then the page was loaded anew, and from second 30 on it was recorded again.
    let (first, second) = (sound::cut(&sound::webm(6), 3), sound::cut(&sound::webm(4), 2));
    let offsets = [0, 2_000, 4_000, 30_000, 32_000];
    for (index, (part, offset_ms)) in first.iter().chain(&second).zip(offsets).enumerate() {
        let request = PutPartRequest { offset_ms, ..house.part(&bot, 1, index, part) };
        house.put_request(&bot, request).await.expect("stored");
    }
    house.over(&bot, BotState::Done, 1).await;
    house.gone(&bot, 1).await;
    let Said::Ready { ready, .. } = house.said(&bot, 1).await else { panic!("it is ready") };
    assert!((9_500..10_700).contains(&ready.duration_ms), "6 and 4 seconds: {ready:?}");
    let gaps = house.get(&bot).await.gaps;
    let [gap] = gaps.as_slice() else { panic!("one gap: {gaps:?}") };
    assert!((5_700..6_300).contains(&gap.at_ms) && (23_500..24_500).contains(&gap.missing_ms), "{gap:?}");
}
