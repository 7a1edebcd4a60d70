//! The double's node: it runs containers as local processes, held to their memory by looking at it.

use std::fs::{self, File};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::store::{PODS, SECRETS, State, now};

/// A container at work.
pub struct Process {
    child: Child,
    memory: u64,
    greedy: bool,
    force_at: Option<Instant>,
    started: String,
}

impl Process {
    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("a pid");
        let _ = killpg(Pid::from_raw(pid), signal);
    }

    fn resident(&self) -> u64 {
        let statm = fs::read_to_string(format!("/proc/{}/statm", self.child.id())).unwrap_or_default();
        let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
        pages * 4096
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

pub fn log_of(folder: &Path, pod: &Value) -> PathBuf {
    folder.join(pod["metadata"]["uid"].as_str().expect("a uid"))
}

/// Waiting is the container's state for this.
fn waits(state: &mut State, name: &str, mut pod: Value, reason: &str, message: &str) {
    pod["status"]["containerStatuses"] = json!([{ "name": "runner", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "waiting": { "reason": reason, "message": message } } }]);
    state.put(PODS, name, pod);
}

/// One look at one pod that the node has.
pub fn turn(state: &mut State, name: &str, folder: &Path) {
    let Some(pod) = state.get(PODS, name).cloned() else { return };
    let deleting = pod["metadata"]["deletionTimestamp"].is_string();
    if state.processes.contains_key(name) {
        return watch(state, name, pod, folder);
    }
    let phase = pod["status"]["phase"].as_str().unwrap_or("Pending").to_owned();
    if deleting {
        let mut pod = pod;
        if phase == "Pending" {
            pod["status"]["phase"] = "Failed".into();
        }
        // As the API has it: when it was asked for, and the grace that is left of it.
        let grace = pod["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
        let by: jiff::Timestamp =
            pod["metadata"]["deletionTimestamp"].as_str().and_then(|at| at.parse().ok()).expect("a time");
        pod["metadata"]["deletionTimestamp"] = format!("{:.0}", by - jiff::SignedDuration::from_secs(grace)).into();
        pod["metadata"]["deletionGracePeriodSeconds"] = 0.into();
        return state.put(PODS, name, pod);
    }
    if phase == "Pending" {
        begin(state, name, pod, folder);
    }
}

fn begin(state: &mut State, name: &str, mut pod: Value, folder: &Path) {
    let container = pod["spec"]["containers"][0].clone();
    if container["image"].as_str().is_some_and(|image| image.contains("no-such-image")) {
        return waits(state, name, pod, "ErrImagePull", "rpc error: manifest unknown");
    }
    if state.pulling {
        return waits(state, name, pod, "ContainerCreating", "");
    }
    let mut environment = Vec::new();
    for from in container["envFrom"].as_array().into_iter().flatten() {
        let secret = from["secretRef"]["name"].as_str().expect("a name");
        let Some(secret) = state.get(SECRETS, secret) else {
            return waits(state, name, pod, "CreateContainerConfigError", &format!("secret {secret:?} not found"));
        };
        for (key, value) in secret["data"].as_object().into_iter().flatten() {
            let value =
                base64::engine::general_purpose::STANDARD.decode(value.as_str().expect("text")).expect("base64");
            environment.push((key.clone(), String::from_utf8(value).expect("text")));
        }
    }
    let mut words: Vec<&str> =
        container["command"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let program = state.program.clone();
    if words.is_empty() {
        words.extend(program.as_ref().and_then(|program| program.to_str()));
    }
    let log = log_of(folder, &pod);
    let out = File::create(&log).expect("a file");
    let child = Command::new(words[0])
        .args(&words[1..])
        .env_clear()
        .env("PATH", std::env::var("PATH").unwrap_or_default())
        .envs(environment)
        .stdin(Stdio::null())
        .stdout(out.try_clone().expect("a file"))
        .stderr(out)
        .process_group(0)
        .spawn()
        .expect("a shell");
    let memory = container["resources"]["limits"]["memory"].as_str().and_then(|bytes| bytes.parse().ok());
    let started = now();
    pod["status"]["phase"] = "Running".into();
    pod["status"]["containerStatuses"] = json!([{ "name": "runner", "image": "", "imageID": "", "ready": true, "restartCount": 0,
            "state": { "running": { "startedAt": started } } }]);
    let process = Process { child, memory: memory.unwrap_or(u64::MAX), greedy: false, force_at: None, started };
    state.processes.insert(name.to_owned(), process);
    state.put(PODS, name, pod);
}

/// One look at a container that ran a moment ago.
fn watch(state: &mut State, name: &str, mut pod: Value, folder: &Path) {
    let process = state.processes.get_mut(name).expect("it was there");
    if process.resident() > process.memory {
        process.greedy = true;
        process.signal(Signal::SIGKILL);
    }
    if pod["metadata"]["deletionTimestamp"].is_string() {
        let grace = pod["metadata"]["deletionGracePeriodSeconds"].as_u64().unwrap_or(0);
        let at = Instant::now() + Duration::from_secs(grace);
        if process.force_at.is_none() {
            process.signal(Signal::SIGTERM);
        }
        // A shorter grace said later counts.
        process.force_at = Some(process.force_at.map_or(at, |before| before.min(at)));
        if process.force_at.is_some_and(|at| Instant::now() >= at) {
            process.signal(Signal::SIGKILL);
        }
    }
    let Ok(Some(status)) = process.child.try_wait() else { return };
    // Whatever it left behind goes with its namespaces.
    process.signal(Signal::SIGKILL);
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    let reason = match (process.greedy, code) {
        (true, _) => "OOMKilled",
        (false, 0) => "Completed",
        (false, _) => "Error",
    };
    let ended = json!({
        "exitCode": code, "reason": reason, "startedAt": process.started, "finishedAt": now(),
    });
    state.processes.remove(name);
    if pod["metadata"]["deletionTimestamp"].is_string() {
        // It tidies up what is deleted.
        let _ = fs::remove_file(log_of(folder, &pod));
    }
    pod["status"]["phase"] = if code == 0 { "Succeeded" } else { "Failed" }.into();
    pod["status"]["containerStatuses"][0]["state"] = json!({ "terminated": ended });
    state.put(PODS, name, pod);
}
