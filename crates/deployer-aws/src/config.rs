//! Settings of platforms of kind `aws`.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use greenroom_chassis::Settings;
use greenroom_deployer::Images;
use greenroom_domain::Provider;
use secrecy::SecretString;

use crate::place::{FARGATE_SPOT, Places, Spot};
use crate::size::Usual;

/// How runners are run at AWS.
#[derive(Debug, Clone)]
pub struct Config {
    /// `eu-central-1`.
    pub region: String,
    /// Who we are, where that is not the SDK's own business (environment, profile, web identity, task role, instance role).
    pub credentials: Option<Credentials>,
    /// The profile of the SDK's files.
    pub profile: Option<String>,
    /// Where everything is asked instead of at AWS.
    pub endpoint: Option<String>,
    /// The cluster.
    pub cluster: String,
    /// Where tasks with an address of their own get it.
    pub network: Network,
    /// What tasks are made of.
    pub definitions: Definitions,
    /// Which capacity is tried, in which order.
    pub places: Places,
    /// Fargate's platform version.
    pub platform_version: String,
    /// What tasks of the usual size have.
    pub usual: Usual,
    /// What runners' images need.
    pub images: Images,
    /// What runners find in their environment beside what their owners gave them.
    pub sandbox: bool,
    /// How fast, and how patient.
    pub pace: Pace,
}

/// Keys that were given to us.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// Their name.
    pub key: String,
    /// What proves them.
    pub secret: SecretString,
    /// For those that do not last.
    pub session: Option<SecretString>,
}

/// Where tasks with an address of their own (`awsvpc`) get it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Better in several zones: AWS spreads over them, and one zone may be full.
    pub subnets: Vec<String>,
    /// Who may speak to them: nobody has to.
    pub security_groups: Vec<String>,
    /// Without one they need a way out of their own: NAT, or endpoints.
    pub public_ip: bool,
}

/// Which task definition a runner is made of: families, of which the latest revision counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Definitions {
    /// By provider.
    pub providers: BTreeMap<Provider, String>,
    /// Of all others.
    pub other: Option<String>,
    /// By a bot's own image: ECS runs no image that no task definition names.
    pub images: BTreeMap<String, String>,
    /// The container in it that is the runner; none: the first that is essential.
    pub container: Option<String>,
}

/// How fast, and how patient.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// How long a call may take.
    pub timeout: Duration,
    /// Between two looks for runners that ended.
    pub poll: Duration,
    /// How long after a start ECS may not know of it.
    pub settle: Duration,
    /// Starts a second.
    pub starts_per_second: u32,
    /// Starts at once after a pause.
    pub start_burst: u32,
}

/// `image=family`.
struct ImageFamily(String, String);

impl FromStr for ImageFamily {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        // An image may have a digest, but no such sign.
        match word.split_once('=') {
            Some((image, family)) if !image.is_empty() && !family.is_empty() => {
                Ok(Self(image.trim().to_owned(), family.trim().to_owned()))
            }
            _ => Err(format!("{word:?}: expected IMAGE=FAMILY")),
        }
    }
}

/// The providers whose task definition is a setting.
const PROVIDERS: [&str; 4] = ["google-meet", "microsoft-teams", "zoom", "web"];

impl Config {
    /// Reads the settings.
    pub fn parse(settings: &mut Settings) -> Self {
        settings.section("deployer-aws");
        let region = settings.required("AWS_REGION", "The region of the cluster: eu-central-1.").unwrap_or_default();
        let cluster = settings.required("AWS_ECS_CLUSTER", "The ECS cluster, by name or ARN.").unwrap_or_default();
        Self {
            region,
            credentials: credentials(settings),
            profile: settings.optional("AWS_PROFILE", "The profile of AWS's own files that credentials come from."),
            endpoint: settings
                .optional("AWS_ENDPOINT_URL", "Where everything is asked instead of at AWS: a proxy or a stand-in."),
            cluster,
            network: network(settings),
            definitions: definitions(settings),
            places: places(settings),
            platform_version: settings.get("AWS_ECS_PLATFORM_VERSION", "LATEST", "Fargate's platform version."),
            usual: usual(settings),
            images: Images::parse(settings, "AWS_ECS_"),
            sandbox: settings.get(
                "AWS_ECS_CHROME_SANDBOX",
                "false",
                "Whether browsers use a sandbox of their own: Fargate lets nobody make one, machines of one's own may.",
            ),
            pace: pace(settings),
        }
    }
}

fn credentials(settings: &mut Settings) -> Option<Credentials> {
    let key: Option<String> = settings.optional(
        "AWS_ACCESS_KEY_ID",
        "Who we are to AWS; default: what AWS's own files, a web identity, a task role or an instance role say.",
    );
    let secret = settings.secret("AWS_SECRET_ACCESS_KEY", "What proves AWS_ACCESS_KEY_ID.");
    let session = settings.secret("AWS_SESSION_TOKEN", "For keys that do not last.");
    if key.is_some() != secret.is_some() {
        settings.problem("AWS_ACCESS_KEY_ID", "is nothing without AWS_SECRET_ACCESS_KEY, and the other way round");
    }
    key.zip(secret).map(|(key, secret)| Credentials { key, secret, session })
}

fn network(settings: &mut Settings) -> Network {
    let mut listed = |name: &str, about: &'static str| {
        let found: Vec<String> = settings.list(name, "", about);
        if found.is_empty() {
            settings.problem(name, format!("is required: {about}"));
        }
        found
    };
    Network {
        subnets: listed(
            "AWS_ECS_SUBNETS",
            "The subnets that tasks are in, with commas between them; of several zones.",
        ),
        security_groups: listed("AWS_ECS_SECURITY_GROUPS", "The security groups of tasks, with commas between them."),
        public_ip: settings.get(
            "AWS_ECS_ASSIGN_PUBLIC_IP",
            "true",
            "Whether a Fargate task gets a public address; in private subnets, false.",
        ),
    }
}

fn definitions(settings: &mut Settings) -> Definitions {
    let mut found = Definitions::default();
    for provider in PROVIDERS {
        let name = format!("AWS_ECS_TASK_DEF_{}", provider.to_uppercase().replace('-', "_"));
        let family: Option<String> = settings.optional(
            &name,
            "The task definition of that provider's bots: a family, of which the latest revision is run.",
        );
        let provider = Provider::new(provider).expect("a name");
        found.providers.extend(family.map(|family| (provider, family)));
    }
    found.other = settings.optional(
        "AWS_ECS_TASK_DEF",
        "The task definition of bots whose provider has none of its own, and of browser sessions.",
    );
    let images: Vec<ImageFamily> = settings.list(
        "AWS_ECS_TASK_DEF_IMAGES",
        "",
        "Task definitions for bots that bring their own image: IMAGE=FAMILY, with commas between them.",
    );
    found.images = images.into_iter().map(|ImageFamily(image, family)| (image, family)).collect();
    found.container = settings.optional(
        "AWS_ECS_CONTAINER",
        "The container of a task definition that is the runner; default: the first that is essential.",
    );
    if found.providers.is_empty() && found.other.is_none() {
        settings.problem("AWS_ECS_TASK_DEF", "is required where no AWS_ECS_TASK_DEF_<PROVIDER> is set");
    }
    found
}

fn places(settings: &mut Settings) -> Places {
    let providers: Vec<String> = settings.list(
        "AWS_ECS_CAPACITY_PROVIDERS",
        "",
        "The cluster's capacity providers, in the order in which they are tried; default: Fargate.",
    );
    let spot = settings.get(
        "AWS_ECS_SPOT",
        "never",
        "Which bots run on Fargate Spot while it has room: never, first-attempt or always. It is asked back with two minutes' notice.",
    );
    let spot_for: Vec<Provider> =
        settings.list("AWS_ECS_SPOT_PROVIDERS", "", "Only bots of these providers run on Fargate Spot; default: all.");
    if providers.iter().any(|name| name == FARGATE_SPOT) && spot == Spot::Never {
        settings.problem("AWS_ECS_CAPACITY_PROVIDERS", "names FARGATE_SPOT, and AWS_ECS_SPOT lets nobody run there");
    }
    if providers.iter().all(|name| name == FARGATE_SPOT) && !providers.is_empty() && spot == Spot::FirstAttempt {
        settings.problem("AWS_ECS_CAPACITY_PROVIDERS", "has nothing but FARGATE_SPOT: where do second attempts run?");
    }
    Places { providers, spot, spot_for: spot_for.into_iter().collect() }
}

fn usual(settings: &mut Settings) -> Usual {
    let cpu: u32 = settings.get(
        "RUNNER_CPU_MILLIS",
        "500",
        "Processor that a runner asks for, in thousandths, where neither request, tenant nor provider says it.",
    );
    let memory: u64 = settings.get("RUNNER_MEMORY_MB", "1024", "Memory that a runner asks for, in MiB.");
    let cpu_units: Option<u32> = settings.optional(
        "AWS_ECS_BOT_CPU",
        "CPU units of a task whose runner asks for RUNNER_CPU_MILLIS; default: 1024 (one vCPU), unless RUNNER_CPU_MILLIS is set. Sizes of bots and providers are kept.",
    );
    let memory_mib: Option<u32> = settings.optional(
        "AWS_ECS_BOT_MEMORY",
        "Memory, in MiB, of a task whose runner asks for RUNNER_MEMORY_MB; default: 2048, unless RUNNER_MEMORY_MB is set. Sizes of bots and providers are kept.",
    );
    for (name, value) in [("AWS_ECS_BOT_CPU", cpu_units), ("AWS_ECS_BOT_MEMORY", memory_mib)] {
        if value == Some(0) {
            settings.problem(name, "must be at least 1");
        }
    }
    Usual {
        asked: (cpu, memory.saturating_mul(1 << 20)),
        // Whoever has set what runners ask for gets that here as well.
        cpu_units: cpu_units.or((cpu == 500).then_some(1024)),
        memory_mib: memory_mib.or((memory == 1024).then_some(2048)),
    }
}

fn pace(settings: &mut Settings) -> Pace {
    Pace {
        timeout: settings.millis("AWS_ECS_TIMEOUT_MS", Duration::from_secs(10), "How long a call to AWS may take."),
        poll: settings.millis(
            "AWS_ECS_POLL_MS",
            Duration::from_secs(5),
            "How often ECS is asked for tasks that ended. A cluster of a hundred tasks costs one call.",
        ),
        settle: settings.millis(
            "AWS_ECS_SETTLE_MS",
            Duration::from_secs(60),
            "How long after a start ECS may not know of it yet: nobody is called gone before.",
        ),
        starts_per_second: settings.get(
            "AWS_ECS_STARTS_PER_SECOND",
            "20",
            "How many tasks are started a second, at most: what Fargate takes. It is less while AWS says so.",
        ),
        start_burst: settings.get(
            "AWS_ECS_START_BURST",
            "100",
            "How many tasks are started at once after a pause: what Fargate takes.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENOUGH: [(&str, &str); 5] = [
        ("AWS_REGION", "us-east-2"),
        ("AWS_ECS_CLUSTER", "meeboter-bots"),
        ("AWS_ECS_SUBNETS", "subnet-xxx,subnet-yyy"),
        ("AWS_ECS_SECURITY_GROUPS", "sg-xxx"),
        ("AWS_ECS_TASK_DEF_ZOOM", "meeboter-zoom-bot"),
    ];

    fn read(given: &[(&str, &str)]) -> Result<Config, Vec<String>> {
        let given = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let mut settings = Settings::new(given, "");
        let config = Config::parse(&mut settings);
        settings.finish().map(|_| config).map_err(|problems| problems.0)
    }

    #[test]
    fn the_settings_of_meeboters_guide_are_sufficient() {
        let config = read(&ENOUGH).expect("enough");
        assert_eq!(config.network.subnets, ["subnet-xxx", "subnet-yyy"]);
        assert!(config.network.public_ip && !config.sandbox && config.credentials.is_none());
        assert_eq!(config.definitions.providers.len(), 1);
        assert_eq!((config.usual.cpu_units, config.usual.memory_mib), (Some(1024), Some(2048)), "as the guide's tasks");
        assert_eq!((config.pace.starts_per_second, config.pace.start_burst), (20, 100));
    }

    #[test]
    fn a_size_that_somebody_set_is_no_default_of_a_guides() {
        let usual = |more: &[(&str, &str)]| {
            let usual = read(&[&ENOUGH[..], more].concat()).expect("valid").usual;
            (usual.cpu_units, usual.memory_mib)
        };
        assert_eq!(usual(&[("RUNNER_CPU_MILLIS", "250")]), (None, Some(2048)));
        assert_eq!(usual(&[("RUNNER_MEMORY_MB", "4096")]), (Some(1024), None));
        let own = [("RUNNER_MEMORY_MB", "4096"), ("AWS_ECS_BOT_MEMORY", "3072"), ("AWS_ECS_BOT_CPU", "512")];
        assert_eq!(usual(&own), (Some(512), Some(3072)));
        let problems = read(&[&ENOUGH[..], &[("AWS_ECS_BOT_CPU", "0")]].concat()).expect_err("nothing");
        assert!(problems[0].starts_with("AWS_ECS_BOT_CPU: must be at least 1"), "{problems:?}");
    }

    #[test]
    fn every_region_is_a_platform_of_its_own() {
        let more =
            [("AWS_EU_REGION", "eu-central-1"), ("AWS_EU_ECS_CLUSTER", "bots-eu"), ("AWS_EU_ECS_SPOT", "always")];
        let given = ENOUGH.iter().chain(&more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let mut settings = Settings::new(given, "");
        let [europe, home] = ["AWS_EU_", "AWS_"].map(|own| settings.owned("AWS_", own, Config::parse));
        assert_eq!((europe.region.as_str(), europe.cluster.as_str()), ("eu-central-1", "bots-eu"));
        assert_eq!((home.region.as_str(), home.cluster.as_str()), ("us-east-2", "meeboter-bots"));
        assert_eq!((europe.places.spot, home.places.spot), (Spot::Always, Spot::Never));
        assert_eq!(europe.network, home.network, "what nobody said of Europe holds there as well");
    }

    #[test]
    fn everything_that_is_missing_is_said_at_once() {
        let problems = read(&[]).expect_err("five are missing");
        let names: Vec<&str> =
            problems.iter().filter_map(|problem| problem.split_once(": is required")).map(|(name, _)| name).collect();
        assert_eq!(
            names,
            ["AWS_REGION", "AWS_ECS_CLUSTER", "AWS_ECS_SUBNETS", "AWS_ECS_SECURITY_GROUPS", "AWS_ECS_TASK_DEF"],
            "{problems:?}"
        );
    }

    #[test]
    fn conflicting_settings_are_reported() {
        for (more, expected) in [
            (vec![("AWS_ACCESS_KEY_ID", "AKIA")], "AWS_ACCESS_KEY_ID: is nothing without"),
            (
                vec![("AWS_ECS_TASK_DEF_IMAGES", "ghcr.io/x/y:1")],
                "AWS_ECS_TASK_DEF_IMAGES: \"ghcr.io/x/y:1\": expected",
            ),
            (
                vec![("AWS_ECS_CAPACITY_PROVIDERS", "ours,FARGATE_SPOT")],
                "AWS_ECS_CAPACITY_PROVIDERS: names FARGATE_SPOT",
            ),
            (
                vec![("AWS_ECS_CAPACITY_PROVIDERS", "FARGATE_SPOT"), ("AWS_ECS_SPOT", "first-attempt")],
                "AWS_ECS_CAPACITY_PROVIDERS: has nothing but",
            ),
            (vec![("AWS_ECS_SPOT", "sometimes")], "AWS_ECS_SPOT: \"sometimes\": expected never"),
        ] {
            let problems = read(&[&ENOUGH[..], &more[..]].concat()).expect_err(expected);
            assert!(problems.iter().any(|problem| problem.starts_with(expected)), "{problems:?}");
        }
        let images = [&ENOUGH[..], &[("AWS_ECS_TASK_DEF_IMAGES", "ghcr.io/x/y:1=own, b@sha256:0=other")]].concat();
        let found = read(&images).expect("valid").definitions.images;
        assert_eq!(found.get("ghcr.io/x/y:1").map(String::as_str), Some("own"));
        assert_eq!(found.len(), 2);
    }
}
