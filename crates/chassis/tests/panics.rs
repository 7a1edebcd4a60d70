//! What a log says about a panic. In a program of its own: the panic hook is the process's.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;

use greenroom_chassis::telemetry::{Config, Telemetry};
use greenroom_tasks::Tasks;
use serde_json::Value;

fn refuse(address: &str) -> Result<u8, &str> {
    Err(address)
}

fn install(log: &Path) -> Telemetry {
    let config = Config { level: "info".to_owned(), json: true, file: Some(log.to_owned()), otlp: None };
    Telemetry::install(&config, "test").expect("it is the first")
}

/// Where the program that aborts writes its log.
const ABORTS: &str = "GREENROOM_TEST_ABORTS";

/// Not to be unwound through: the program aborts at the panic, as a release build does at any.
extern "C" fn abort() {
    panic!("no more");
}

#[tokio::test]
async fn a_panic_is_logged_with_its_task_before_the_program_aborts() {
    if let Some(log) = std::env::var_os(ABORTS) {
        let _telemetry = install(Path::new(&log));
        let _ = Tasks::default().run("queue relay", async { abort() }).await;
        unreachable!("it aborts");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("log");
    let own = std::env::current_exe().expect("a test has a file");
    let name = "a_panic_is_logged_with_its_task_before_the_program_aborts";
    let ended = Command::new(own).args(["--exact", name]).env(ABORTS, &log).output().expect("it starts");
    assert_eq!(ended.status.signal(), Some(6), "{ended:?}");
    let log = std::fs::read_to_string(log).expect("a log");
    let first: Value = serde_json::from_str(log.lines().next().expect("a line")).expect("JSON");
    assert_eq!((&first["message"], &first["error"]), (&"a panic".into(), &"no more".into()), "{first}");
    assert_eq!(first["task"], "queue relay", "{first}");
    assert!(first["location"].as_str().is_some_and(|at| at.contains("tests/panics.rs:")), "{first}");
}

#[tokio::test]
async fn a_panic_is_a_line_of_json_with_its_place_and_without_what_it_quotes() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("log");
    let _telemetry = install(&log);
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
