//! A runner that was started ahead, and is told what to attend.

use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Output, Stdio};

fn waits(said: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_greenroom-bot"));
    command.arg("wait").env_clear().env("ATTEMPT", "1");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(said.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn complaint(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn it_begins_with_the_environment_of_the_first_line() {
    let ended =
        waits("{\"environment\":{\"GREENROOM_URL\":\"http://x\",\"BOT_ID\":\"nobody\"}}\n{\"environment\":{}}\n");
    // As if it had been started so: the address is as it should be, the bot is nobody.
    assert!(complaint(&ended).contains("BOT_ID"), "{ended:?}");
    assert_eq!(ended.status.code(), Some(2));
}

#[test]
fn it_ends_when_nobody_comes_and_says_nothing_of_what_it_does_not_understand() {
    assert_eq!(waits("").status.code(), Some(3));
    let ended = waits("{\"environment\":{\"GREENROOM_TOKEN\":\"hush\"\n");
    assert_eq!(ended.status.code(), Some(2));
    assert!(!complaint(&ended).contains("hush"), "{ended:?}");
}

#[test]
fn its_lifetime_ends_it_whatever_it_is_at() {
    // Nobody answers at that address: it asks again and again.
    let said = serde_json::json!({
        "lifetimeMs": 1,
        "environment": {
            "GREENROOM_URL": "http://127.0.0.1:1", "GREENROOM_TOKEN": "t",
            "BOT_ID": "01890a5d-ac96-774b-bcce-b302099a8057", "TMPDIR": std::env::temp_dir(),
        },
    });
    let ended = waits(&format!("{said}\n"));
    assert_eq!(ended.status.signal(), Some(14), "{ended:?}");
}
