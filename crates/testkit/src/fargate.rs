//! A Fargate that is not there: moto knows what a request has to look like, this brings its tasks to life.
//!
//! moto answers like ECS and runs nothing. This stands in front of it, passes everything on, and for each task that moto takes
//! runs the container's command with its environment as a local process, so that exit codes, signals, memory, lines and times
//! are real. What moto has not got it adds: states on the way (`PROVISIONING`, `PENDING`), `stopCode`, `stoppedReason`, exit
//! codes, `clientToken` as AWS documents it, capacity that is not there, what is not shown yet, pages, and the lines that a
//! task prints, which it hands to moto's CloudWatch as the `awslogs` driver does.
//!
//! What it does not do: containers (a process is all there is: no image, no user, no network of its own), more than one
//! container in a task, volumes, roles and policies, machines of one's own (moto refuses tasks where there are none), and
//! anything that has to do with money.

mod calls;
mod moto;
mod tasks;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use moto::Moto;
use tasks::{Tasks, Why};

/// How it behaves at present.
#[derive(Debug, Clone, Copy)]
pub struct Behaviour {
    /// Tasks that it has room for, on demand; none: any number.
    pub room: Option<usize>,
    /// Tasks that it has room for on Spot.
    pub spot_room: Option<usize>,
    /// How long a task is on its way before it runs.
    pub pending: Duration,
    /// How long a new task is neither listed nor described.
    pub unseen: Duration,
    /// How many of the next starts it refuses because they come too fast.
    pub too_fast: usize,
    /// A token is spent on a request that found no room, too. AWS does not say whether it is.
    pub spends_tokens: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        let pending = Duration::from_millis(20);
        Self { room: None, spot_room: None, pending, unseen: Duration::ZERO, too_fast: 0, spends_tokens: false }
    }
}

/// It runs until the last of its clones is dropped, and takes every process of its tasks with it.
#[derive(Debug, Clone)]
pub struct Fargate {
    address: SocketAddr,
    shared: Arc<Shared>,
    _guard: Arc<Guard>,
}

/// Ends it.
#[derive(Debug)]
struct Guard {
    shared: Arc<Shared>,
    _stop: DropGuard,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.shared.tasks.kill_all();
    }
}

/// What its calls and its tasks share.
#[derive(Debug)]
struct Shared {
    moto: Moto,
    tasks: Tasks,
    behaviour: Mutex<Behaviour>,
    actions: Mutex<BTreeSet<String>>,
    /// Looks through stopped tasks that were begun.
    looks: AtomicUsize,
    /// Held while a task is started: a token is looked up and used in one go.
    starting: tokio::sync::Mutex<calls::Starting>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The region of everything here.
pub const REGION: &str = "eu-central-1";
/// The log group of everything here.
pub const LOG_GROUP: &str = "/ecs/greenroom";

impl Fargate {
    /// Starts moto, by its program, and stands in front of it.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start(moto: &Path) -> Self {
        let moto = Moto::start(moto).await;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let shared = Arc::new(Shared {
            moto,
            tasks: Tasks::default(),
            behaviour: Mutex::default(),
            actions: Mutex::default(),
            looks: AtomicUsize::default(),
            starting: tokio::sync::Mutex::default(),
        });
        let stop = CancellationToken::new();
        let (routes, stopped) = (calls::routes(shared.clone()), stop.clone());
        tokio::spawn(async move {
            let served = axum::serve(listener, routes).with_graceful_shutdown(stopped.cancelled_owned());
            let _ = served.await;
        });
        let guard = Guard { shared: shared.clone(), _stop: stop.drop_guard() };
        let this = Self { address, shared, _guard: Arc::new(guard) };
        this.ask("logs", "Logs_20140328.CreateLogGroup", &json!({ "logGroupName": LOG_GROUP })).await;
        this
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://` and where it listens.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Asks moto itself, as whoever sets up an account would.
    ///
    /// # Panics
    /// When moto refuses.
    pub async fn ask(&self, service: &str, target: &str, body: &Value) -> Value {
        let (status, said) = self.shared.moto.ask(service, target, body).await.expect("moto answers");
        assert!(status < 300, "{target}: {status} {said}");
        said
    }

    /// Makes a cluster with Fargate's capacity providers.
    pub async fn make_cluster(&self, name: &str) {
        let cluster = json!({ "clusterName": name, "capacityProviders": ["FARGATE", "FARGATE_SPOT"] });
        self.ask("ecs", "AmazonEC2ContainerServiceV20141113.CreateCluster", &cluster).await;
    }

    /// Makes a task definition as hardened as ours, of which each task runs `command`. Images whose name contains `missing`
    /// cannot be pulled.
    pub async fn make_task_definition(&self, family: &str, image: &str, command: &[&str], stop_timeout: u32) {
        let definition = json!({
            "family": family,
            "networkMode": "awsvpc",
            "requiresCompatibilities": ["FARGATE"],
            "cpu": "1024",
            "memory": "2048",
            "executionRoleArn": "arn:aws:iam::123456789012:role/greenroom-execution",
            "containerDefinitions": [{
                "name": "bot",
                "image": image,
                "command": command,
                "essential": true,
                "memory": 2048,
                "user": "10001:10001",
                "readonlyRootFilesystem": true,
                "linuxParameters": { "capabilities": { "drop": ["ALL"] } },
                "stopTimeout": stop_timeout,
                "logConfiguration": { "logDriver": "awslogs", "options": {
                    "awslogs-group": LOG_GROUP, "awslogs-region": REGION, "awslogs-stream-prefix": "bot",
                } },
            }],
        });
        self.ask("ecs", "AmazonEC2ContainerServiceV20141113.RegisterTaskDefinition", &definition).await;
    }

    /// A subnet and a security group that there are.
    pub async fn network(&self) -> (String, String) {
        self.shared.moto.network().await
    }

    /// Changes how it behaves.
    pub fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut lock(&self.shared.behaviour));
    }

    /// What was asked of it so far: `ecs:RunTask`.
    #[must_use]
    pub fn actions(&self) -> BTreeSet<String> {
        lock(&self.shared.actions).clone()
    }

    /// How often somebody began to look through all tasks that stopped.
    #[must_use]
    pub fn looks_through_stopped(&self) -> usize {
        self.shared.looks.load(Ordering::Relaxed)
    }

    /// How many starts were refused for coming too fast.
    pub async fn refused(&self) -> usize {
        self.shared.starting.lock().await.refused
    }

    /// When each start came, refused or not.
    pub async fn came(&self) -> Vec<Instant> {
        self.shared.starting.lock().await.came.clone()
    }

    /// How many tasks were ever started under that name.
    #[must_use]
    pub fn started(&self, started_by: &str) -> usize {
        self.shared.tasks.of(started_by).len()
    }

    /// Starts a task as somebody else would, who is none of ours.
    ///
    /// # Panics
    /// When ECS refuses.
    pub async fn run_by_hand(&self, asked: &Value) {
        let client = reqwest::Client::new();
        let request = client
            .post(self.url())
            .header("x-amz-target", "AmazonEC2ContainerServiceV20141113.RunTask")
            .header("authorization", format!("AWS4-HMAC-SHA256 Credential=test/20260101/{REGION}/ecs/aws4_request"))
            .body(asked.to_string());
        let answer = request.send().await.expect("it answers");
        assert!(answer.status().is_success(), "{:?}", answer.text().await);
    }

    /// How many tasks are not over.
    #[must_use]
    pub fn alive(&self) -> usize {
        self.shared.tasks.alive(None)
    }

    /// How many tasks of that name are neither over nor asked to end.
    #[must_use]
    pub fn alive_of(&self, started_by: &str) -> usize {
        let tasks = self.shared.tasks.of(started_by).into_iter().map(|arn| self.shared.tasks.shown(&arn));
        tasks.filter(|task| task["desiredStatus"] == "RUNNING").count()
    }

    /// The capacity that the tasks of that name run on.
    #[must_use]
    pub fn capacity_of(&self, started_by: &str) -> Vec<&'static str> {
        let spot = |arn: String| if self.shared.tasks.is_spot(&arn) { "FARGATE_SPOT" } else { "FARGATE" };
        self.shared.tasks.of(started_by).into_iter().map(spot).collect()
    }

    /// Asks the tasks of that name back, as Spot does.
    pub fn interrupt(&self, started_by: &str) {
        for arn in self.shared.tasks.of(started_by) {
            self.shared.tasks.ask_to_stop(&arn, Why::Spot);
        }
    }
}
