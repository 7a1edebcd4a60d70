//! Task definitions: what runners are made of, and what cannot be changed about it for one of them.

use aws_sdk_ecs::types;
use greenroom_deployer::{Error, Image};
use greenroom_domain::RunnerSpec;

use crate::config::{Config, Definitions};

/// A revision of a task definition. It never changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Definition {
    /// Its name at AWS.
    pub arn: String,
    /// `awsvpc`: an address of its own. `host` is the machine's network, and never ours.
    pub network: String,
    /// Whose processes it sees. `host`: its machine's, other runners' among them.
    pub pid: String,
    /// Whose shared memory it sees. `host`: its machine's.
    pub ipc: String,
    /// Its machine's folders that it mounts.
    pub host_paths: Vec<String>,
    /// Containers that are as good as their machine: any of them will do for whoever is in the task.
    pub privileged: Vec<String>,
    /// `FARGATE`, `EC2`: what it may run on.
    pub compatible: Vec<String>,
    /// The role of whoever pulls the image and writes logs.
    pub has_execution_role: bool,
    /// How many containers it has.
    pub containers: usize,
    /// The runner's.
    pub container: Container,
}

/// The container that is the runner.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// What it runs.
    pub image: String,
    /// Who it is: `10001:10001`.
    pub user: Option<String>,
    /// It cannot write but to what is mounted.
    pub read_only: bool,
    /// All capabilities are dropped, and none added.
    pub drops_all: bool,
    /// How long it may take to end after SIGTERM, in seconds, before it is killed; none: 30.
    pub stop_timeout: Option<i32>,
    /// Where what it prints goes.
    pub logs: Option<Logs>,
    /// It names credentials for its image's registry.
    pub has_credentials: bool,
}

/// CloudWatch Logs, as the `awslogs` driver writes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logs {
    /// The log group.
    pub group: String,
    /// Its region.
    pub region: String,
    /// How the names of its streams begin.
    pub prefix: String,
}

impl Logs {
    /// The stream of a task's container: `prefix/container/task`.
    #[must_use]
    pub fn stream(&self, container: &str, task: &str) -> String {
        let id = task.rsplit('/').next().unwrap_or(task);
        format!("{}/{container}/{id}", self.prefix)
    }
}

impl Definition {
    /// Reads one. `wanted` is the container that is to be the runner.
    ///
    /// # Errors
    /// `Rejected` where there is no such container.
    pub fn read(definition: &types::TaskDefinition, wanted: Option<&str>) -> Result<Self, Error> {
        let arn = definition.task_definition_arn().unwrap_or_default().to_owned();
        let containers = definition.container_definitions();
        let found = match wanted {
            Some(wanted) => containers.iter().find(|container| container.name() == Some(wanted)),
            // What is not said is essential.
            None => containers.iter().find(|container| container.essential() != Some(false)),
        };
        let Some(container) = found else {
            let wanted = wanted.unwrap_or("that is essential");
            return Err(Error::Rejected(format!("task definition {arn} has no container {wanted}")));
        };
        let privileged = containers.iter().filter(|container| container.privileged() == Some(true));
        // A volume without a path is one that Docker makes for the task, and takes away with it.
        let host_paths = definition.volumes().iter().filter_map(|volume| volume.host()?.source_path());
        Ok(Self {
            arn,
            network: definition.network_mode().map(|mode| mode.as_str().to_owned()).unwrap_or_default(),
            pid: definition.pid_mode().map(|mode| mode.as_str().to_owned()).unwrap_or_default(),
            ipc: definition.ipc_mode().map(|mode| mode.as_str().to_owned()).unwrap_or_default(),
            host_paths: host_paths.filter(|path| !path.is_empty()).map(str::to_owned).collect(),
            privileged: privileged.map(|container| container.name().unwrap_or_default().to_owned()).collect(),
            compatible: definition.requires_compatibilities().iter().map(|kind| kind.as_str().to_owned()).collect(),
            has_execution_role: definition.execution_role_arn().is_some_and(|role| !role.is_empty()),
            containers: containers.len(),
            container: read(container),
        })
    }

    /// Why no runner may be made of it, whatever its image needs; none: it may. Each of these is a way out to the machine and to
    /// whatever else runs there, and [`Need`](greenroom_deployer::Need) has no word for any of them.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        let shared = [("network", &self.network), ("processes", &self.pid), ("shared memory", &self.ipc)];
        let shared = shared.into_iter().filter(|(_, mode)| *mode == "host");
        let ways: Vec<String> = shared
            .map(|(what, _)| format!("its machine's own {what}"))
            .chain(self.host_paths.iter().map(|path| format!("its machine's folder {path}")))
            .chain(self.privileged.iter().map(|name| format!("privileged container {name}")))
            .collect();
        (!ways.is_empty()).then(|| format!("task definition {} has {}: runners never do", self.arn, ways.join(", ")))
    }
}

fn read(container: &types::ContainerDefinition) -> Container {
    let capabilities = container.linux_parameters().and_then(types::LinuxParameters::capabilities);
    Container {
        name: container.name().unwrap_or_default().to_owned(),
        image: container.image().unwrap_or_default().to_owned(),
        user: container.user().filter(|user| !user.is_empty()).map(str::to_owned),
        read_only: container.readonly_root_filesystem() == Some(true),
        drops_all: capabilities.is_some_and(|of| of.drop().iter().any(|one| one == "ALL") && of.add().is_empty()),
        stop_timeout: container.stop_timeout(),
        logs: container.log_configuration().and_then(logs),
        has_credentials: container.repository_credentials().is_some(),
    }
}

fn logs(configuration: &types::LogConfiguration) -> Option<Logs> {
    let option = |name: &str| configuration.options().and_then(|options| options.get(name)).cloned();
    if *configuration.log_driver() != types::LogDriver::Awslogs {
        return None;
    }
    Some(Logs {
        group: option("awslogs-group")?,
        region: option("awslogs-region")?,
        // Without it a stream's name is a container's number on its machine, which nobody tells us.
        prefix: option("awslogs-stream-prefix")?,
    })
}

impl Definitions {
    /// The family that a runner is made of.
    ///
    /// # Errors
    /// `Image` where it brings an image that no task definition is known for, `Rejected` where its provider has none.
    pub fn family(&self, spec: &RunnerSpec, provided: &Image) -> Result<&str, Error> {
        let own = spec.image.as_deref().filter(|image| *image != provided.reference);
        if let Some(image) = own {
            let family = self.images.get(image).map(String::as_str);
            return family.ok_or_else(|| {
                Error::Image(format!(
                    "ECS runs what a task definition names: add {image}=FAMILY to AWS_ECS_TASK_DEF_IMAGES"
                ))
            });
        }
        let family = self.providers.get(&spec.provider).or(self.other.as_ref());
        family.map(String::as_str).ok_or_else(|| {
            Error::Rejected(format!(
                "no task definition is set for {}: AWS_ECS_TASK_DEF is for all others",
                spec.provider
            ))
        })
    }
}

impl Config {
    /// The family that a runner is made of, and what its image needs.
    ///
    /// # Errors
    /// As [`Definitions::family`].
    pub fn made_of(&self, spec: &RunnerSpec) -> Result<(&str, Image), Error> {
        let provided = self.images.named(None, &spec.provider);
        Ok((self.definitions.family(spec, &provided)?, self.images.of(spec)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use aws_sdk_ecs::types::{ContainerDefinition, KernelCapabilities, LinuxParameters, LogConfiguration, LogDriver};
    use greenroom_deployer::Images;
    use greenroom_domain::{Attempt, BotId, Provider, Resources, RunnerId, TenantId};

    use super::*;

    #[test]
    fn a_runner_is_the_container_that_was_named_or_the_first_essential_one() {
        let container = |name: &str, essential| ContainerDefinition::builder().name(name).essential(essential).build();
        let definition = types::TaskDefinition::builder()
            .task_definition_arn("arn:x:1")
            .set_container_definitions(Some(vec![container("sidecar", false), container("bot", true)]))
            .build();
        let name = |wanted| Definition::read(&definition, wanted).map(|definition| definition.container.name);
        assert_eq!(name(None), Ok("bot".to_owned()));
        assert_eq!(name(Some("sidecar")), Ok("sidecar".to_owned()));
        assert!(matches!(name(Some("other")), Err(Error::Rejected(why)) if why.contains("arn:x:1")));
    }

    #[test]
    fn nothing_runs_that_has_a_way_out_to_its_machine() {
        type Made = types::builders::TaskDefinitionBuilder;
        type Change = fn(Made) -> Made;
        fn container(name: &str, privileged: bool) -> ContainerDefinition {
            ContainerDefinition::builder().name(name).essential(name == "bot").privileged(privileged).build()
        }
        fn volume(path: Option<&str>) -> types::Volume {
            let host = types::HostVolumeProperties::builder().set_source_path(path.map(str::to_owned)).build();
            types::Volume::builder().name("recordings").host(host).build()
        }
        let refusal = |container: ContainerDefinition, change: Change| {
            let made = types::TaskDefinition::builder().task_definition_arn("arn:x:1").container_definitions(container);
            Definition::read(&change(made).build(), None).expect("it has a container").refusal()
        };
        let mut wrong = Vec::new();
        let changes: [(Change, Option<&str>); 14] = [
            (|made| made, None),
            (|made| made.network_mode(types::NetworkMode::Awsvpc), None),
            (|made| made.network_mode(types::NetworkMode::Bridge), None),
            (|made| made.network_mode(types::NetworkMode::Host), Some("its machine's own network")),
            (|made| made.pid_mode(types::PidMode::Task), None),
            (|made| made.pid_mode(types::PidMode::Host), Some("its machine's own processes")),
            (|made| made.ipc_mode(types::IpcMode::Task), None),
            (|made| made.ipc_mode(types::IpcMode::None), None),
            (|made| made.ipc_mode(types::IpcMode::Host), Some("its machine's own shared memory")),
            (|made| made.volumes(types::Volume::builder().name("scratch").build()), None),
            (|made| made.volumes(volume(None)).volumes(volume(Some(""))), None),
            (
                |made| made.volumes(volume(None)).volumes(volume(Some("/var/run"))),
                Some("its machine's folder /var/run"),
            ),
            (|made| made.container_definitions(container("sidecar", false)), None),
            (|made| made.container_definitions(container("sidecar", true)), Some("privileged container sidecar")),
        ];
        for (number, (change, expected)) in changes.into_iter().enumerate() {
            let expected = expected.map(|way| format!("task definition arn:x:1 has {way}: runners never do"));
            let said = refusal(container("bot", false), change);
            if said != expected {
                wrong.push(format!("{number}: expected {expected:?}, got {said:?}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        let all = refusal(container("bot", true), |made| {
            made.network_mode(types::NetworkMode::Host).pid_mode(types::PidMode::Host)
        });
        let all = all.expect("it is refused");
        assert!(["own network, ", "own processes, ", "container bot:"].iter().all(|way| all.contains(way)), "{all}");
    }

    #[test]
    fn isolation_settings_are_parsed() {
        let capabilities = KernelCapabilities::builder().drop("ALL").build();
        let logs = LogConfiguration::builder()
            .log_driver(LogDriver::Awslogs)
            .options("awslogs-group", "/ecs/bots")
            .options("awslogs-region", "eu-west-1")
            .options("awslogs-stream-prefix", "bot")
            .build()
            .expect("it has a driver");
        let hard = ContainerDefinition::builder()
            .name("bot")
            .user("10001:10001")
            .readonly_root_filesystem(true)
            .linux_parameters(LinuxParameters::builder().capabilities(capabilities).build())
            .stop_timeout(120)
            .log_configuration(logs)
            .build();
        let read = super::read(&hard);
        assert!(read.read_only && read.drops_all);
        assert_eq!(read.user.as_deref(), Some("10001:10001"));
        let stream = read.logs.expect("logs").stream("bot", "arn:aws:ecs:eu-west-1:1:task/bots/0123");
        assert_eq!(stream, "bot/bot/0123");
        let soft = super::read(&ContainerDefinition::builder().name("bot").build());
        assert!(!soft.read_only && !soft.drops_all && soft.logs.is_none());
    }

    #[test]
    fn a_family_is_the_images_then_the_providers_then_everybodys() {
        let zoom = Provider::new("zoom").expect("valid");
        let definitions = Definitions {
            providers: BTreeMap::from([(zoom.clone(), "zoom-bot".to_owned())]),
            other: None,
            images: BTreeMap::from([("own:1".to_owned(), "own-bot".to_owned())]),
            container: None,
        };
        let images = Images::one("bot:1");
        let family = |definitions: &Definitions, provider: &str, image: Option<&str>| {
            let spec = RunnerSpec {
                runner: RunnerId::of_bot(BotId::generate(), Attempt::FIRST),
                tenant: TenantId::generate(),
                provider: Provider::new(provider).expect("valid"),
                image: image.map(str::to_owned),
                resources: Resources::default(),
                max_lifetime: Duration::from_secs(60),
            };
            definitions.family(&spec, &images.named(None, &spec.provider)).map(str::to_owned)
        };
        assert_eq!(family(&definitions, "zoom", None).as_deref(), Ok("zoom-bot"));
        assert_eq!(family(&definitions, "zoom", Some("bot:1")).as_deref(), Ok("zoom-bot"), "its provider's own");
        assert_eq!(family(&definitions, "zoom", Some("own:1")).as_deref(), Ok("own-bot"));
        assert!(
            matches!(family(&definitions, "zoom", Some("b:1")), Err(Error::Image(why)) if why.contains("b:1=FAMILY"))
        );
        assert!(matches!(family(&definitions, "web", None), Err(Error::Rejected(_))));
        let more = Definitions { other: Some("any-bot".to_owned()), ..definitions };
        assert_eq!(family(&more, "web", None).as_deref(), Ok("any-bot"));
    }
}
