use greenroom_contracts::proto_timestamp;

use super::*;

fn now() -> Timestamp {
    "2026-11-21T10:00:00Z".parse().expect("a time")
}

fn at(text: &str) -> Option<prost_types::Timestamp> {
    Some(proto_timestamp(text.parse().expect("a time")))
}

fn good() -> CreateBotRequest {
    let meeting = NewMeeting {
        provider: "web".to_owned(),
        url: "https://meet.example.com/room?pwd=1".to_owned(),
        ..NewMeeting::default()
    };
    let bot = NewBot {
        meeting: Some(meeting),
        display_name: "Notes ✍".to_owned(),
        start_time: at("2026-11-21T09:59:30Z"),
        end_time: at("2026-11-21T11:00:00Z"),
        metadata_json: r#"{"order": [1, "a"]}"#.to_owned(),
        priority: Some(0),
        platforms: vec!["docker".to_owned(), "k8s-eu".to_owned()],
        queue_timeout_ms: Some(0),
        max_retries: Some(0),
        automatic_leave: Some(NewAutomaticLeave { max_duration_ms: Some(0), ..NewAutomaticLeave::default() }),
        ..NewBot::default()
    };
    CreateBotRequest { bot: Some(bot), idempotency_key: "7f3-a".to_owned() }
}

/// The fields that are bad after a change.
fn bad(change: impl FnOnce(&mut NewBot)) -> Vec<String> {
    let mut request = CreateBotRequest { idempotency_key: String::new(), ..good() };
    change(request.bot.as_mut().expect("a bot"));
    let bad = create(&request, now()).err().unwrap_or_default();
    bad.into_iter().map(|bad| bad.field).collect()
}

fn bad_meeting(change: impl FnOnce(&mut NewMeeting)) -> Vec<String> {
    bad(|bot| change(bot.meeting.as_mut().expect("a meeting")))
}

#[test]
fn a_good_bot_passes() {
    assert_eq!(create(&good(), now()), Ok(()));
    assert!(bad(|bot| *bot = NewBot { meeting: bot.meeting.take(), ..NewBot::default() }).is_empty());
    let by_id = bad_meeting(|meeting| {
        *meeting =
            NewMeeting { provider: "zoom".into(), id: "123 456".into(), password: "x".into(), url: String::new() };
    });
    assert!(by_id.is_empty(), "some meetings have a number instead of an address: {by_id:?}");
}

#[test]
fn addresses() {
    for url in [
        "",
        "nonsense",
        "ftp://example.com/x",
        "javascript:alert(1)",
        "file:///etc/passwd",
        "https://",
        "http:///",
        "https://exa mple.com",
        " https://example.com",
        "https://example.com/\n",
        "https://example.com:99999/",
        &format!("https://example.com/{}", "x".repeat(2_048)),
    ] {
        assert_eq!(bad_meeting(|meeting| meeting.url = url.to_owned()), ["meeting.url"], "{url:?}");
    }
    for url in ["http://localhost:8080/room/1", "https://[::1]/", "HTTPS://EXAMPLE.com", "https://例え.jp/部屋"] {
        assert!(bad_meeting(|meeting| meeting.url = url.to_owned()).is_empty(), "{url:?}");
    }
}

#[test]
fn providers() {
    for provider in PROVIDERS {
        assert!(bad_meeting(|meeting| meeting.provider = provider.to_owned()).is_empty(), "{provider}");
    }
    for provider in ["", "Zoom", "webex", "google meet"] {
        assert_eq!(bad_meeting(|meeting| meeting.provider = provider.to_owned()), ["meeting.provider"], "{provider:?}");
    }
    assert_eq!(bad(|bot| bot.meeting = None), ["meeting"]);
}

#[test]
fn times_in_the_past_too_far_ahead_or_reversed() {
    for (start, end, expected) in [
        (None, None, vec![]),
        (at("2026-11-21T09:59:00Z"), None, vec![]),
        (at("2026-11-21T09:58:59Z"), None, vec!["start_time"]),
        (at("2027-11-21T10:00:00Z"), None, vec![]),
        (None, at("2026-11-21T10:00:01Z"), vec![]),
        (None, at("2026-11-21T10:00:00Z"), vec!["end_time"]),
        (at("2020-01-01T00:00:00Z"), at("2020-01-01T01:00:00Z"), vec!["start_time", "end_time"]),
        (at("2031-11-20T10:00:00Z"), at("2031-11-20T11:00:00Z"), vec![]),
        (at("2031-11-26T10:00:00Z"), None, vec!["start_time"]),
        (at("9999-12-30T22:00:00Z"), None, vec!["start_time"]),
        (at("9999-12-30T20:00:00Z"), at("9999-12-30T22:00:00Z"), vec!["start_time"]),
        (at("2026-11-21T12:00:00Z"), at("2027-11-21T12:00:00Z"), vec![]),
        (at("2026-11-21T12:00:00Z"), at("2028-11-21T12:00:00Z"), vec!["end_time"]),
        (None, at("9999-12-30T22:00:00Z"), vec!["end_time"]),
        (at("2026-11-21T12:00:00Z"), at("2026-11-21T12:00:00Z"), vec!["end_time"]),
        (at("2026-11-21T12:00:00Z"), at("2026-11-21T11:00:00Z"), vec!["end_time"]),
        (Some(prost_types::Timestamp { seconds: i64::MAX, nanos: 0 }), None, vec!["start_time"]),
    ] {
        let found = bad(|bot| (bot.start_time, bot.end_time) = (start, end));
        assert_eq!(found, expected, "{start:?} {end:?}");
    }
}

#[test]
fn a_repeat_may_come_when_its_times_have_passed() {
    let mut request = good();
    let bot = request.bot.as_mut().expect("a bot");
    (bot.start_time, bot.end_time) = (at("2020-01-01T00:00:00Z"), at("2020-01-01T01:00:00Z"));
    assert_eq!(create(&request, now()), Ok(()));
    request.bot.as_mut().expect("a bot").end_time = at("2019-01-01T01:00:00Z");
    assert_eq!(create(&request, now()).expect_err("reversed")[0].field, "end_time");
}

#[test]
fn an_edit_is_checked_where_it_names_something() {
    let wrong = NewBot {
        display_name: " ".to_owned(),
        priority: Some(10_001),
        max_retries: Some(21),
        platforms: vec!["a b".to_owned()],
        resources: Some(NewResources { memory_mb: Some(0), ..NewResources::default() }),
        meeting: Some(NewMeeting { url: "ftp://x".to_owned(), provider: "webex".to_owned(), ..NewMeeting::default() }),
        ..NewBot::default()
    };
    for (path, expected) in [
        ("display_name", Some("display_name")),
        ("priority", Some("priority")),
        ("max_retries", Some("max_retries")),
        ("platforms", Some("platforms[0]")),
        ("meeting.url", Some("meeting.url")),
        ("meeting.provider", Some("meeting.provider")),
        ("meeting.link", Some("meeting.link")),
        ("start_time", Some("start_time")),
        ("deduplication_key", Some("deduplication_key")),
        ("resources", Some("resources.memory_mb")),
        ("resources.memory_mb", Some("resources.memory_mb")),
        ("resources.colour", Some("update_mask")),
        ("colour", Some("update_mask")),
        ("display_name.first", Some("update_mask")),
        ("meeting.id", None),
        ("end_time", None),
        ("rejoin", None),
    ] {
        let update_mask = Some(prost_types::FieldMask { paths: vec![path.to_owned()] });
        let request = UpdateBotRequest { bot: Some(wrong.clone()), update_mask, ..UpdateBotRequest::default() };
        let found = update(&request).err().unwrap_or_default();
        assert_eq!(found.first().map(|bad| bad.field.as_str()), expected, "{path}");
    }
}

#[test]
fn everything_else_by_its_name() {
    type Change = fn(&mut NewBot);
    let table: &[(&str, Change)] = &[
        ("display_name", |bot| bot.display_name = "x".repeat(101)),
        ("display_name", |bot| bot.display_name = "a\nb".into()),
        ("display_name", |bot| bot.display_name = "  ".into()),
        ("display_name", |bot| bot.display_name = "a\0".into()),
        ("image", |bot| bot.image = "a b".into()),
        ("image", |bot| bot.image = "x".repeat(513)),
        ("metadata_json", |bot| bot.metadata_json = "[]".into()),
        ("metadata_json", |bot| bot.metadata_json = "{".into()),
        ("metadata_json", |bot| bot.metadata_json = format!(r#"{{"a":"{}"}}"#, "x".repeat(16 << 10))),
        ("metadata_json", |bot| bot.metadata_json = r#"{"a":[{"b":"\u0000"}]}"#.into()),
        ("priority", |bot| bot.priority = Some(10_001)),
        ("platforms[0]", |bot| bot.platforms = vec!["Docker".into()]),
        ("platforms[1]", |bot| bot.platforms = vec!["a".into(), "a".into()]),
        ("platforms[0]", |bot| bot.platforms = vec![String::new()]),
        ("platforms", |bot| bot.platforms = (0..17).map(|n| format!("p{n}")).collect()),
        ("queue_timeout_ms", |bot| bot.queue_timeout_ms = Some(u64::MAX)),
        ("max_retries", |bot| bot.max_retries = Some(21)),
        ("resources.cpu_millis", |bot| {
            bot.resources = Some(NewResources { cpu_millis: Some(0), ..NewResources::default() });
        }),
        ("resources.memory_limit_mb", |bot| {
            let less = NewResources { memory_mb: Some(512), memory_limit_mb: Some(511), ..NewResources::default() };
            bot.resources = Some(less);
        }),
        ("meeting.id", |bot| bot.meeting.as_mut().expect("a meeting").id = "x".repeat(256)),
        ("meeting.password", |bot| bot.meeting.as_mut().expect("a meeting").password = "\u{7}".into()),
        ("automatic_leave.max_duration_ms", |bot| {
            bot.automatic_leave.as_mut().expect("there").max_duration_ms = Some(LONGEST_MS + 1);
        }),
        ("automatic_leave.inactivity_timeout_ms", |bot| {
            bot.automatic_leave.as_mut().expect("there").inactivity_timeout_ms = Some(u64::MAX);
        }),
    ];
    for (field, change) in table {
        assert_eq!(bad(change), [*field], "{field}");
    }
}

#[test]
fn the_key_is_a_word() {
    for key in ["x".repeat(256), "a b".to_owned(), "a\0".to_owned()] {
        let found = create(&CreateBotRequest { idempotency_key: key, ..good() }, now());
        assert_eq!(found.expect_err("bad")[0].field, "idempotency_key");
    }
    assert_eq!(create(&CreateBotRequest::default(), now()).expect_err("bad")[0].field, "bot");
}

#[test]
fn all_at_once_and_nothing_is_said_back() {
    let mut request = good();
    let bot = request.bot.as_mut().expect("a bot");
    let meeting = bot.meeting.as_mut().expect("a meeting");
    (meeting.provider, meeting.url, meeting.password) = ("hush1".into(), "hush2".into(), "hush3\n".into());
    (bot.display_name, bot.image, bot.metadata_json) = ("hush4\n".into(), "hush 5".into(), "hush6".into());
    bot.platforms = vec!["Hush7".into()];
    let bad = create(&request, now()).expect_err("seven problems");
    assert_eq!(bad.len(), 7, "{bad:?}");
    assert!(!format!("{bad:?}").to_lowercase().contains("hush"), "{bad:?}");
}
