//! Settings of Kubernetes platforms.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use greenroom_chassis::Settings;
use greenroom_deployer::Images;

use crate::placing::{Pair, PullPolicy, Seccomp, Toleration};
use crate::quantity::Amount;
use crate::session;

/// How runners are run on one cluster.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the cluster is and who we are there; none: we are in it.
    pub kubeconfig: Option<PathBuf>,
    /// Which context of the kubeconfig; none: its current one.
    pub context: Option<String>,
    /// Where runners live; none: as the kubeconfig says, or where we are ourselves.
    pub namespace: Option<String>,
    /// Which images runners have.
    pub images: Images,
    /// When nodes look for a newer image.
    pub pull_policy: PullPolicy,
    /// Secrets of the namespace that may pull images.
    pub pull_secrets: Vec<String>,
    /// First pulls of an image are single-flight.
    pub pull_lock: bool,
    /// What runners ask for, and may take, where bots say nothing of their own.
    pub sizes: Sizes,
    /// Where runners may run, and how they are spread.
    pub placing: Placing,
    /// How they are kept apart from everything else.
    pub walls: Walls,
    /// Between SIGTERM and SIGKILL when somebody else than us ends a pod, and the longest grace of ours.
    pub grace: Duration,
    /// How long an ended Job stays that nobody removed.
    pub ttl: Duration,
    /// How long an image that cannot be pulled, or a container that cannot be made, is tried again by the node.
    pub start_patience: Duration,
    /// How long a pod may wait for a node that takes it.
    pub unschedulable: Duration,
    /// How long the API may take over one answer.
    pub timeout: Duration,
    /// How often the API is asked in a second, at most.
    pub requests_per_second: u32,
    /// The second container of sessions.
    pub session: session::Config,
    /// What is run instead of the image's own entry point. Not a setting: for tests, whose images have none.
    pub command: Vec<String>,
}

/// What runners of the usual size ask for here, and what they may take.
#[derive(Debug, Clone, Default)]
pub struct Sizes {
    /// What the rest of the installation asks for, in thousandths of a processor and bytes.
    pub usual: (u32, u64),
    /// Instead of the usual processor.
    pub cpu_request: Option<Amount>,
    /// Instead of the usual memory.
    pub memory_request: Option<Amount>,
    /// What one that asks for the usual processor may take.
    pub cpu_limit: Option<Amount>,
    /// What one that asks for the usual memory may take.
    pub memory_limit: Option<Amount>,
    /// (its limit anywhere else, here), in bytes: where nobody has set anything about memory.
    pub usual_limit: Option<(u64, u64)>,
}

/// Where pods may run.
#[derive(Debug, Clone, Default)]
pub struct Placing {
    /// Labels that a node has to have.
    pub node_selector: BTreeMap<String, String>,
    /// Taints that runners bear.
    pub tolerations: Vec<Toleration>,
    /// Who goes first, and who has to go.
    pub priority_class: Option<String>,
    /// Labels of nodes over whose values runners are spread; empty: not at all.
    pub spread: Vec<String>,
    /// Another scheduler than the cluster's own.
    pub scheduler: Option<String>,
}

/// What keeps runners apart.
#[derive(Debug, Clone)]
pub struct Walls {
    /// gVisor, Kata, …; none: the nodes' own.
    pub runtime_class: Option<String>,
    /// What system calls there are.
    pub seccomp: Seccomp,
    /// Whom runners' pods run as; its token is never handed to them.
    pub service_account: Option<String>,
    /// Size of /dev/shm in bytes, which counts as memory.
    pub shm_bytes: u64,
    /// Size of /tmp in bytes, on the node's disk.
    pub tmp_bytes: u64,
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

impl Config {
    /// Reads the settings.
    pub fn parse(settings: &mut Settings) -> Self {
        settings.section("deployer-k8s");
        let kubeconfig = settings.optional(
            "K8S_KUBECONFIG",
            "Where the cluster is and who we are there; default: the cluster that Greenroom itself runs in.",
        );
        let context = settings.optional("K8S_CONTEXT", "Which context of K8S_KUBECONFIG; default: its current one.");
        let namespace = settings.optional(
            "K8S_NAMESPACE",
            "The namespace of runners; default: the context's, or the one Greenroom itself runs in.",
        );
        let images = Images::parse(settings, "K8S_");
        let pull_policy = settings.get(
            "K8S_IMAGE_PULL_POLICY",
            "IfNotPresent",
            "When nodes pull an image: Always, IfNotPresent or Never.",
        );
        let pull_secrets = settings.list(
            "K8S_IMAGE_PULL_SECRETS",
            "",
            "Secrets of the namespace that may pull images (kubectl create secret docker-registry), beside REGISTRY_USERNAME.",
        );
        let pull_lock = settings.get(
            "K8S_IMAGE_PULL_LOCK_ENABLED",
            "true",
            "Whether the first runner of an image goes ahead and the others wait until its node has the image.",
        );
        let sizes = sizes(settings);
        let placing = placing(settings);
        let walls = walls(settings);
        let grace = settings.millis(
            "K8S_TERMINATION_GRACE_MS",
            secs(120),
            // No grace of a stop can be longer; twice RELEASE_GRACE_MS.
            "How long a runner may take to end in good order when its pod is deleted, evicted or drained; no stop gives more.",
        );
        let ttl = Duration::from_secs(settings.get(
            "JOB_TTL_SECONDS",
            "3600",
            "How long a Job that has ended stays when nobody removes it, in seconds.",
        ));
        let start_patience = settings.millis(
            "K8S_START_PATIENCE_MS",
            secs(30),
            "How long a node may try again to pull an image or to make a container, before the runner is refused.",
        );
        let unschedulable = settings.millis(
            "K8S_UNSCHEDULABLE_MS",
            secs(60),
            "How long a pod may wait for a node that takes it, before the runner is refused.",
        );
        let timeout =
            settings.millis("K8S_TIMEOUT_MS", secs(10), "How long the Kubernetes API may take over one answer.");
        let requests_per_second: u32 = settings.get(
            "K8S_REQUESTS_PER_SECOND",
            "50",
            "How often a process asks one cluster's API at most; it slows down by itself when the API says 429.",
        );
        if requests_per_second == 0 {
            settings.problem("K8S_REQUESTS_PER_SECOND", "must be at least 1");
        }
        let session = session::Config::parse(settings);
        Self {
            kubeconfig,
            context,
            namespace,
            images,
            pull_policy,
            pull_secrets,
            pull_lock,
            sizes,
            placing,
            walls,
            grace,
            ttl,
            start_patience,
            unschedulable,
            timeout,
            requests_per_second: requests_per_second.max(1),
            session,
            command: Vec::new(),
        }
    }
}

fn sizes(settings: &mut Settings) -> Sizes {
    let usual_cpu = settings.get(
        "RUNNER_CPU_MILLIS",
        "500",
        "Processor that a runner asks for, in thousandths, where neither request, tenant nor provider says it.",
    );
    let usual_memory: u64 = settings.get("RUNNER_MEMORY_MB", "1024", "Memory that a runner asks for, in MiB.");
    let limit_percent: u64 = settings.get(
        "RUNNER_MEMORY_LIMIT_PERCENT",
        "150",
        "How much memory a runner may take before it is ended, in hundredths of what it asks for.",
    );
    let mut sizes = Sizes {
        usual: (usual_cpu, usual_memory.saturating_mul(1 << 20)),
        cpu_request: settings.optional(
            "K8S_BOT_CPU_REQUEST",
            "Processor that a runner asks for here instead of RUNNER_CPU_MILLIS: 500m. Sizes of bots and providers are kept.",
        ),
        memory_request: settings.optional(
            "K8S_BOT_MEMORY_REQUEST",
            "Memory that a runner asks for here instead of RUNNER_MEMORY_MB: 1Gi. Sizes of bots and providers are kept.",
        ),
        cpu_limit: settings.optional(
            "K8S_BOT_CPU_LIMIT",
            "Processor that a runner may take here that asks for RUNNER_CPU_MILLIS: 1000m.",
        ),
        memory_limit: settings.optional(
            "K8S_BOT_MEMORY_LIMIT",
            "Memory that a runner may take here, before it is ended, that asks for RUNNER_MEMORY_MB. Default: 2Gi, unless RUNNER_MEMORY_MB, RUNNER_MEMORY_LIMIT_PERCENT or K8S_BOT_MEMORY_REQUEST is set.",
        ),
        usual_limit: None,
    };
    if (usual_memory, limit_percent) == (1024, 150) && sizes.memory_request.is_none() && sizes.memory_limit.is_none() {
        sizes.usual_limit = Some((1536 << 20, 2 << 30));
    }
    sizes
}

fn placing(settings: &mut Settings) -> Placing {
    let selector: Vec<Pair> =
        settings.list("K8S_NODE_SELECTOR", "", "Labels that a runner's node has to have: key=value.");
    Placing {
        node_selector: selector.into_iter().map(|Pair(key, value)| (key, value)).collect(),
        tolerations: settings.list(
            "K8S_TOLERATIONS",
            "",
            "Taints of nodes that runners bear: key=value:Effect, key:Effect, or key for any of its effects.",
        ),
        priority_class: settings.optional("K8S_PRIORITY_CLASS", "The priority class of runners' pods."),
        spread: settings.list(
            "K8S_SPREAD_OVER",
            "kubernetes.io/hostname",
            "Labels of nodes over whose values runners are spread where it can be done (topology.kubernetes.io/zone).",
        ),
        scheduler: settings.optional("K8S_SCHEDULER", "The scheduler of runners' pods; default: the cluster's own."),
    }
}

fn walls(settings: &mut Settings) -> Walls {
    let bytes = |settings: &mut Settings, name: &str, default: &str, about| {
        settings.get::<Amount>(name, default, about).whole()
    };
    Walls {
        runtime_class: settings.optional("K8S_RUNTIME_CLASS", "The runtime class of runners' pods: gvisor, kata."),
        seccomp: settings.get(
            "K8S_SECCOMP_PROFILE",
            "RuntimeDefault",
            "System calls of runners: RuntimeDefault, Localhost/FILE or Unconfined. Chromium's own sandbox needs more than RuntimeDefault.",
        ),
        service_account: settings.optional(
            "K8S_SERVICE_ACCOUNT",
            "The service account of runners' pods, which get no token of it; default: the namespace's default.",
        ),
        shm_bytes: bytes(settings, "K8S_SHM_SIZE", "512Mi", "The size of a runner's /dev/shm, which counts as memory."),
        tmp_bytes: bytes(settings, "K8S_TMP_SIZE", "4Gi", "How much a runner may write to /tmp, on the node's disk, before it is evicted."),
    }
}

/// `Always`, …: a word of the API's, in any case.
pub(crate) fn word<T: Copy>(text: &str, known: &[(&'static str, T)]) -> Result<T, String> {
    let found = known.iter().find(|(word, _)| word.eq_ignore_ascii_case(text));
    let words = || known.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
    found.map(|(_, value)| *value).ok_or_else(|| format!("expected {}", words()))
}

impl FromStr for PullPolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        word(text, &Self::ALL.map(|policy| (policy.as_str(), policy)))
    }
}
