//! The demo on Docker (`PLATFORM_PRIORITY=docker`): an engine, the bot's image in it, and a network in which a container
//! reaches this host. Whatever was started or made for the demo alone is gone at its end; images stay.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use greenroom_embedded::{Docker, DockerClient, tools_folder};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;
use tokio::time::{Instant, timeout};

use crate::screen::Screen;

/// Where engines listen unless somebody says otherwise.
const SYSTEM: &str = "unix:///var/run/docker.sock";
const NETWORK: &str = "greenroom-demo";
const TAG: &str = "demo";
const IMAGE: &str = "greenroom-bot:demo";
/// A script: what is built is said there.
const BUILD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/docker/build");
/// An engine that is there says so at once.
const ANSWER: Duration = Duration::from_secs(5);

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Engine(#[from] greenroom_embedded::Error),
    #[error("its network {NETWORK} has no address of this host's ({0:?})")]
    Address(String),
    #[error("{BUILD} could not be run")]
    Build(#[source] std::io::Error),
    #[error("the bot's image could not be built:\n{0}")]
    Image(String),
}

/// An engine that is ready for the demo's bot.
pub struct Engine {
    client: DockerClient,
    /// None: somebody else's, which runs on.
    own: Option<Docker>,
    address: IpAddr,
}

/// Whether bots are to go to Docker.
pub fn asked(priority: &str) -> bool {
    priority.split(',').any(|platform| platform.trim() == "docker")
}

/// The flag with which a browser takes an address without TLS for as good as one with it: real meetings have TLS, and without
/// it a page gets no microphone.
pub fn trusting(origin: &str) -> String {
    format!("--unsafely-treat-insecure-origin-as-secure={origin}")
}

impl Engine {
    /// Finds or starts an engine, and makes image and network.
    pub async fn start(screen: &Screen, dir: &Path) -> Result<Self, Error> {
        let began = Instant::now();
        screen.waiting("looking for a Docker engine");
        let (client, own) = match given().await? {
            Some(client) => (client, None),
            None => {
                screen.waiting("starting a Docker engine of our own");
                let own = start_own(dir).await?;
                (own.client().clone(), Some(own))
            }
        };
        let whose = if own.is_some() { "an engine of our own" } else { "the engine" };
        screen.good(&format!("{whose} is at {} ({:.1} s)", client.host(), began.elapsed().as_secs_f64()));
        let began = Instant::now();
        build(screen, &client).await?;
        screen.good(&format!("the bot's image is {IMAGE} ({:.1} s)", began.elapsed().as_secs_f64()));
        let address = network(&client).await?;
        Ok(Self { client, own, address })
    }

    /// This host's address in the container's network.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// What Greenroom has to be told.
    pub fn settings(&self, meeting: &str) -> Vec<(&'static str, String)> {
        let given = std::env::var("CHROME_FLAGS").unwrap_or_default();
        vec![
            ("DOCKER_HOST", self.client.host().to_owned()),
            ("DOCKER_NETWORK", NETWORK.to_owned()),
            ("DOCKER_PULL", "never".to_owned()),
            ("RUNNER_IMAGE", IMAGE.to_owned()),
            ("CHROME_FLAGS", format!("{given} {}", trusting(meeting)).trim().to_owned()),
            // The room is at this host's address in the container's network.
            ("MEETING_ADDRESSES_ALLOWED", self.address.to_string()),
        ]
    }

    /// What holds the bot's container back, as the engine has it; none: there is no such container.
    pub async fn walls(&self, bot: &str) -> Option<String> {
        const FORMAT: &str = "user {{.Config.User}}, \
            root {{if .HostConfig.ReadonlyRootfs}}read-only{{else}}writable{{end}}, \
            network {{.HostConfig.NetworkMode}}\n\
            capabilities dropped {{.HostConfig.CapDrop}}, {{.HostConfig.SecurityOpt}}";
        let filter = format!("label=greenroom.dev/id={bot}");
        let found = self.client.ask(["ps", "--quiet", "--filter", &filter]).await.ok()?;
        let container = found.split_whitespace().next()?;
        self.client.ask(["inspect", "--format", FORMAT, container]).await.ok()
    }

    /// Removes what was made for the demo: the bot's containers, the network, and the engine where it is ours.
    pub async fn end(self, bot: Option<&str>) {
        let Self { client, own, .. } = self;
        if let Some(bot) = bot {
            let filter = format!("label=greenroom.dev/id={bot}");
            if let Ok(left) = client.ask(["ps", "--all", "--quiet", "--filter", &filter]).await
                && !left.is_empty()
            {
                let _ = client.ask(["rm", "--force", "--volumes"].into_iter().chain(left.split_whitespace())).await;
            }
        }
        // Somebody else's demo may be in it still: then it stays.
        let _ = client.ask(["network", "rm", NETWORK]).await;
        if let Some(mut own) = own {
            let _ = own.stop().await;
        }
    }
}

/// The engine that `DOCKER_HOST` names, or the system's where that answers.
async fn given() -> Result<Option<DockerClient>, Error> {
    if let Ok(host) = std::env::var("DOCKER_HOST")
        && !host.is_empty()
    {
        let client = DockerClient::to(host)?;
        client.ask(["version"]).await?;
        return Ok(Some(client));
    }
    if !Path::new(SYSTEM.trim_start_matches("unix://")).exists() {
        return Ok(None);
    }
    let client = DockerClient::to(SYSTEM)?;
    let answers = matches!(timeout(ANSWER, client.ask(["version"])).await, Ok(Ok(_)));
    Ok(answers.then_some(client))
}

/// One that shares its images with that of the tests, or, while a test run has it, one below the demo's own folder.
async fn start_own(dir: &Path) -> Result<Docker, Error> {
    if let Some(tools) = tools_folder() {
        match Docker::start(tools.join("docker")).await {
            Err(greenroom_embedded::Error::InUse { .. }) => {}
            started => return Ok(started?),
        }
    }
    Ok(Docker::start(dir.join("docker")).await?)
}

/// A build that is not waited for any more is ended with everything that it has started.
struct Building(Option<Pid>);

impl Drop for Building {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = killpg(group, Signal::SIGTERM);
        }
    }
}

/// Builds the image from the programs beside this one, and shows what it is at.
async fn build(screen: &Screen, client: &DockerClient) -> Result<(), Error> {
    let programs = std::env::current_exe().map_err(Error::Build)?.parent().map(PathBuf::from).unwrap_or_default();
    let mut child = Command::new(BUILD)
        .arg("--binaries")
        .arg(programs)
        .args(["--tag", TAG, "bot"])
        .env("DOCKER_HOST", client.host())
        .env_remove("DOCKER_CONTEXT")
        .env("DOCKER_BUILDKIT", "0")
        // Ctrl-C is for the demo, which ends the build and what that has started.
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(Error::Build)?;
    let mut building = Building(child.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw));
    let mut said = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        let mut lines = BufReader::new(stderr).lines();
        while let Some(line) = lines.next_line().await.map_err(Error::Build)? {
            // Steps are marked; all else is what a failed one had to say.
            match line.trim().strip_prefix("… ") {
                // The image itself is said by whoever asked for it.
                Some(step) if step.contains(": done in ") => {
                    if !step.starts_with("building greenroom-bot") {
                        screen.good(step);
                    }
                }
                Some(step) => screen.waiting(step),
                None => said.push(line),
            }
        }
    }
    let status = child.wait().await.map_err(Error::Build)?;
    building.0 = None;
    if status.success() { Ok(()) } else { Err(Error::Image(said.join("\n"))) }
}

/// The demo's network, made unless it is there, and this host's address in it.
async fn network(client: &DockerClient) -> Result<IpAddr, Error> {
    if client.ask(["network", "inspect", NETWORK]).await.is_err() {
        client.ask(["network", "create", "--label", "greenroom.dev/installation=demo", NETWORK]).await?;
    }
    let said =
        client.ask(["network", "inspect", "--format", "{{range .IPAM.Config}}{{.Gateway}} {{end}}", NETWORK]).await?;
    let mut addresses = said.split_whitespace().filter_map(|address| address.split('/').next()?.parse().ok());
    addresses.find(IpAddr::is_ipv4).ok_or(Error::Address(said))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_is_asked_for_by_its_name() {
        for (priority, expected) in
            [("docker", true), ("local, docker", true), ("", false), ("local", false), ("docker-eu", false)]
        {
            assert_eq!(asked(priority), expected, "{priority:?}");
        }
    }
}
