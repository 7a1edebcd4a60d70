//! How a bot ends when its user says so, and what becomes of its runner; and refusals, which end an attempt alone.

use greenroom_contracts::messages::{Enqueue, Release, TimedOut, Withdraw, Withdrawn};
use greenroom_contracts::proto::v1::{Bot, BotSettings};
use greenroom_contracts::timestamp;
use greenroom_domain::bot::BotState;
use greenroom_domain::{PlatformName, Reason, Timestamp};

use crate::heard::until;
use crate::house::{House, id_of, new_bot, runner_of};

#[derive(Debug, PartialEq, Eq)]
enum Said {
    Nothing,
    Withdraw,
    Release,
}

impl House {
    /// What an attempt wishes for.
    async fn wish(&self, bot: &Bot, attempt: u32) -> Enqueue {
        let runner = runner_of(bot, attempt);
        until("it is enqueued", async || {
            self.heard.about::<Enqueue>(runner.id).into_iter().find(|wish| wish.runner == runner)
        })
        .await
    }

    /// What was said about a bot's runner so far.
    fn said(&self, bot: &Bot) -> Said {
        let key = id_of(bot).uuid();
        match (self.heard.about::<Withdraw>(key).len(), self.heard.about::<Release>(key).len()) {
            (0, 0) => Said::Nothing,
            (1, 0) => Said::Withdraw,
            (0, 1) => Said::Release,
            other => panic!("too much: {other:?}"),
        }
    }
}

const LIVE: [BotState; 8] = [
    BotState::Scheduled,
    BotState::Queued,
    BotState::Deploying,
    BotState::JoiningCall,
    BotState::InWaitingRoom,
    BotState::InCall,
    BotState::Recording,
    BotState::Leaving,
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelled_in_every_state() {
    let house = House::new().await;
    for state in LIVE {
        let (bot, _) = house.at(state).await;
        let before = house.get(&bot).await.sequence;
        let seen = house.cancel(&bot).await;
        assert_eq!((seen.state().word(), seen.reason.as_str()), ("CANCELLED", "cancel_requested"), "{state}");
        assert_eq!((seen.sequence, house.cancel(&bot).await.sequence), (before + 1, before + 1), "{state}: again");
        house.until_sequence(&bot, before + 1).await;
        let expected = match state {
            BotState::Scheduled => Said::Nothing,
            BotState::Queued => Said::Withdraw,
            _ => Said::Release,
        };
        until("what follows is said", async || (house.said(&bot) == expected).then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asked_to_leave_in_every_state() {
    let house = House::new().await;
    for state in LIVE {
        let (bot, _) = house.at(state).await;
        let before = house.get(&bot).await.sequence;
        let seen = house.leave(&bot).await;
        let (expected, after) = match state {
            BotState::Scheduled | BotState::Queued | BotState::Deploying => ("CANCELLED", before + 1),
            BotState::Leaving => ("LEAVING", before),
            // It has a meeting to leave in good order; its runner hears of it with its next beat.
            _ => ("LEAVING", before + 1),
        };
        assert_eq!((seen.state().word(), seen.sequence), (expected, after), "{state}");
        house.until_sequence(&bot, after).await;
        assert_eq!(house.leave(&bot).await.sequence, after, "{state}: again");
        let said = match state {
            BotState::Queued => Said::Withdraw,
            BotState::Deploying => Said::Release,
            _ => Said::Nothing,
        };
        until("what follows is said", async || (house.said(&bot) == said).then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_is_asserted_until_its_runner_is_gone() {
    let house = House::fast().await;
    let (bot, _) = house.at(BotState::Deploying).await;
    let (runner, key) = (runner_of(&bot, 1), id_of(&bot).uuid());
    house.cancel(&bot).await;
    let releases = house.heard.until::<Release>(key, 3).await;
    assert!(releases.iter().all(|release| release.runner == runner), "{releases:?}");
    house.gone(runner).await;
    let after: Option<jiff_sqlx::Timestamp> =
        sqlx::query_scalar("SELECT release_at FROM scheduler.attempts WHERE bot_id = $1")
            .bind(key)
            .fetch_one(&house.sql)
            .await
            .expect("a row");
    assert!(after.is_none(), "nobody asserts it any more");
    assert_eq!(house.get(&bot).await.timeline.last().expect("a line").what, "gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_withdrawal_is_asserted_until_it_is_answered_and_becomes_a_release_when_a_slot_comes_in_between() {
    let house = House::fast().await;
    let (never, _) = house.at(BotState::Queued).await;
    let (crossed, _) = house.at(BotState::Queued).await;
    house.cancel(&never).await;
    house.cancel(&crossed).await;
    house.heard.until::<Withdraw>(id_of(&never).uuid(), 2).await;
    house.say(Withdrawn { runner: runner_of(&never, 1) }).await;
    house.assigned(runner_of(&crossed, 1), "one").await;
    house.heard.until::<Release>(id_of(&crossed).uuid(), 2).await;
    assert_eq!(house.get(&crossed).await.state().word(), "CANCELLED", "nothing leaves a terminal state");
    let (withdrawn, releases): (Option<jiff_sqlx::Timestamp>, usize) = (
        sqlx::query_scalar("SELECT release_at FROM scheduler.attempts WHERE bot_id = $1")
            .bind(id_of(&never).uuid())
            .fetch_one(&house.sql)
            .await
            .expect("a row"),
        house.heard.about::<Release>(id_of(&never).uuid()).len(),
    );
    assert!(withdrawn.is_none() && releases == 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_is_followed_by_the_next_attempt_with_the_rest_of_the_chain() {
    let house = House::new().await;
    let bot = house.create(BotSettings { max_retries: Some(1), ..new_bot() }).await;
    house.assigned(runner_of(&bot, 1), "one").await;
    house.refused(runner_of(&bot, 1), "one", Reason::NO_CAPACITY, true).await;
    let seen = house.get(&bot).await;
    assert_eq!((seen.state().word(), seen.attempt, seen.reason.as_str()), ("QUEUED", 2, "no_capacity"));
    let (first, second) = (house.wish(&bot, 1).await, house.wish(&bot, 2).await);
    let names = |wish: &Enqueue| wish.platforms.iter().map(PlatformName::to_string).collect::<Vec<_>>();
    assert_eq!((names(&first), names(&second)), (vec!["one".into(), "two".into()], vec!["two".to_owned()]));
    assert_eq!((second.queued_at, second.deadline), (first.queued_at, first.deadline), "its place is kept");

    // Said again, or late: nothing.
    house.refused(runner_of(&bot, 1), "one", Reason::NO_CAPACITY, true).await;
    house.assigned(runner_of(&bot, 1), "one").await;
    assert_eq!(house.get(&bot).await.sequence, seen.sequence);

    // The end of the chain counts as a failure and begins it anew, later; then the retries are used up.
    house.assigned(runner_of(&bot, 2), "two").await;
    house.refused(runner_of(&bot, 2), "two", Reason::DEPLOY_FAILED, true).await;
    let third = house.wish(&bot, 3).await;
    assert_eq!(names(&third), names(&first));
    let failed_at = house.get(&bot).await.timeline.last().and_then(|line| line.at).expect("a time");
    assert!(third.not_before > timestamp("at", &failed_at).expect("a time"), "not at once");
    house.assigned(runner_of(&bot, 3), "one").await;
    house.refused(runner_of(&bot, 3), "one", Reason::DEPLOY_FAILED, true).await;
    let seen = house.get(&bot).await;
    assert_eq!((seen.state().word(), seen.reason.as_str(), seen.attempt), ("FATAL", "deploy_failed", 3));
    house.until_sequence(&bot, seen.sequence).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_of_a_runner_that_is_in_is_late() {
    let house = House::new().await;
    let (bot, _) = house.at(BotState::InCall).await;
    house.refused(runner_of(&bot, 1), "one", Reason::REJECTED, false).await;
    let seen = house.get(&bot).await;
    assert_eq!((seen.state().word(), seen.attempt), ("IN_CALL", 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_out_of_the_queue_ends_the_bot_unless_it_has_a_slot() {
    let house = House::new().await;
    let (waits, _) = house.at(BotState::Queued).await;
    let (has_one, _) = house.at(BotState::Deploying).await;
    house.say(TimedOut { runner: runner_of(&waits, 1), deadline: Timestamp::MAX }).await;
    house.say(TimedOut { runner: runner_of(&has_one, 1), deadline: Timestamp::MAX }).await;
    let (waits, has_one) = (house.get(&waits).await, house.get(&has_one).await);
    assert_eq!((waits.state().word(), waits.reason.as_str()), ("FATAL", "queue_timeout"));
    assert_eq!(has_one.state().word(), "DEPLOYING");
}
