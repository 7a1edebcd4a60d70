//! What a log says about a panic. In a program of its own: the panic hook is the process's.

use greenroom_chassis::telemetry::{Config, Telemetry};
use serde_json::Value;

fn refuse(address: &str) -> Result<u8, &str> {
    Err(address)
}

#[tokio::test]
async fn a_panic_is_a_line_of_json_with_its_place_and_without_what_it_quotes() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("log");
    let config = Config { level: "info".to_owned(), json: true, file: Some(log.clone()), otlp: None };
    let _telemetry = Telemetry::install(&config, "test").expect("it is the first");
    let address = "https://meet.example/secret";
    let ended = greenroom_tasks::spawn("test task", async move { refuse(address).unwrap() }).await;
    assert!(ended.is_err());
    let log = std::fs::read_to_string(log).expect("a log");
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let [line] = lines.as_slice() else { panic!("one line: {log}") };
    assert_eq!((&line["level"], &line["message"]), (&"ERROR".into(), &"a panic".into()), "{line}");
    assert!(line["location"].as_str().is_some_and(|at| at.contains("tests/panics.rs:")), "{line}");
    assert!(line["error"].as_str().is_some_and(|error| error.contains("Result::unwrap()")), "{line}");
    assert!(line["task"] == "test task" && line["thread"].is_string(), "{line}");
    assert!(!log.contains("meet.example"), "{line}");
}
