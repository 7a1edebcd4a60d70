//! Settings of Docker platforms.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use greenroom_chassis::Settings;
use greenroom_deployer::Images;

use crate::address::{Address, HostEntry};

/// Where Docker listens when nobody says otherwise.
const LOCAL: &str = "unix:///var/run/docker.sock";

/// How runners are run on Docker.
#[derive(Debug, Clone)]
pub struct Config {
    /// The engines, in the order in which they were named. Never empty.
    pub hosts: Vec<HostEntry>,
    /// The folder with `ca.pem`, `cert.pem` and `key.pem` for engines behind TLS.
    pub certificates: Option<PathBuf>,
    /// Which image runners have, and who may pull it.
    pub images: Images,
    /// When images are pulled.
    pub pull: Pull,
    /// How long a pull may say nothing.
    pub pull_quiet: Duration,
    /// The network that runners are in; none: one of our own.
    pub network: Option<String>,
    /// How long any call may take.
    pub timeout: Duration,
    /// How long making and starting a container may take, each.
    pub start_timeout: Duration,
    /// Bytes of `/dev/shm`.
    pub shm_bytes: u64,
    /// Bytes of `/tmp`.
    pub tmp_bytes: u64,
    /// Processes and threads of one runner.
    pub pids: u32,
    /// Bytes of what a runner prints that the engine keeps.
    pub log_bytes: u64,
    /// Chromium's own sandbox can be made in these containers.
    pub sandbox: bool,
    /// A seccomp profile, instead of Docker's own.
    pub seccomp: Option<PathBuf>,
    /// Graphics cards for every runner.
    pub gpus: Option<Gpus>,
    /// A volume or folder that runners leave their parts in.
    pub recordings: Option<Volume>,
    /// So many containers wait for each image that can wait.
    pub warm: u32,
    /// How old a waiting container gets.
    pub warm_age: Duration,
    /// What is run instead of what the image says. Not a setting: for tests.
    pub command: Option<Vec<String>>,
}

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pull {
    /// When the host has none of that name.
    Missing,
    /// Before every start: a tag may have moved.
    Always,
    /// Somebody else sees to it.
    Never,
}

impl FromStr for Pull {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "missing" => Ok(Self::Missing),
            "always" => Ok(Self::Always),
            "never" => Ok(Self::Never),
            _ => Err("expected missing, always or never".to_owned()),
        }
    }
}

/// Which graphics cards a runner gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gpus {
    /// Every one of its host.
    All,
    /// So many, whichever.
    Count(u32),
    /// These.
    Devices(Vec<String>),
}

impl FromStr for Gpus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "all" => Ok(Self::All),
            "" | "0" => Err("expected all, a number, or device=<id>,…".to_owned()),
            text => match text.strip_prefix("device=") {
                Some(devices) => Ok(Self::Devices(devices.split(',').map(|id| id.trim().to_owned()).collect())),
                None => {
                    text.parse().map(Self::Count).map_err(|_| "expected all, a number, or device=<id>,…".to_owned())
                }
            },
        }
    }
}

/// Something of the host that runners write into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// A volume's name, or a folder of the host.
    pub source: String,
    /// Where runners find it.
    pub target: String,
}

impl FromStr for Volume {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (source, target) = text.split_once(':').unwrap_or((text, "/recordings"));
        if source.is_empty() || !target.starts_with('/') || target.contains(':') {
            return Err("expected <volume or folder>:</path in the runner>".to_owned());
        }
        // As it is given to the engine, so that nothing else is looked at than what runners get.
        let source = if source.starts_with('/') { plain(source) } else { source.to_owned() };
        if source.ends_with("docker.sock") || is_of_the_machine(&source) {
            return Err(NOT_THAT.to_owned());
        }
        Ok(Self { source, target: target.to_owned() })
    }
}

const NOT_THAT: &str = "runners do not get that";
/// Of these they get nothing that is in them, either.
const NEVER_IN: [&str; 4] = ["/run", "/proc", "/sys", "/dev"];

/// An absolute path without `.`, `..` and doubled slashes. Links of the host are not seen from here.
fn plain(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// `/var/run` is another name of `/run`, nearly everywhere.
fn real(plain: &str) -> &str {
    let rest = plain.strip_prefix("/var").unwrap_or_default();
    if rest == "/run" || rest.starts_with("/run/") { rest } else { plain }
}

fn is_of_the_machine(source: &str) -> bool {
    let path = Path::new(real(source));
    path == Path::new("/") || path == Path::new("/etc") || NEVER_IN.iter().any(|never| path.starts_with(never))
}

impl Volume {
    /// Whether an engine's socket is that, or somewhere in it: whoever opens it is root of its host.
    fn holds(&self, address: &Address) -> bool {
        let Address::Unix(socket) = address else { return false };
        let socket = plain(&socket.to_string_lossy());
        self.source.starts_with('/')
            && (Path::new(&socket).starts_with(&self.source)
                || Path::new(real(&socket)).starts_with(real(&self.source)))
    }
}

/// A network's name.
#[derive(Debug, Clone, PartialEq, Eq)]
struct NetworkName(String);

impl FromStr for NetworkName {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "host" | "none" | "default" => Err("runners have a network of their own, which is never the host's"),
            name if name.starts_with("container:") => Err("runners have a network of their own"),
            name => Ok(Self(name.to_owned())),
        }
    }
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Switch(bool);

impl FromStr for Switch {
    type Err = &'static str;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        match word {
            "on" => Ok(Self(true)),
            "off" => Ok(Self(false)),
            _ => Err("expected on or off"),
        }
    }
}

impl fmt::Display for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0 { "on" } else { "off" })
    }
}

impl Config {
    /// Reads the settings.
    pub fn parse(settings: &mut Settings) -> Self {
        settings.section("deployer-docker");
        let host: Option<Address> = settings.optional(
            "DOCKER_HOST",
            "The engine, where there is one: unix:///path, tcp://host:port or ssh://user@host; default: unix:///var/run/docker.sock.",
        );
        let hosts: Vec<HostEntry> = settings.list(
            "DOCKER_HOSTS",
            "",
            "The engines, where there are several: <name>=<address>;<most runners>, … The number may be left out.",
        );
        let certificates: Option<PathBuf> = settings.optional(
            "DOCKER_CERT_PATH",
            "The folder with ca.pem, cert.pem and key.pem: engines at tcp:// are spoken to by TLS then.",
        );
        let hosts = if hosts.is_empty() { vec![HostEntry::single(host.unwrap_or_else(local))] } else { hosts };
        for (index, entry) in hosts.iter().enumerate() {
            if hosts[..index].iter().any(|before| before.name == entry.name) {
                settings.problem("DOCKER_HOSTS", format!("{:?} is there twice", entry.name));
            }
            if matches!(entry.address, Address::Https(_)) && certificates.is_none() {
                settings.problem("DOCKER_CERT_PATH", "is required: an engine is at https://");
            }
        }
        let images = Images::parse(settings, "DOCKER_");
        let megabytes = |settings: &mut Settings, name: &str, default: &str, about: &'static str| {
            settings.get::<u64>(name, default, about) << 20
        };
        let network: Option<NetworkName> = settings.optional(
            "DOCKER_NETWORK",
            "The network runners are in, which has to be there; default: a bridge of their own that is made, in which they do not see each other.",
        );
        let sandbox: Switch = settings.get(
            "DOCKER_SANDBOX",
            "off",
            "on: Chromium makes its own sandbox in the container, for which DOCKER_SECCOMP has to allow user namespaces; off: the container is the sandbox.",
        );
        let config = Self {
            hosts,
            certificates,
            images,
            pull: settings.get("DOCKER_PULL", "missing", "When an image is pulled: missing, always or never."),
            pull_quiet: settings.millis(
                "DOCKER_PULL_QUIET_MS",
                Duration::from_secs(120),
                "How long a pull may say nothing before it is given up.",
            ),
            network: network.map(|network| network.0),
            timeout: settings.millis("DOCKER_TIMEOUT_MS", Duration::from_secs(10), "How long an engine has for an answer."),
            start_timeout: settings.millis(
                "DOCKER_START_TIMEOUT_MS",
                Duration::from_secs(60),
                "How long an engine has for making a container, and for starting it.",
            ),
            shm_bytes: megabytes(settings, "DOCKER_SHM_MB", "512", "Size of /dev/shm, in MiB. Counts as memory when it is used."),
            tmp_bytes: megabytes(
                settings,
                "DOCKER_TMP_MB",
                "1024",
                "Size of /tmp, the one place where a runner may write, in MiB. Counts as memory when it is used.",
            ),
            pids: settings.get("DOCKER_PIDS", "1024", "Processes and threads of one runner, at most."),
            log_bytes: megabytes(settings, "DOCKER_LOG_MB", "16", "How much of what a runner prints is kept, in MiB."),
            sandbox: sandbox.0,
            seccomp: settings.optional("DOCKER_SECCOMP", "A file with a seccomp profile, instead of Docker's own."),
            gpus: settings.optional("DOCKER_GPUS", "Graphics cards for every runner: all, a number, or device=<id>,…"),
            recordings: settings.optional(
                "DOCKER_RECORDINGS_VOLUME",
                "<volume or folder>:</path in the runner>, for images that leave their recordings there instead of uploading them.",
            ),
            warm: settings.get(
                "DOCKER_WARM",
                "0",
                "How many containers of each image, on each host, are started ahead and wait for a bot. Only images that say they can: label dev.greenroom.warm.",
            ),
            warm_age: settings.millis(
                "DOCKER_WARM_AGE_MS",
                Duration::from_secs(3600),
                "How old a waiting container gets before another takes its place.",
            ),
            command: None,
        };
        if config.pids == 0 {
            settings.problem("DOCKER_PIDS", "must be at least 1");
        }
        if let Some(volume) = &config.recordings
            && config.hosts.iter().any(|host| volume.holds(&host.address))
        {
            settings.problem("DOCKER_RECORDINGS_VOLUME", format!("{NOT_THAT}: an engine listens in {}", volume.source));
        }
        config
    }

    /// For one engine, with every default and an image: for tests.
    #[must_use]
    pub fn of(address: Address, image: &str) -> Self {
        let mut settings = Settings::new(Vec::new(), "");
        let mut config = Self::parse(&mut settings);
        config.hosts = vec![HostEntry::single(address)];
        config.images = Images::one(image);
        config
    }
}

fn local() -> Address {
    LOCAL.parse().expect("an address")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(given: &[(&str, &str)]) -> Result<Config, String> {
        let given = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let mut settings = Settings::new(given, "");
        let config = Config::parse(&mut settings);
        settings.finish().map(|_| config).map_err(|problems| problems.to_string())
    }

    #[test]
    fn nothing_has_to_be_set() {
        let config = parse(&[]).expect("defaults");
        assert_eq!(config.hosts, [HostEntry::single(Address::Unix("/var/run/docker.sock".into()))]);
        assert_eq!((config.pull, config.warm, config.sandbox), (Pull::Missing, 0, false));
        assert_eq!((config.shm_bytes, config.tmp_bytes), (512 << 20, 1 << 30));
    }

    #[test]
    fn one_engine_or_several() {
        let one = parse(&[("DOCKER_HOST", "tcp://10.0.0.1:2375")]).expect("valid");
        assert_eq!(one.hosts[0].address, Address::Tcp("10.0.0.1:2375".to_owned()));
        let hosts = "big=tcp://10.0.0.1:2375;40, small=unix:///run/docker.sock";
        let several = parse(&[("DOCKER_HOSTS", hosts), ("DOCKER_HOST", "tcp://ignored:1")]).expect("valid");
        let read: Vec<_> = several.hosts.iter().map(|host| (host.name.as_str(), host.limit)).collect();
        assert_eq!(read, [("big", Some(40)), ("small", None)]);
    }

    #[test]
    fn bad_settings_are_named_all_at_once() {
        let said = parse(&[
            ("DOCKER_HOST", "ftp://x"),
            ("DOCKER_HOSTS", "a=tcp://x:1,a=https://y:2"),
            ("DOCKER_NETWORK", "host"),
            ("DOCKER_PULL", "sometimes"),
            ("DOCKER_PIDS", "0"),
            ("DOCKER_SANDBOX", "yes"),
            ("DOCKER_GPUS", "many"),
            ("DOCKER_RECORDINGS_VOLUME", "/var/run/docker.sock:/x"),
        ])
        .expect_err("all of them are wrong");
        for expected in [
            "DOCKER_HOST: ",
            "DOCKER_HOSTS: \"a\" is there twice",
            "DOCKER_CERT_PATH: is required",
            "DOCKER_NETWORK: \"host\": runners have a network of their own",
            "DOCKER_PULL: \"sometimes\": expected missing",
            "DOCKER_PIDS: must be at least 1",
            "DOCKER_SANDBOX: \"yes\": expected on or off",
            "DOCKER_GPUS: \"many\"",
            "DOCKER_RECORDINGS_VOLUME: ",
        ] {
            assert!(said.contains(expected), "{expected} is not in {said}");
        }
    }

    #[test]
    fn words_have_a_meaning() {
        assert_eq!("all".parse(), Ok(Gpus::All));
        assert_eq!("2".parse(), Ok(Gpus::Count(2)));
        assert_eq!("device=a,b".parse(), Ok(Gpus::Devices(vec!["a".to_owned(), "b".to_owned()])));
        assert!("0".parse::<Gpus>().is_err());
        let volume = |source: &str, target: &str| Volume { source: source.to_owned(), target: target.to_owned() };
        assert_eq!("parts".parse(), Ok(volume("parts", "/recordings")));
        assert_eq!("/srv/x:/app/storage/recordings".parse(), Ok(volume("/srv/x", "/app/storage/recordings")));
        for wrong in ["", ":/x", "a:b", "a:/b:ro", "/:/host"] {
            assert!(wrong.parse::<Volume>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn runners_get_nothing_of_the_machine() {
        for wrong in [
            "/",
            "//",
            "/.",
            "/srv/..",
            "/../..",
            "/run",
            "/run/",
            "/var/run",
            "/var//run/.",
            "/var/run/docker",
            "/run/user/1000",
            "/proc",
            "/proc/1/root",
            "/sys",
            "/sys/fs/cgroup",
            "/dev",
            "/dev/shm",
            "/etc",
            "/etc/",
            "/srv/../etc",
            "/srv/docker.sock",
            "/srv/x/../../var/lib/../run",
        ] {
            assert_eq!(format!("{wrong}:/x").parse::<Volume>(), Err(NOT_THAT.to_owned()), "{wrong:?}");
        }
        for (right, source) in [
            ("/srv/parts/", "/srv/parts"),
            ("/srv/./a//../parts", "/srv/parts"),
            ("/runners", "/runners"),
            ("/var/runners", "/var/runners"),
            ("/etcetera", "/etcetera"),
            ("/srv/run", "/srv/run"),
            ("run", "run"),
        ] {
            let read = format!("{right}:/x").parse::<Volume>().map(|volume| volume.source);
            assert_eq!(read.as_deref(), Ok(source), "{right:?}");
        }
    }

    #[test]
    fn runners_get_no_engines_socket() {
        for (host, volume, fit) in [
            ("unix:///srv/engine/socket", "/srv/engine/socket", false),
            ("unix:///srv/engine/socket", "/srv/x/../engine/", false),
            ("unix:///srv/engine/socket", "/srv", false),
            ("unix:///srv/x/..//engine/socket", "/srv/engine", false),
            ("unix:///srv/engine/socket", "/srv/engine-2", true),
            ("unix:///srv/engine/socket", "/srv/engine/parts", true),
            ("unix:///srv/engine/socket", "srv", true),
            ("unix:///var/run/docker.sock", "/var", false),
            ("unix:///run/docker.sock", "/var/lib/parts", true),
            ("tcp://10.0.0.1:2375", "/var", true),
        ] {
            let hosts = format!("a=tcp://10.0.0.9:2375,b={host}");
            let said = parse(&[("DOCKER_HOSTS", &hosts), ("DOCKER_RECORDINGS_VOLUME", &format!("{volume}:/x"))]);
            assert_eq!(said.is_ok(), fit, "{host} {volume}: {said:?}");
            assert!(said.err().is_none_or(|said| said.contains("DOCKER_RECORDINGS_VOLUME: runners do not get that")));
        }
    }
}
