use greenroom_contracts::proto_timestamp;

use super::*;
use crate::Config;

fn now() -> Timestamp {
    "2026-11-21T10:00:00Z".parse().expect("a time")
}

fn at(text: &str) -> Option<prost_types::Timestamp> {
    Some(proto_timestamp(text.parse().expect("a time")))
}

fn good() -> BotSettings {
    let meeting = Meeting {
        provider: "web".to_owned(),
        url: "https://meet.example.com/room?pwd=1".to_owned(),
        ..Meeting::default()
    };
    BotSettings {
        meeting: Some(meeting),
        display_name: "Notes ✍".to_owned(),
        start_time: at("2026-11-21T09:59:30Z"),
        end_time: at("2026-11-21T11:00:00Z"),
        metadata: r#"{"order": [1, "a"]}"#.to_owned(),
        priority: Some(0),
        platforms: vec!["docker".to_owned(), "k8s-eu".to_owned()],
        queue_timeout_ms: Some(0),
        max_retries: Some(0),
        automatic_leave: Some(AutomaticLeave { max_duration_ms: Some(0), ..AutomaticLeave::default() }),
        ..BotSettings::default()
    }
}

/// For an operator, whom a plan does not bind.
fn checked(settings: &BotSettings, allowed: &AllowedNetworks, is_new: bool) -> Vec<BadField> {
    let caller = Caller { operator: true, ..Caller::default() };
    let platforms = ["docker", "k8s-eu", "a"].map(|name| PlatformName::new(name).expect("a name"));
    let config = Config::parse(&mut greenroom_chassis::Settings::new([], ""), "postgres://nowhere", &[], "gateway:1");
    let (allowed_networks, defaults) = (allowed, &config.defaults);
    check(settings, &Terms { caller: &caller, platforms: &platforms, allowed_networks, defaults, now: now(), is_new })
}

/// The fields that are bad after a change, where nothing but public addresses is allowed.
fn bad(change: impl FnOnce(&mut BotSettings)) -> Vec<String> {
    let mut settings = good();
    change(&mut settings);
    let bad = checked(&settings, &AllowedNetworks::default(), true);
    bad.into_iter().map(|bad| bad.field.strip_prefix("settings.").expect("of the settings").to_owned()).collect()
}

fn bad_meeting(change: impl FnOnce(&mut Meeting)) -> Vec<String> {
    bad(|bot| change(bot.meeting.as_mut().expect("a meeting")))
}

#[test]
fn a_good_bot_passes() {
    assert!(bad(|_| {}).is_empty());
    assert!(bad(|bot| *bot = BotSettings { meeting: bot.meeting.take(), ..BotSettings::default() }).is_empty());
    let by_id = bad_meeting(|meeting| {
        *meeting = Meeting { provider: "zoom".into(), id: "123 456".into(), password: "x".into(), url: String::new() };
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
    let mut settings = good();
    settings.meeting.as_mut().expect("a meeting").url = url.to_owned();
    let bad = checked(&settings, &allowed, true);
    assert_eq!(checked(&settings, &allowed, false), bad, "{url:?}");
    assert!(bad.iter().all(|bad| bad.field == "settings.meeting.url") && bad.len() <= 1, "{url:?}: {bad:?}");
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
fn only_allowed_networks_are_accepted() {
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
fn stored_times_may_be_in_the_past() {
    let mut settings = good();
    (settings.start_time, settings.end_time) = (at("2020-01-01T00:00:00Z"), at("2020-01-01T01:00:00Z"));
    assert_eq!(checked(&settings, &AllowedNetworks::default(), false), []);
    settings.end_time = at("2019-01-01T01:00:00Z");
    assert_eq!(checked(&settings, &AllowedNetworks::default(), false), [], "one that was sent early may end early");
}

#[test]
fn everything_else_by_its_name() {
    type Change = fn(&mut BotSettings);
    let table: &[(&str, Change)] = &[
        ("display_name", |bot| bot.display_name = "x".repeat(101)),
        ("display_name", |bot| bot.display_name = "a\nb".into()),
        ("display_name", |bot| bot.display_name = "  ".into()),
        ("display_name", |bot| bot.display_name = "a\0".into()),
        ("image", |bot| bot.image = "a b".into()),
        ("image", |bot| bot.image = "x".repeat(513)),
        ("image", |bot| bot.image = "ghcr.io/acme/../evil/bot".into()),
        ("metadata", |bot| bot.metadata = "[]".into()),
        ("metadata", |bot| bot.metadata = "{".into()),
        ("metadata", |bot| bot.metadata = format!(r#"{{"a":"{}"}}"#, "x".repeat(16 << 10))),
        ("metadata", |bot| bot.metadata = r#"{"a":[{"b":"\u0000"}]}"#.into()),
        ("priority", |bot| bot.priority = Some(10_001)),
        ("platforms[0]", |bot| bot.platforms = vec!["Docker".into()]),
        ("platforms[1]", |bot| bot.platforms = vec!["a".into(), "elsewhere".into()]),
        ("platforms[1]", |bot| bot.platforms = vec!["a".into(), "a".into()]),
        ("platforms[0]", |bot| bot.platforms = vec![String::new()]),
        ("platforms", |bot| bot.platforms = (0..17).map(|n| format!("p{n}")).collect()),
        ("queue_timeout_ms", |bot| bot.queue_timeout_ms = Some(u64::MAX)),
        ("max_retries", |bot| bot.max_retries = Some(21)),
        ("resources.cpu_millis", |bot| {
            bot.resources = Some(Resources { cpu_millis: Some(0), ..Resources::default() });
        }),
        ("resources.memory_limit_mb", |bot| {
            let less = Resources { memory_mb: Some(512), memory_limit_mb: Some(511), ..Resources::default() };
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
        assert_eq!(idempotency_key(&key)[0].field, "idempotency_key");
    }
    assert_eq!(idempotency_key("7f3-a"), []);
}

#[test]
fn all_at_once_and_nothing_is_said_back() {
    let mut settings = good();
    let meeting = settings.meeting.as_mut().expect("a meeting");
    (meeting.provider, meeting.url, meeting.password) = ("hush1".into(), "hush2".into(), "hush3\n".into());
    (settings.display_name, settings.image) = ("hush4\n".into(), "hush 5".into());
    (settings.metadata, settings.platforms) = ("hush6".into(), vec!["Hush7".into()]);
    let bad = checked(&settings, &AllowedNetworks::default(), true);
    assert_eq!(bad.len(), 7, "{bad:?}");
    assert!(!format!("{bad:?}").to_lowercase().contains("hush"), "{bad:?}");
}
