//! What the double knows: objects with versions, and every change of them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::node::Process;

pub const JOBS: &str = "jobs";
pub const PODS: &str = "pods";
pub const SECRETS: &str = "secrets";
pub const EVENTS: &str = "events";
pub const QUOTAS: &str = "resourcequotas";

/// One change: its version, kind, whether it is added, modified or deleted, and the object then.
#[derive(Clone)]
pub struct Change {
    pub version: u64,
    pub kind: &'static str,
    pub what: &'static str,
    pub object: Value,
}

#[derive(Default)]
pub struct State {
    pub objects: BTreeMap<(&'static str, String), Value>,
    pub version: u64,
    pub changes: VecDeque<Change>,
    /// The oldest version that a watch may begin at.
    pub oldest: u64,
    pub processes: HashMap<String, Process>,
    /// What was asked: method, path and query.
    pub asked: Vec<(String, String)>,
    /// So many pods may be there at once.
    pub quota: Option<usize>,
    /// What an image does that is started without a command.
    pub program: Option<std::path::PathBuf>,
    /// Jobs that fail do not come past the condition that says for what.
    pub at_target: bool,
    /// Secrets are refused with these words.
    pub no_secrets: Option<&'static str>,
    /// No node takes anything.
    pub full: bool,
    /// Nodes are busy pulling images.
    pub pulling: bool,
    /// What `SelfSubjectAccessReview` denies: verb and resource.
    pub denied: Vec<(&'static str, &'static str)>,
    /// The level of pod security that the namespace enforces.
    pub level: Option<&'static str>,
    /// Whether there is a metrics server.
    pub metrics: bool,
}

#[derive(Clone)]
pub struct Store {
    state: Arc<Mutex<State>>,
    version: watch::Sender<u64>,
}

pub fn now() -> String {
    format!("{:.0}", Timestamp::now())
}

impl Store {
    pub fn new() -> Self {
        Self { state: Arc::default(), version: watch::Sender::new(0) }
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something, and wakes whoever watches.
    pub fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let done = change(&mut state);
        self.version.send_replace(state.version);
        done
    }

    pub fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }
}

impl State {
    fn log(&mut self, kind: &'static str, what: &'static str, object: &mut Value) {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.changes.push_back(Change { version: self.version, kind, what, object: object.clone() });
    }

    pub fn get(&self, kind: &'static str, name: &str) -> Option<&Value> {
        self.objects.get(&(kind, name.to_owned()))
    }

    pub fn of(&self, kind: &'static str) -> Vec<Value> {
        self.objects.iter().filter(|((is, _), _)| *is == kind).map(|(_, object)| object.clone()).collect()
    }

    /// A new object; none: there is one by that name.
    pub fn add(&mut self, kind: &'static str, mut object: Value) -> Option<Value> {
        let name = object["metadata"]["name"].as_str().expect("a name").to_owned();
        if self.objects.contains_key(&(kind, name.clone())) {
            return None;
        }
        object["metadata"]["namespace"] = "bots".into();
        object["metadata"]["uid"] = uuid::Uuid::new_v4().to_string().into();
        object["metadata"]["creationTimestamp"] = now().into();
        self.log(kind, "ADDED", &mut object);
        self.objects.insert((kind, name), object.clone());
        Some(object)
    }

    /// Another state of an object that is there. One that is deleted and kept by nobody any more goes.
    pub fn put(&mut self, kind: &'static str, name: &str, mut object: Value) {
        let gone = object["metadata"]["deletionTimestamp"].is_string()
            && object["metadata"]["deletionGracePeriodSeconds"] == json!(0)
            && object["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty);
        if gone {
            self.remove(kind, name);
        } else if self.get(kind, name) != Some(&object) {
            self.log(kind, "MODIFIED", &mut object);
            self.objects.insert((kind, name.to_owned()), object);
        }
    }

    pub fn remove(&mut self, kind: &'static str, name: &str) {
        if let Some(mut object) = self.objects.remove(&(kind, name.to_owned())) {
            self.log(kind, "DELETED", &mut object);
        }
    }

    /// Changes before now are not known any more.
    pub fn compact(&mut self) {
        self.changes.clear();
        self.oldest = self.version;
    }

    /// Deletes a pod as the API does: what has no node is over at once, what has one when its node says so.
    pub fn delete_pod(&mut self, name: &str, grace: i64) {
        let Some(mut pod) = self.get(PODS, name).cloned() else { return };
        let metadata = &pod["metadata"];
        let (deleted, before) =
            (metadata["deletionTimestamp"].is_string(), metadata["deletionGracePeriodSeconds"].as_i64());
        let grace = if pod["spec"]["nodeName"].is_string() { grace } else { 0 };
        if deleted && before.is_some_and(|before| before <= grace) {
            return;
        }
        let at = Timestamp::now() + jiff::SignedDuration::from_secs(grace);
        pod["metadata"]["deletionTimestamp"] = format!("{at:.0}").into();
        pod["metadata"]["deletionGracePeriodSeconds"] = grace.into();
        self.put(PODS, name, pod);
    }

    /// What a Job says of why it has no pods.
    pub fn event(&mut self, job: &Value, message: &str) {
        let name = format!("{}.failed", job["metadata"]["name"].as_str().expect("a name"));
        let event = json!({
            "metadata": { "name": name }, "reason": "FailedCreate", "type": "Warning", "message": message,
            "lastTimestamp": now(),
            "involvedObject": { "kind": "Job", "name": job["metadata"]["name"], "uid": job["metadata"]["uid"] },
        });
        self.add(EVENTS, event);
    }
}

/// JSON merge patch.
pub fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            target.as_object_mut().expect("an object").remove(key);
        } else {
            merge(&mut target[key], value);
        }
    }
}

/// `a=b,c=d`.
pub fn selects(selector: &str, of: impl Fn(&str) -> Option<String>) -> bool {
    selector.split(',').filter(|term| !term.is_empty()).all(|term| {
        let (key, value) = term.split_once('=').expect("only equality is known here");
        of(key).as_deref() == Some(value)
    })
}
