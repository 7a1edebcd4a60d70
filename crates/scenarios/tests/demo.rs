//! The demo itself, with a real Chromium: it ends well, and whichever way it ends, nothing of it is left.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use greenroom_testkit::until;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};

/// For the whole of it: two browsers and ten seconds of a meeting.
const PATIENCE: Duration = Duration::from_secs(360);
/// From Ctrl-C to the end: against a hang.
const TAKEN_DOWN: Duration = Duration::from_secs(180);

/// The demo in a folder of its own, which is in the environment of whatever it starts.
struct Demo {
    folder: tempfile::TempDir,
    child: Child,
}

/// Where nobody may make a user namespace, which is what Chromium's sandbox needs, an ordinary user goes on as `./dev` does.
const RESTRICTED: &str = r#"
set -euo pipefail
echo 0 >/proc/sys/user/max_user_namespaces
. "$0"
check_sandbox demo
exec setpriv --ambient-caps=-all --inh-caps=-all --bounding-set=-all "$@"
"#;

impl Demo {
    fn start() -> Self {
        Self::start_with(Command::new)
    }

    /// On a system that restricts user namespaces.
    fn start_restricted() -> Self {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/prerequisites.sh");
        Self::start_with(|program| {
            let mut command = Command::new("unshare");
            command.args(["--user", "--map-user=1000", "--map-group=1000", "--keep-caps", "bash", "-c", RESTRICTED]);
            command.arg(scripts).arg(program).env_remove("GREENROOM_SANDBOX").stderr(Stdio::piped());
            command
        })
    }

    fn start_with(command: impl FnOnce(PathBuf) -> Command) -> Self {
        let programs = PathBuf::from(env!("CARGO_BIN_EXE_greenroom-node"));
        for name in ["greenroom-demo", "greenroom", "greenroom-bot"] {
            assert!(
                programs.with_file_name(name).is_file(),
                "{name} is not built: cargo build -p greenroom -p greenroom-bot -p greenroom-demo --bins"
            );
        }
        let folder = greenroom_embedded::scratch().expect("a folder");
        // Runners are other users, and put their things there as well.
        let temporary = folder.path().join("tmp");
        fs::create_dir(&temporary).expect("a folder");
        fs::set_permissions(&temporary, Permissions::from_mode(0o1777)).expect("everybody's");
        let child = command(programs.with_file_name("greenroom-demo"))
            .args(["--seconds", "6", "--admit-after", "1", "--dir"])
            .arg(folder.path().join("demo"))
            .env("TMPDIR", &temporary)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the demo starts");
        Self { folder, child }
    }

    fn interrupt(&self) {
        let pid = self.child.id().expect("it runs").to_string();
        let sent = std::process::Command::new("kill").args(["-INT", &pid]).status().expect("kill");
        assert!(sent.success());
    }

    /// The last lines of its logs.
    fn logs(&self) -> String {
        let tail = |name: &str| {
            let log = fs::read_to_string(self.folder.path().join("demo").join(name)).unwrap_or_default();
            let skip = log.lines().count().saturating_sub(40);
            format!("--- {name}\n{}\n", log.lines().skip(skip).collect::<Vec<_>>().join("\n"))
        };
        ["greenroom.log", "up.stderr.log"].map(tail).concat()
    }
}

impl Drop for Demo {
    /// A test that failed leaves nothing either.
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.interrupt();
            let until = Instant::now() + TAKEN_DOWN;
            while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }
}

/// Whoever has the folder's name in their command line or environment and still does anything.
fn left(folder: &Path) -> Vec<String> {
    let name = folder.file_name().expect("a name").as_encoded_bytes().to_vec();
    let names = |path: PathBuf| {
        let text = fs::read(path).unwrap_or_default();
        text.windows(name.len()).any(|part| part == name).then(|| String::from_utf8_lossy(&text).replace('\0', " "))
    };
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    let numbered = processes.filter(|entry| entry.file_name().to_string_lossy().bytes().all(|b| b.is_ascii_digit()));
    numbered
        .filter_map(|entry| {
            let found = names(entry.path().join("cmdline")).is_some() || names(entry.path().join("environ")).is_some();
            let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            found.then(|| {
                format!("{} {}", entry.file_name().display(), String::from_utf8_lossy(&command).replace('\0', " "))
            })
        })
        .collect()
}

#[tokio::test]
async fn the_bot_hears_what_the_host_plays_and_nothing_is_left() {
    let mut demo = Demo::start();
    until("it has begun", Duration::from_secs(10), async || !left(demo.folder.path()).is_empty()).await;
    let mut stdout = demo.child.stdout.take().expect("piped");
    let mut output = String::new();
    let read = tokio::time::timeout(PATIENCE, stdout.read_to_string(&mut output)).await;
    read.unwrap_or_else(|_| panic!("not within {PATIENCE:?}\n{}", demo.logs())).expect("text");
    let status = demo.child.wait().await.expect("it ends");
    assert_eq!(status.code(), Some(0), "{output}\n{}", demo.logs());
    assert!(output.contains("melody    found"), "{output}");
    assert!(output.contains("DONE"), "{output}");
    assert_eq!(left(demo.folder.path()), Vec::<String>::new());
}

#[tokio::test]
async fn where_chromium_has_no_sandbox_the_demo_says_so_and_goes_on() {
    let mut demo = Demo::start_restricted();
    let (mut stdout, mut stderr) = (demo.child.stdout.take().expect("piped"), demo.child.stderr.take().expect("piped"));
    let (mut output, mut said) = (String::new(), String::new());
    let read = async { tokio::join!(stdout.read_to_string(&mut output), stderr.read_to_string(&mut said)) };
    let (first, second) = tokio::time::timeout(PATIENCE, read)
        .await
        .unwrap_or_else(|_| panic!("not within {PATIENCE:?}\n{}", demo.logs()));
    assert!(first.is_ok() && second.is_ok(), "text");
    let status = demo.child.wait().await.expect("it ends");
    assert_eq!(status.code(), Some(0), "{output}\n{said}\n{}", demo.logs());
    assert!(said.contains("so it goes on without (GREENROOM_SANDBOX=off)"), "{said}");
    assert!(output.contains("melody    found") && output.contains("DONE"), "{output}");
}

#[tokio::test]
async fn ctrl_c_in_the_middle_of_a_call_leaves_nothing() {
    let mut demo = Demo::start();
    let mut lines = BufReader::new(demo.child.stdout.take().expect("piped")).lines();
    let mut output = String::new();
    let in_call = async {
        while let Some(line) = lines.next_line().await.expect("text") {
            output.push_str(&line);
            output.push('\n');
            if line.contains("RECORDING") {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, in_call).await.unwrap_or_else(|_| panic!("no call\n{}", demo.logs()));
    assert!(output.contains("RECORDING"), "{output}\n{}", demo.logs());
    let before = left(demo.folder.path());
    assert!(before.len() > 5, "servers and two browsers: {before:#?}");

    demo.interrupt();
    let interrupted = Instant::now();
    let ended = tokio::time::timeout(TAKEN_DOWN, demo.child.wait()).await;
    let status = ended.unwrap_or_else(|_| panic!("it goes on: {:#?}", left(demo.folder.path()))).expect("it ends");
    println!("taken down in {:?}", interrupted.elapsed());
    assert_eq!(status.code(), Some(130), "{}", demo.logs());
    assert_eq!(left(demo.folder.path()), Vec::<String>::new());
}
