use super::*;
use crate::http::problem::Kind;

fn fields(body: &str) -> Vec<String> {
    new_bot(body.as_bytes())
        .unwrap_or_else(|problem| panic!("{problem:?}"))
        .bad
        .into_iter()
        .map(|bad| bad.field)
        .collect()
}

#[test]
fn everything_a_bot_can_say() {
    let body = r#"{
        "meeting": {"provider": "web", "url": "https://example.com/x", "id": "7", "password": "hush"},
        "displayName": "Notes", "image": "bot:1", "startTime": "2026-11-21T12:00:00+02:00", "endTime": "2026-11-21T11:00:00Z",
        "recordingEnabled": false,
        "automaticLeave": {"waitingRoomTimeoutMs": 1, "noOneJoinedTimeoutMs": 2, "everyoneLeftTimeoutMs": 3,
            "inactivityTimeoutMs": 4, "maxDurationMs": 5},
        "metadata": {"z": 1.50,  "a": null}, "priority": 0, "platforms": ["docker"], "queueTimeoutMs": 0, "maxRetries": 1,
        "rejoin": true, "deduplicationKey": "standup",
        "resources": {"cpuMillis": 600, "memoryMb": 1500, "cpuLimitMillis": 700, "memoryLimitMb": 1600}}"#;
    let Parsed { bot, bad } = new_bot(body.as_bytes()).unwrap_or_else(|problem| panic!("{problem:?}"));
    assert_eq!(bad, []);
    let at = |text: &str| Some(proto_timestamp(text.parse().expect("a time")));
    let expected = NewBot {
        meeting: Some(NewMeeting {
            provider: "web".into(),
            url: "https://example.com/x".into(),
            id: "7".into(),
            password: "hush".into(),
        }),
        display_name: "Notes".into(),
        image: "bot:1".into(),
        start_time: at("2026-11-21T10:00:00Z"),
        end_time: at("2026-11-21T11:00:00Z"),
        recording_enabled: Some(false),
        automatic_leave: Some(NewAutomaticLeave {
            waiting_room_timeout_ms: Some(1),
            no_one_joined_timeout_ms: Some(2),
            everyone_left_timeout_ms: Some(3),
            inactivity_timeout_ms: Some(4),
            max_duration_ms: Some(5),
        }),
        metadata_json: r#"{"z": 1.50,  "a": null}"#.into(),
        priority: Some(0),
        platforms: vec!["docker".into()],
        queue_timeout_ms: Some(0),
        max_retries: Some(1),
        rejoin: Some(true),
        deduplication_key: "standup".into(),
        resources: Some(NewResources {
            cpu_millis: Some(600),
            memory_mb: Some(1500),
            cpu_limit_millis: Some(700),
            memory_limit_mb: Some(1600),
        }),
    };
    assert_eq!(bot, expected);
}

#[test]
fn null_is_nothing() {
    let parsed = new_bot(br#"{"meeting": null, "metadata": null, "priority": null, "platforms": null}"#);
    let Parsed { bot, bad } = parsed.unwrap_or_else(|problem| panic!("{problem:?}"));
    assert_eq!((bot, bad), (NewBot::default(), vec![]));
}

#[test]
fn an_edit_names_what_is_there() {
    let body = br#"{"startTime": null, "metadata": {"a": 1}, "meeting": {"url": "https://example.com/x", "id": null},
        "automaticLeave": null, "queueTimeoutMs": 5, "resources": {"memoryMb": 7}}"#;
    let mut paths = mask(body);
    paths.sort_unstable();
    let expected =
        ["automatic_leave", "meeting.id", "meeting.url", "queue_timeout_ms", "resources.memory_mb", "start_time"];
    assert_eq!(paths, expected);
    assert_eq!(mask(br#"{"resources": null}"#), ["resources"]);
    assert!(mask(b"{}").is_empty());
    // An object is merged into the metadata; null takes them back to their default, and all else is refused by name.
    assert_eq!(metadata_patch(body), r#"{"a": 1}"#);
    assert_eq!(
        (mask(br#"{"metadata": null}"#), metadata_patch(br#"{"metadata": null}"#)),
        (vec!["metadata_json".to_owned()], String::new())
    );
    assert_eq!(
        (mask(br#"{"metadata": [1]}"#), metadata_patch(br#"{"metadata": [1]}"#)),
        (vec!["metadata_json".to_owned()], String::new())
    );
}

#[test]
fn only_times_of_rfc_3339_are_times() {
    for time in
        ["2027-07-01T10:00:00+01:00[Europe/Berlin]", "20270101T100000Z", "2027-01-01 10:00:00Z", "2027-01-01T10:00Z"]
    {
        let body = format!(r#"{{"startTime": "{time}", "endTime": "{time}"}}"#);
        let Parsed { bad, .. } = new_bot(body.as_bytes()).unwrap_or_else(|problem| panic!("{problem:?}"));
        let named: Vec<_> = bad.iter().map(|bad| bad.field.as_str()).collect();
        assert_eq!(named, ["startTime", "endTime"], "{time}");
        assert!(bad[0].problem.contains("RFC 3339"), "{}", bad[0].problem);
    }
}

#[test]
fn wrong_types_and_unknown_fields_are_all_named() {
    for (body, expected) in [
        (r#"{"colour": 1, "meeting": {"link": 2}}"#, vec!["meeting.link", "colour"]),
        (r#"{"meeting": "https://example.com/hush"}"#, vec!["meeting"]),
        (r#"{"meeting": {"url": 7, "provider": []}}"#, vec!["meeting.provider", "meeting.url"]),
        (
            r#"{"priority": -1, "maxRetries": 1.5, "queueTimeoutMs": "1"}"#,
            vec!["priority", "queueTimeoutMs", "maxRetries"],
        ),
        (r#"{"priority": 4294967296}"#, vec!["priority"]),
        (r#"{"recordingEnabled": "yes", "rejoin": 1}"#, vec!["recordingEnabled", "rejoin"]),
        (r#"{"platforms": "docker"}"#, vec!["platforms"]),
        (r#"{"platforms": ["docker", 7]}"#, vec!["platforms"]),
        (r#"{"startTime": "2026-11-21T10:00:00"}"#, vec!["startTime"]),
        (r#"{"startTime": "tomorrow", "endTime": 1795000000}"#, vec!["startTime", "endTime"]),
        (
            r#"{"automaticLeave": {"maxDurationMs": -5, "never": true}}"#,
            vec!["automaticLeave.maxDurationMs", "automaticLeave.never"],
        ),
        (
            r#"{"resources": {"memoryMb": "1 GiB", "cpuMillis": 0.5, "gpu": 1}}"#,
            vec!["resources.cpuMillis", "resources.memoryMb", "resources.gpu"],
        ),
        (r#"{"DisplayName": "x"}"#, vec!["DisplayName"]),
    ] {
        assert_eq!(fields(body), expected, "{body}");
    }
}

#[test]
fn what_is_no_json_says_where() {
    let malformed = |body: &[u8]| {
        let problem = new_bot(body).map(|parsed| parsed.bad).expect_err("no JSON");
        assert_eq!(problem.kind, Kind::MalformedJson);
        problem.detail
    };
    assert_eq!(malformed(b"{\n  \"meeting\": {,\n}"), "the body is not valid JSON at line 2, column 15");
    assert_eq!(malformed(b"{\"a\": 1"), "the body ends too early at line 1, column 7");
    assert_eq!(malformed(b""), "the body ends too early at line 1, column 0");
    assert!(malformed(b"{} {}").starts_with("the body is not valid JSON"));
    assert!(malformed(b"{\"a\": \"\xff\"}").starts_with("the body is not valid JSON"));
    let deep = new_bot("[".repeat(4_000).as_bytes()).map(|parsed| parsed.bad).expect_err("too deep");
    assert_eq!((deep.kind, deep.errors[0].field.as_str()), (Kind::InvalidFields, "(body)"));
    assert!(deep.detail.contains("nested deeper than 127 levels"), "{}", deep.detail);
    for body in ["[]", "7", "null", "\"https://example.com/hush\""] {
        let problem = new_bot(body.as_bytes()).map(|parsed| parsed.bad).expect_err("no object");
        assert_eq!(problem.errors[0].field, "(body)");
        assert!(!format!("{problem:?}").contains("hush"));
    }
}

#[test]
fn nothing_that_was_given_is_said_back() {
    let body = r#"{"meeting": "https://example.com/hush", "startTime": "hush", "priority": "hush", "platforms": "hush",
        "displayName": ["hush"], "rejoin": "hush", "metadata": "hush"}"#;
    let Parsed { bad, .. } = new_bot(body.as_bytes()).unwrap_or_else(|problem| panic!("{problem:?}"));
    assert_eq!(bad.len(), 6);
    assert!(!format!("{bad:?}").contains("hush"), "{bad:?}");
}
