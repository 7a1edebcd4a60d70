//! The demo with its bot in a container, on a real engine with a real Chromium: it ends well, and leaves nothing but images.

use std::path::{Path, PathBuf};
use std::process::Command;

fn docker(host: &str, arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).env("DOCKER_HOST", host).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_bot_in_a_container_hears_the_melody() {
    let host = std::env::var("GREENROOM_TEST_DOCKER_HOST").expect("greenroom-servers says where an engine is");
    let demo = PathBuf::from(env!("CARGO_BIN_EXE_greenroom-demo"));
    for name in ["greenroom", "greenroom-bot"] {
        assert!(
            demo.with_file_name(name).is_file(),
            "{name} is not built: cargo build -p greenroom -p greenroom-bot --bins"
        );
    }
    let folder = greenroom_embedded::scratch().unwrap();
    let output = Command::new(demo)
        .args(["--seconds", "6", "--admit-after", "0", "--dir"])
        .arg(folder.path().join("demo"))
        .env("PLATFORM_PRIORITY", "docker")
        .env("DOCKER_HOST", &host)
        .current_dir(folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let log = |name: &str| std::fs::read_to_string(folder.path().join("demo").join(name)).unwrap_or_default();
    assert!(output.status.success(), "{said}\n{}\n{}", log("up.stderr.log"), log("greenroom.log"));
    assert!(said.contains("melody    found"), "{said}");
    for wall in
        ["user 10001", "root read-only", "capabilities dropped [ALL]", "no-new-privileges", "network greenroom-demo"]
    {
        assert!(said.contains(wall), "{wall}: {said}");
    }
    let bot = said.lines().find_map(|line| line.split("a bot was asked for: ").nth(1)).expect("it says which").trim();
    assert_eq!(docker(&host, &["ps", "--all", "--quiet", "--filter", &format!("label=greenroom.dev/id={bot}")]), "");
    let networks = docker(&host, &["network", "ls", "--format", "{{.Name}}"]);
    assert!(!networks.lines().any(|name| name == "greenroom-demo"), "{networks}");
    assert!(!Path::new(&folder.path().join("demo/docker")).exists(), "it had no engine of its own to start");
}
