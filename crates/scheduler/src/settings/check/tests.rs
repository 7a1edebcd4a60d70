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

/// Where nothing but public addresses is allowed.
fn create(request: &CreateBotRequest, now: Timestamp) -> Result<(), Vec<BadField>> {
    super::create(request, now, &AllowedNetworks::default())
}

fn update(request: &UpdateBotRequest) -> Result<(), Vec<BadField>> {
    super::update(request, &AllowedNetworks::default())
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
    for url in ["https://8.8.8.8:8443/room/1", "https://[2606:4700::1]/", "HTTPS://EXAMPLE.com", "https://例え.jp/部屋"]
    {
        assert!(bad_meeting(|meeting| meeting.url = url.to_owned()).is_empty(), "{url:?}");
    }
}

/// What is said about `meeting.url`, where certain networks are allowed: of a new bot and of an edit, which are one.
fn said_of(url: &str, allowed: &[&str]) -> Option<String> {
    let allowed = AllowedNetworks::from_words(allowed.iter().copied());
    let mut request = good();
    let bot = request.bot.as_mut().expect("a bot");
    bot.meeting.as_mut().expect("a meeting").url = url.to_owned();
    let update = |path: &str| UpdateBotRequest {
        bot: request.bot.clone(),
        update_mask: Some(prost_types::FieldMask { paths: vec![path.to_owned()] }),
        ..UpdateBotRequest::default()
    };
    let made = super::create(&request, now(), &allowed);
    for path in ["meeting", "meeting.url"] {
        assert_eq!(super::update(&update(path), &allowed), made, "{url:?}");
    }
    let bad = made.err().unwrap_or_default();
    assert!(bad.iter().all(|bad| bad.field == "meeting.url") && bad.len() <= 1, "{url:?}: {bad:?}");
    bad.into_iter().next().map(|bad| bad.problem)
}

#[test]
fn addresses_inside_the_network_are_refused_in_every_spelling_a_browser_takes() {
    for (url, kind) in [
        ("http://127.0.0.1:8460/health", "loopback"),
        ("http://127.1/", "loopback"),
        ("http://127.0.1/", "loopback"),
        ("http://2130706433/", "loopback"),
        ("http://0x7f000001/", "loopback"),
        ("http://0X7F.0.0.0x1/", "loopback"),
        ("http://017700000001/", "loopback"),
        ("http://0177.0.0.01/", "loopback"),
        ("http://127.0.0.1./", "loopback"),
        ("http://%31%32%37.0.0.1/", "loopback"),
        ("http://１２７.０.０.１/", "loopback"),
        ("http://127。0。0。1/", "loopback"),
        ("http:\\\\127.0.0.1\\health", "loopback"),
        ("http:127.0.0.1", "loopback"),
        ("HTTP://LOCALHOST/", "loopback"),
        ("http://localhost./", "loopback"),
        ("http://anything.localhost:1/", "loopback"),
        ("http://[::1]/", "loopback"),
        ("http://[0:0:0:0:0:0:0:1]/", "loopback"),
        ("http://[::ffff:127.0.0.1]/", "loopback"),
        ("http://[::ffff:7f00:1]/", "loopback"),
        ("http://[64:ff9b::127.0.0.1]/", "loopback"),
        ("http://0/", "reserved"),
        ("http://0.0.0.0/", "reserved"),
        ("http://[::]/", "reserved"),
        ("http://10.0.0.1/", "private"),
        ("https://192.168.1.1/", "private"),
        ("http://[fd00::1]/", "private"),
        ("http://169.254.169.254/latest/meta-data/", "cloud metadata"),
        ("http://0xa9fea9fe/", "cloud metadata"),
        ("http://2852039166/", "cloud metadata"),
        ("http://[::ffff:a9fe:a9fe]/", "cloud metadata"),
        ("http://168.63.129.16/", "cloud metadata"),
        ("http://169.254.1.1/", "link-local"),
        ("http://[fe80::1]/", "link-local"),
        ("http://100.64.0.1/", "carrier-grade NAT"),
        ("http://224.0.0.1/", "multicast"),
        ("http://[ff02::1]/", "multicast"),
        ("http://255.255.255.255/", "reserved"),
        ("http://192.0.2.1/", "reserved"),
        ("http://[2001:db8::1]/", "reserved"),
        ("http://[2002:7f00:1::]/", "reserved"),
    ] {
        let problem = said_of(url, &[]).unwrap_or_else(|| panic!("{url:?} is accepted"));
        assert!(problem.starts_with(&format!("must not be a {kind} address; ")), "{url:?}: {problem}");
    }
}

#[test]
fn an_address_is_http_without_a_user() {
    for (url, problem) in [
        ("file:///etc/passwd", "must begin with http:// or https://"),
        ("data:text/html,x", "must begin with http:// or https://"),
        ("javascript:alert(1)", "must begin with http:// or https://"),
        ("about:blank", "must begin with http:// or https://"),
        ("chrome://version/", "must begin with http:// or https://"),
        ("view-source:https://example.com/", "must begin with http:// or https://"),
        ("blob:https://example.com/1", "must begin with http:// or https://"),
        ("filesystem:https://example.com/temporary/x", "must begin with http:// or https://"),
        ("ftp://example.com/", "must begin with http:// or https://"),
        ("ws://example.com/", "must begin with http:// or https://"),
        ("https://example.com@127.0.0.1/", "must not contain a user name or a password"),
        ("https://me:hush@example.com/", "must not contain a user name or a password"),
        ("https://:hush@example.com/", "must not contain a user name or a password"),
        ("http://[fe80::1%25eth0]/", "must be an address, as https://example.com/meeting"),
        ("http://[::1%lo]/", "must be an address, as https://example.com/meeting"),
        ("http://1.2.3.4.5/", "must be an address, as https://example.com/meeting"),
        ("http://4294967296/", "must be an address, as https://example.com/meeting"),
    ] {
        assert_eq!(said_of(url, &["0.0.0.0/0", "::/0"]).as_deref(), Some(problem), "{url:?}");
    }
}

#[test]
fn what_an_operator_allows_is_accepted_and_nothing_beside_it() {
    for (url, allowed, accepted) in [
        ("http://localhost:8080/room/1", "loopback", true),
        ("http://127.0.0.1/", "loopback", true),
        ("https://[::1]/", "loopback", true),
        ("http://localhost/", "127.0.0.0/8", true),
        ("http://0/", "loopback", false),
        ("http://10.0.0.1/", "loopback", false),
        ("http://10.0.0.1/", "private", true),
        ("http://[fd00:ec2::254]/", "private", false),
        ("http://127.0.0.2/", "127.0.0.2", true),
        ("http://127.0.0.1/", "127.0.0.2", false),
        ("http://169.254.169.254/", "169.254.0.0/16", true),
    ] {
        assert_eq!(said_of(url, &[allowed]).is_none(), accepted, "{url:?} where {allowed} is allowed");
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
        (at("2031-11-21T10:00:00Z"), at("2031-11-21T11:00:00Z"), vec![]),
        (at("2031-11-21T10:00:01Z"), None, vec!["start_time"]),
        (at("9999-12-30T22:00:00Z"), None, vec!["start_time"]),
        (at("9999-12-30T20:00:00Z"), at("9999-12-30T22:00:00Z"), vec!["start_time"]),
        (at("2026-11-21T12:00:00Z"), at("2027-11-21T12:00:00Z"), vec![]),
        (at("2026-11-21T12:00:00Z"), at("2027-11-21T12:00:01Z"), vec!["end_time"]),
        (None, at("2027-11-21T10:00:00Z"), vec![]),
        (None, at("2027-11-21T10:00:01Z"), vec!["end_time"]),
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
