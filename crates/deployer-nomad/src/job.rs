//! A runner as a Nomad job: what is registered, and what stands in its variable.

use std::collections::BTreeMap;
use std::fmt::Write;

use greenroom_deployer::{Image, Launch, Names, Need};
use serde_json::{Value, json};

use crate::Config;

/// Group and task of every job.
pub(crate) const TASK: &str = "runner";
/// The item of the variable.
const ITEM: &str = "environment";
/// Whoever is not root.
const USER: &str = "10001:10001";
/// Processes and threads of a browser and what belongs to it.
const PIDS: u32 = 2048;
/// What a runner may have in its temporary folder: memory, in the end.
const TMP_BYTES: u64 = 1 << 30;

/// Where a job's secrets are: a place that its own task may read, and no other's.
pub(crate) fn variable_path(job: &str) -> String {
    format!("nomad/jobs/{job}")
}

/// `PUT /v1/var/nomad/jobs/<job>`: the environment as one text, one `NAME="value"` a line, quoted as JSON is.
pub(crate) fn variable(job: &str, launch: &Launch, image: &Image) -> Value {
    let mut environment: BTreeMap<&str, &str> =
        launch.environment.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    environment.entry("HOME").or_insert("/tmp");
    if !image.needs(Need::NewPrivileges) {
        // Docker's own profile refuses namespaces, and no set-uid helper gains anything.
        environment.entry("GREENROOM_SANDBOX").or_insert("off");
    }
    if let Some(flags) = &image.chrome_flags {
        environment.entry("CHROME_FLAGS").or_insert(flags);
    }
    let mut text = String::new();
    for (name, value) in environment {
        let _ = writeln!(text, "{name}={}", Value::from(value));
    }
    json!({ "Path": variable_path(job), "Items": { ITEM: text } })
}

/// `POST /v1/jobs`: registered if there is none of that name.
pub(crate) fn registration(config: &Config, names: &Names, launch: &Launch, image: &Image) -> Value {
    let spec = &launch.spec;
    let (job, size) = (names.runner(spec.runner), &spec.resources);
    let labels = names.labels(spec);
    let mebibytes = |bytes: u64| (bytes >> 20).max(16);
    let mut docker = json!({
        "image": image.reference,
        "labels": [labels],
        "cap_drop": ["all"],
        "pids_limit": PIDS,
        "shm_size": u64::from(config.shm_mb) << 20,
        "cpu_hard_limit": true,
        "readonly_rootfs": !image.needs(Need::WritableRoot),
    });
    if !image.needs(Need::NewPrivileges) {
        docker["security_opt"] = json!(["no-new-privileges"]);
    }
    if !image.needs(Need::WritableRoot) {
        docker["mount"] = json!([{ "type": "tmpfs", "target": "/tmp", "tmpfs_options": [{ "size": TMP_BYTES }] }]);
    }
    let mut task = json!({
        "Name": TASK,
        "Driver": "docker",
        "Config": docker,
        "Resources": {
            "CPU": (u64::from(size.cpu_limit()) * u64::from(config.cpu_mhz)).div_ceil(1000).max(1),
            "MemoryMB": mebibytes(size.memory_bytes),
            "MemoryMaxMB": mebibytes(size.memory_limit()),
        },
        "KillTimeout": u64::try_from(config.kill_timeout.as_nanos()).unwrap_or(u64::MAX),
        "LogConfig": { "MaxFiles": 2, "MaxFileSizeMB": 10 },
        // By workload identity: the task of this job, and no other one.
        "Templates": [{
            "EmbeddedTmpl": format!("{{{{ with nomadVar \"{}\" }}}}{{{{ .{ITEM} }}}}{{{{ end }}}}", variable_path(&job)),
            "DestPath": "secrets/environment",
            "Envvars": true,
            "ChangeMode": "noop",
        }],
    });
    if !image.needs(Need::Root) {
        task["User"] = json!(USER);
    }
    json!({
        "EnforceIndex": true,
        "JobModifyIndex": 0,
        "Job": {
            "ID": job,
            "Name": job,
            "Type": "batch",
            "Namespace": config.namespace,
            "Datacenters": config.datacenters,
            "Meta": labels,
            "TaskGroups": [{
                "Name": TASK,
                "Count": 1,
                // A further attempt is its owner's business.
                "RestartPolicy": { "Attempts": 0, "Mode": "fail" },
                "ReschedulePolicy": { "Attempts": 0, "Unlimited": false },
                "Tasks": [task],
            }],
        },
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use greenroom_chassis::Settings;
    use greenroom_domain::{
        Attempt, BotId, Installation, PlatformName, Provider, Resources, RunnerId, RunnerSpec, TenantId, Timestamp,
    };

    use super::*;

    fn launch() -> Launch {
        Launch {
            spec: RunnerSpec {
                runner: RunnerId::of_bot(BotId::generate(), Attempt::FIRST),
                tenant: TenantId::generate(),
                provider: Provider::new("web").expect("valid"),
                image: None,
                resources: Resources { memory_limit_bytes: Some(3 << 29), ..Resources::default() },
                max_lifetime: std::time::Duration::from_secs(600),
            },
            environment: BTreeMap::from([("TOKEN".to_owned(), "a \"secret\"\n$HOME".to_owned())]),
            start_by: Timestamp::UNIX_EPOCH,
            standing: None,
        }
    }

    fn image(needs: &[Need]) -> Image {
        Image {
            reference: "bot:1".to_owned(),
            needs: needs.iter().copied().collect::<BTreeSet<_>>(),
            chrome_flags: None,
        }
    }

    #[test]
    fn a_runner_as_a_job() {
        let config = Config::parse(&mut Settings::new([], ""));
        let platform = PlatformName::new("nomad").expect("valid");
        let names = Names::new(Installation::new("test").expect("valid"), platform);
        let launch = launch();
        let job = registration(&config, &names, &launch, &image(&[]));
        assert!(!job.to_string().contains("secret\\\""), "no secret is in it");
        assert_eq!((&job["EnforceIndex"], &job["JobModifyIndex"]), (&json!(true), &json!(0)));
        let (group, task) = (&job["Job"]["TaskGroups"][0], &job["Job"]["TaskGroups"][0]["Tasks"][0]);
        assert_eq!(job["Job"]["ID"], names.runner(launch.spec.runner));
        assert_eq!(job["Job"]["Meta"]["greenroom.dev/platform"], "nomad");
        assert_eq!(
            (&group["RestartPolicy"]["Attempts"], &group["ReschedulePolicy"]["Attempts"]),
            (&json!(0), &json!(0))
        );
        assert_eq!(task["User"], "10001:10001");
        assert_eq!(task["Resources"], json!({ "CPU": 1000, "MemoryMB": 1024, "MemoryMaxMB": 1536 }));
        assert_eq!(task["KillTimeout"], 30_000_000_000u64);
        let docker = &task["Config"];
        assert_eq!((&docker["readonly_rootfs"], &docker["cap_drop"]), (&json!(true), &json!(["all"])));
        assert_eq!(docker["security_opt"], json!(["no-new-privileges"]));
        assert_eq!(docker["mount"][0]["target"], "/tmp");
        assert!(docker.get("network_mode").is_none(), "never the node's own");
        let template = task["Templates"][0]["EmbeddedTmpl"].as_str().expect("text");
        assert_eq!(
            template,
            format!(
                "{{{{ with nomadVar \"nomad/jobs/{}\" }}}}{{{{ .environment }}}}{{{{ end }}}}",
                names.runner(launch.spec.runner)
            )
        );

        let open = registration(&config, &names, &launch, &image(&Need::ALL));
        let task = &open["Job"]["TaskGroups"][0]["Tasks"][0];
        assert!(task.get("User").is_none() && task["Config"].get("security_opt").is_none());
        assert_eq!((&task["Config"]["readonly_rootfs"], &task["Config"]["cap_drop"]), (&json!(false), &json!(["all"])));
    }

    #[test]
    fn an_environment_is_lines_that_can_be_read_back() {
        let variable = variable("job", &launch(), &image(&[]));
        let text = variable["Items"]["environment"].as_str().expect("text");
        let lines: BTreeMap<&str, String> = text
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name, serde_json::from_str(value).expect("quoted")))
            .collect();
        assert_eq!(lines["TOKEN"], "a \"secret\"\n$HOME");
        assert_eq!((lines["HOME"].as_str(), lines["GREENROOM_SANDBOX"].as_str()), ("/tmp", "off"));
    }
}
