//! `greenroom simulate`, as a person at a terminal meets it.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// The program, with nothing of our own environment.
fn simulate(settings: &[(&str, &str)], arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_greenroom"));
    command.arg("simulate").args(arguments).env_clear().envs(settings.iter().copied());
    command.output().expect("it runs")
}

fn fine(settings: &[(&str, &str)], arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = simulate(settings, arguments);
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).expect("text")
}

fn refused(arguments: &[&str]) -> String {
    let Output { status, stderr, .. } = simulate(&[], arguments);
    assert!(!status.success(), "{arguments:?}");
    String::from_utf8(stderr).expect("text")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

const DAY: &[&str] = &["--generate", "office-day", "--meetings", "300"];

#[test]
fn a_day_is_made_up_written_and_played_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let (csv, svg) = (folder.path().join("day.csv"), folder.path().join("day.svg"));
    let (write, draw) = (["--write", text(&csv)], ["--plot", text(&svg)]);
    let json = |arguments: &[&str]| {
        let out = fine(&[("LOCAL_BOT_LIMIT", "40")], &[arguments, &["--json"]].concat());
        serde_json::from_str::<Value>(&out).expect("JSON")
    };
    let made = json(&[DAY, &write, &draw].concat());
    let day = &made["days"][0]["outcome"];
    assert_eq!((&day["bots"], &day["platforms"][0]["limit"]), (&300.into(), &40.into()), "{made}");
    assert_eq!(json(&[text(&csv)]), made, "the same seed, and the same day");
    let drawn = std::fs::read_to_string(&svg).expect("drawn");
    for word in ["300 bots of 20 tenants", "Slots taken, by platform", "Bots that wait", "Starts in flight", "Lateness"]
    {
        assert!(drawn.contains(word), "{word}");
    }
}

#[test]
fn what_if_columns_and_find_limit_are_printed() {
    let platform = ["--platform", "docker:limit=5,permits=8,start=4s,price=0.04"];
    let asked = ["--what-if", "limit=docker:60", "--find-limit", "p99=30s", "--time-zone", "Europe/Berlin"];
    let out = fine(&[], &[DAY, &platform, &asked].concat());
    for word in ["AS IT IS", "limit=docker:60", "queue_timeout", "lateness p99", "cost", "07:00 to ", "docker needs "] {
        assert!(out.contains(word), "{word}\n{out}");
    }
    assert!(out.lines().all(|line| line.trim_end() == line && line.len() < 130), "{out}");
    let beside = |changed: &[&str]| {
        let out = fine(&[], &[DAY, changed, &["--json"]].concat());
        serde_json::from_str::<Value>(&out).expect("JSON")["days"].as_array().expect("days").last().cloned()
    };
    let other = ["--platform", "docker:limit=60,permits=8,start=4s,price=0.04"];
    let (what_if, other) = (beside(&[&platform[..], &asked[..2]].concat()), beside(&other));
    assert_eq!(what_if.expect("a day")["outcome"], other.expect("a day")["outcome"]);
}

#[test]
fn invalid_input_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let csv = folder.path().join("day.csv");
    std::fs::write(&csv, "start,duration_minutes\n2026-03-03T10:00:00Z,long\n").expect("written");
    let table: &[(&[&str], &str)] = &[
        (&[text(&csv)], "line 2, column duration_minutes: \"long\""),
        (&[], "TRACE"),
        (&["--generate", "week"], "expected office-day"),
        (
            &[DAY, &["--platform", "docker:speed=9"]].concat(),
            "--platform docker:speed=9: speed of docker: there is no such thing",
        ),
        (&[DAY, &["--platform", "moon:limit=9"]].concat(), "MOON_KIND"),
        (
            &[DAY, &["--what-if", "limit=aws:9"]].concat(),
            "--what-if limit=aws:9: limit of aws: there is no such platform",
        ),
        (&[DAY, &["--what-if", "lead=soon"]].concat(), "lead: \"soon\": expected a duration"),
        (&[DAY, &["--find-limit", "p98=1s"]].concat(), "expected p50, p95 or p99"),
        (&[DAY, &["--time-zone", "Nowhere/Town"]].concat(), "--time-zone"),
    ];
    for (arguments, why) in table {
        let said = refused(arguments);
        assert!(said.contains(why), "{arguments:?}\n{said}");
    }
}
