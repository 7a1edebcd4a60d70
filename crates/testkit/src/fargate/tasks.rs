//! The tasks, and the process in each.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::sync::watch;

use super::{Behaviour, Shared, lock};

/// How often memory is looked at.
const LOOK: Duration = Duration::from_millis(25);
/// How long lines of one that ended are waited for.
const LAST_LINES: Duration = Duration::from_secs(10);

/// Why a task is to stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// Somebody said so, with these words.
    User(String),
    /// It was lent.
    Spot,
}

/// What a task is made of.
#[derive(Debug)]
pub struct Blueprint {
    task: Value,
    image: String,
    command: Vec<String>,
    environment: BTreeMap<String, String>,
    memory_bytes: u64,
    stop_timeout: Duration,
    log: Option<(String, String)>,
    spot: bool,
    behaviour: Behaviour,
}

impl Blueprint {
    /// From what moto made, what was asked for, and the container's definition.
    pub fn read(mut task: Value, asked: &Value, container: &Value, spot: bool, behaviour: Behaviour) -> Self {
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let over = &asked["overrides"]["containerOverrides"][0];
        let mut environment = BTreeMap::new();
        for pair in [&container["environment"], &over["environment"]].into_iter().filter_map(Value::as_array).flatten()
        {
            environment.insert(word(&pair["name"]), word(&pair["value"]));
        }
        let words = |value: &Value| -> Option<Vec<String>> { Some(value.as_array()?.iter().map(word).collect()) };
        let options = &container["logConfiguration"]["options"];
        let name = word(&container["name"]);
        let arn = word(&task["taskArn"]);
        let id = arn.rsplit('/').next().unwrap_or_default();
        let log = options["awslogs-group"]
            .as_str()
            .map(|group| (group.to_owned(), format!("{}/{name}/{id}", word(&options["awslogs-stream-prefix"]))));
        task["startedBy"] = asked["startedBy"].clone();
        task["tags"] = asked["tags"].clone();
        task["overrides"] = asked["overrides"].clone();
        task["desiredStatus"] = "RUNNING".into();
        task["lastStatus"] = "PROVISIONING".into();
        task["createdAt"] = seconds().into();
        task["containers"] = json!([{ "name": name, "lastStatus": "PENDING" }]);
        Self {
            image: word(&container["image"]),
            command: words(&over["command"]).or_else(|| words(&container["command"])).unwrap_or_default(),
            environment,
            memory_bytes: over["memory"].as_u64().or(container["memory"].as_u64()).unwrap_or(512) << 20,
            stop_timeout: Duration::from_secs(container["stopTimeout"].as_u64().unwrap_or(30)),
            log,
            spot,
            behaviour,
            task,
        }
    }
}

#[derive(Debug)]
struct Record {
    task: Value,
    token: String,
    made_of: Value,
    made_at: Instant,
    unseen: Duration,
    spot: bool,
    group: Option<Pid>,
    stop: watch::Sender<Option<Why>>,
}

/// All there ever were.
#[derive(Debug, Default)]
pub struct Tasks(Mutex<HashMap<String, Record>>);

impl Tasks {
    pub fn start(&self, shared: Arc<Shared>, blueprint: Blueprint, token: String, made_of: Value) -> String {
        let arn = blueprint.task["taskArn"].as_str().unwrap_or_default().to_owned();
        let (stop, stopped) = watch::channel(None);
        let record = Record {
            task: blueprint.task.clone(),
            token,
            made_of,
            made_at: Instant::now(),
            unseen: blueprint.behaviour.unseen,
            spot: blueprint.spot,
            group: None,
            stop,
        };
        lock(&self.0).insert(arn.clone(), record);
        let own = arn.clone();
        tokio::spawn(async move { live(&shared, &own, &blueprint, stopped).await });
        arn
    }

    /// The task that a token made, and of what.
    pub fn of_token(&self, token: &str) -> Option<(String, Value)> {
        let records = lock(&self.0);
        let found = records.iter().find(|(_, record)| !token.is_empty() && record.token == token);
        found.map(|(arn, record)| (arn.clone(), record.made_of.clone()))
    }

    /// As `DescribeTasks` shows it.
    pub fn shown(&self, arn: &str) -> Value {
        lock(&self.0).get(arn).map(|record| record.task.clone()).unwrap_or_default()
    }

    /// Whether it is shown (already).
    pub fn is_seen(&self, arn: &str) -> bool {
        lock(&self.0).get(arn).is_some_and(|record| record.made_at.elapsed() >= record.unseen)
    }

    /// Every task of that name.
    pub fn of(&self, started_by: &str) -> Vec<String> {
        let records = lock(&self.0);
        let named = records.iter().filter(|(_, record)| record.task["startedBy"] == started_by);
        named.map(|(arn, _)| arn.clone()).collect()
    }

    pub fn is_spot(&self, arn: &str) -> bool {
        lock(&self.0).get(arn).is_some_and(|record| record.spot)
    }

    /// How many are not over, on Spot or not, or all of them.
    pub fn alive(&self, spot: Option<bool>) -> usize {
        let records = lock(&self.0);
        let alive = records.values().filter(|record| record.task["lastStatus"] != "STOPPED");
        alive.filter(|record| spot.is_none_or(|spot| record.spot == spot)).count()
    }

    /// False: there is no such task.
    pub fn ask_to_stop(&self, arn: &str, why: Why) -> bool {
        let mut records = lock(&self.0);
        let Some(record) = records.get_mut(arn) else { return false };
        record.task["desiredStatus"] = "STOPPED".into();
        // The first reason counts.
        record.stop.send_if_modified(|now| now.is_none().then(|| *now = Some(why)).is_some());
        true
    }

    pub fn kill_all(&self) {
        for group in lock(&self.0).values().filter_map(|record| record.group) {
            let _ = killpg(group, Signal::SIGKILL);
        }
    }

    fn change(&self, arn: &str, change: impl FnOnce(&mut Record)) {
        if let Some(record) = lock(&self.0).get_mut(arn) {
            change(record);
        }
    }

    fn status(&self, arn: &str, status: &str) {
        self.change(arn, |record| record.task["lastStatus"] = status.into());
    }
}

/// How a task ended.
struct End {
    code: &'static str,
    reason: String,
    exit: Option<i32>,
    container_reason: Option<String>,
}

/// ECS counts time in seconds, with fractions.
fn seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

async fn live(shared: &Arc<Shared>, arn: &str, blueprint: &Blueprint, mut stop: watch::Receiver<Option<Why>>) {
    let end = run(shared, arn, blueprint, &mut stop).await;
    let tasks = &shared.tasks;
    tasks.status(arn, "DEPROVISIONING");
    tasks.change(arn, |record| {
        record.group = None;
        let task = &mut record.task;
        task["desiredStatus"] = "STOPPED".into();
        task["lastStatus"] = "STOPPED".into();
        task["stopCode"] = end.code.into();
        task["stoppedReason"] = end.reason.into();
        task["stoppedAt"] = seconds().into();
        let container = &mut task["containers"][0];
        container["lastStatus"] = "STOPPED".into();
        if let Some(code) = end.exit {
            container["exitCode"] = code.into();
        }
        if let Some(reason) = end.container_reason {
            container["reason"] = reason.into();
        }
    });
}

fn never_ran(code: &'static str, reason: impl Into<String>) -> End {
    End { code, reason: reason.into(), exit: None, container_reason: None }
}

/// The stop code and the words that go with it.
fn asked(why: &Option<Why>) -> (&'static str, String) {
    match why {
        Some(Why::User(reason)) => ("UserInitiated", reason.clone()),
        Some(Why::Spot) => ("SpotInterruption", "Your Spot Task was interrupted.".to_owned()),
        None => ("EssentialContainerExited", "Essential container in task exited".to_owned()),
    }
}

async fn run(shared: &Arc<Shared>, arn: &str, blueprint: &Blueprint, stop: &mut watch::Receiver<Option<Why>>) -> End {
    for status in ["PROVISIONING", "PENDING"] {
        shared.tasks.status(arn, status);
        let half = tokio::time::sleep(blueprint.behaviour.pending / 2);
        tokio::select! {
            () = half => {}
            why = stop.wait_for(Option::is_some) => {
                let (code, reason) = asked(&why.map(|why| why.clone()).unwrap_or_default());
                return never_ran(code, reason);
            }
        }
    }
    if blueprint.image.contains("missing") {
        let why = format!(
            "CannotPullContainerError: pull image manifest has been retried 1 time(s): failed to resolve ref {}: not found",
            blueprint.image
        );
        return never_ran("TaskFailedToStart", why);
    }
    let (child, lines) = match spawn(blueprint) {
        Ok(spawned) => spawned,
        Err(error) => return never_ran("TaskFailedToStart", format!("CannotStartContainerError: {error}")),
    };
    let printing = tokio::spawn(print(shared.clone(), blueprint.log.clone(), lines));
    let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
    shared.tasks.change(arn, |record| {
        record.group = group;
        record.task["lastStatus"] = "RUNNING".into();
        record.task["startedAt"] = seconds().into();
        record.task["containers"][0]["lastStatus"] = "RUNNING".into();
    });
    let (status, greedy) = attend(child, group, blueprint, stop).await;
    // A container's other processes go with its first.
    if let Some(group) = group {
        let _ = killpg(group, Signal::SIGKILL);
    }
    shared.tasks.status(arn, "STOPPING");
    let _ = tokio::time::timeout(LAST_LINES, printing).await;
    let (code, reason) = asked(&stop.borrow());
    let exit = status.map(|status| status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)));
    let oom = "OutOfMemoryError: Container killed due to memory usage".to_owned();
    End { code, reason, exit, container_reason: greedy.then_some(oom) }
}

fn spawn(blueprint: &Blueprint) -> std::io::Result<(Child, pipe::Receiver)> {
    let (program, arguments) =
        blueprint.command.split_first().ok_or_else(|| std::io::Error::other("no command is specified"))?;
    let (reader, writer) = std::io::pipe()?;
    let child = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .envs(&blueprint.environment)
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    Ok((child, pipe::Receiver::from_owned_fd(OwnedFd::from(reader))?))
}

/// Until it ends: by itself, for a signal after it was asked, or because it took too much memory (which is what its first
/// process has).
async fn attend(
    mut child: Child,
    id: Option<Pid>,
    blueprint: &Blueprint,
    stop: &mut watch::Receiver<Option<Why>>,
) -> (Option<ExitStatus>, bool) {
    let mut force_at = None;
    let mut greedy = false;
    let mut look = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            status = child.wait() => return (status.ok(), greedy),
            _ = stop.wait_for(Option::is_some), if force_at.is_none() => {
                force_at = Some(tokio::time::Instant::now() + blueprint.stop_timeout);
                if let Some(id) = id {
                    let _ = kill(id, Signal::SIGTERM);
                }
            }
            _ = look.tick() => {
                let over = id.and_then(resident).is_some_and(|bytes| bytes > blueprint.memory_bytes);
                greedy |= over;
                let late = force_at.is_some_and(|at| tokio::time::Instant::now() >= at);
                if let Some(id) = id.filter(|_| over || late) {
                    let _ = killpg(id, Signal::SIGKILL);
                }
            }
        }
    }
}

/// What it has in memory of its own, in bytes.
fn resident(id: Pid) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}

/// Hands every line to CloudWatch, as soon as it is there.
async fn print(shared: Arc<Shared>, log: Option<(String, String)>, lines: pipe::Receiver) {
    let mut lines = BufReader::new(lines).lines();
    let Some((group, stream)) = log else {
        while let Ok(Some(_)) = lines.next_line().await {}
        return;
    };
    let place = json!({ "logGroupName": group, "logStreamName": stream });
    let _ = shared.moto.ask("logs", "Logs_20140328.CreateLogStream", &place).await;
    while let Ok(Some(line)) = lines.next_line().await {
        let mut put = place.clone();
        #[expect(clippy::cast_possible_truncation, reason = "milliseconds fit for long")]
        let now = (seconds() * 1000.0) as i64;
        put["logEvents"] = json!([{ "timestamp": now, "message": line }]);
        let _ = shared.moto.ask("logs", "Logs_20140328.PutLogEvents", &put).await;
    }
}
