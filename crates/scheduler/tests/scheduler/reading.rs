//! What callers see, and whose.

use greenroom_contracts::proto::internal::v1::Caller;
use greenroom_contracts::proto::v1;
use greenroom_contracts::proto::v1::{
    Bot, CancelBotRequest, GetBotRequest, LeaveBotRequest, ListBotsRequest, ListBotsResponse, ListTimelineRequest,
    ListTimelineResponse,
};
use greenroom_domain::TenantId;
use greenroom_domain::bot::BotState;
use tonic::{Code, Status};

use crate::house::{As, House, new_bot};

fn of<T>(tenant: TenantId, message: T) -> As<T> {
    As { caller: Some(Caller { tenant_id: tenant.to_string(), ..Caller::default() }), message }
}

impl House {
    async fn list(&self, tenant: TenantId, list: ListBotsRequest) -> ListBotsResponse {
        self.scheduler.clone().list_bots(of(tenant, list)).await.expect("answered").into_inner()
    }

    async fn page(
        &self,
        tenant: TenantId,
        bot: &Bot,
        page_size: u32,
        page_token: &str,
    ) -> Result<ListTimelineResponse, Status> {
        let list = ListTimelineRequest {
            bot_id: bot.id.clone(),
            page_size: Some(page_size),
            page_token: page_token.to_owned(),
        };
        self.scheduler.clone().list_timeline(of(tenant, list)).await.map(tonic::Response::into_inner)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_timeline_shows_its_newest_lines_and_has_the_others_in_pages() {
    let house = House::new().await;
    let (bot, _) = house.at(BotState::InCall).await;
    let before = house.get(&bot).await;
    assert_eq!(before.earlier_timeline_page_token, "", "a short one is whole");
    let insert = "INSERT INTO scheduler.timeline (bot_id, sequence, at, what, state, attempt)
                  SELECT $1::uuid, n, now(), 'note', 'IN_CALL', 1 FROM generate_series($2, $3) n";
    let (first, last) = (before.sequence + 1, 2_345_i64);
    sqlx::query(insert).bind(&bot.id).bind(first).bind(last).execute(&house.sql).await.expect("inserted");

    let seen = house.get(&bot).await;
    let sequences = |lines: &[greenroom_contracts::proto::v1::TimelineEntry]| {
        lines.iter().map(|line| line.sequence).collect::<Vec<_>>()
    };
    let shown = sequences(&seen.timeline);
    assert_eq!((shown.len(), shown.first(), shown.last()), (1_000, Some(&(last - 999)), Some(&last)));
    assert!(shown.is_sorted());

    // From where the bot's answer ended, and from the newest line.
    for (token, newest) in [(seen.earlier_timeline_page_token.as_str(), last - 1_000), ("", last)] {
        let (mut found, mut token) = (Vec::new(), token.to_owned());
        loop {
            let page = house.page(house.tenant, &bot, 300, &token).await.expect("a page");
            assert!((1..=300).contains(&page.entries.len()));
            found.extend(sequences(&page.entries));
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        assert!(found.iter().copied().eq((1..=newest).rev()), "{} lines before {newest}", found.len());
    }
    assert_eq!(house.page(house.tenant, &bot, 200, "").await.expect("a page").entries.len(), 200);
    assert_eq!(house.page(TenantId::generate(), &bot, 1, "").await.expect_err("another's").code(), Code::NotFound);
    for (field, size, token) in [("page_size", 1_001, ""), ("page_size", 0, ""), ("page_token", 1, "x")] {
        let status = house.page(house.tenant, &bot, size, token).await.expect_err(field);
        assert_eq!((status.code(), status.message().starts_with(field)), (Code::InvalidArgument, true));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_comes_in_pages_newest_first() {
    let house = House::new().await;
    let mut made = Vec::new();
    for _ in 0..7 {
        made.push(house.create(new_bot()).await.id);
    }
    made.reverse();
    let (mut found, mut page_token) = (Vec::new(), String::new());
    loop {
        let page = house
            .list(house.tenant, ListBotsRequest { page_size: Some(3), page_token, ..ListBotsRequest::default() })
            .await;
        assert!(page.bots.len() <= 3 && page.bots.iter().all(|bot| bot.timeline.is_empty()));
        found.extend(page.bots.into_iter().map(|bot| bot.id));
        // One that is made in between is newer than the page, and disturbs nothing.
        house.create(new_bot()).await;
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(found, made);

    let (cancelled, _) = house.at(BotState::Queued).await;
    house.cancel(&cancelled).await;
    let of_state = ListBotsRequest { state: v1::BotState::Cancelled.into(), ..ListBotsRequest::default() };
    let page = house.list(house.tenant, of_state).await;
    assert_eq!(page.bots.iter().map(|bot| &bot.id).collect::<Vec<_>>(), [&cancelled.id]);

    for bad in [("page_size", 201, "", 0), ("page_size", 0, "", 0), ("page_token", 1, "x", 0), ("state", 1, "", 12)] {
        let list = ListBotsRequest { page_size: Some(bad.1), page_token: bad.2.to_owned(), state: bad.3 };
        let status = house.scheduler.clone().list_bots(of(house.tenant, list)).await.expect_err(bad.0);
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().starts_with(bad.0), "{}", status.message());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_tenant_sees_and_changes_nothing() {
    let house = House::new().await;
    let bot = house.create(new_bot()).await;
    let stranger = TenantId::generate();
    let bot_id = bot.id.clone();
    let mut door = house.scheduler.clone();
    let answers = [
        door.get_bot(of(stranger, GetBotRequest { bot_id: bot_id.clone() })).await,
        door.leave_bot(of(stranger, LeaveBotRequest { bot_id: bot_id.clone() })).await,
        door.cancel_bot(of(stranger, CancelBotRequest { bot_id })).await,
    ]
    .map(|answer| answer.expect_err("theirs"));
    assert!(answers.iter().all(|status| status.code() == Code::NotFound), "{answers:?}");
    assert_eq!(house.list(stranger, ListBotsRequest::default()).await.bots, []);
    let past = ListBotsRequest { page_token: uuid::Uuid::max().to_string(), ..ListBotsRequest::default() };
    assert_eq!(house.list(stranger, past).await.bots, []);

    let unknown = of(house.tenant, GetBotRequest { bot_id: "17".to_owned() });
    assert_eq!(door.get_bot(unknown).await.expect_err("no UUID").code(), Code::NotFound);
    let seen = house.get(&bot).await;
    assert_eq!((seen.state().word(), seen.sequence), ("QUEUED", 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_queued_bots_show_a_position() {
    let house = House::new().await;
    let (queued, _) = house.at(BotState::Queued).await;
    let seen = house.get(&queued).await;
    assert_eq!(
        (seen.queue_position, seen.position_is_at_least, seen.estimated_wait_ms),
        (Some(3), Some(true), Some(1_500))
    );
    let (deploying, _) = house.at(BotState::Deploying).await;
    let seen = house.get(&deploying).await;
    assert_eq!((seen.queue_position, seen.platform.as_str()), (None, "one"));
}
