use greenroom_chassis::Settings;
use greenroom_domain::{Attempt, BotId, Installation, PlatformName, Provider, RunnerSpec, TenantId, Timestamp};
use serde_json::{Value, json};

use super::*;
use crate::session;

fn config(given: &[(&str, &str)]) -> Config {
    let given = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let mut settings = Settings::new(given, "");
    let config = Config::parse(&mut settings);
    settings.finish().expect("these settings are fine");
    config
}

fn names() -> Names {
    Names::new(Installation::new("home").expect("valid"), PlatformName::new("k8s-eu").expect("valid"))
}

fn launch(kind: OwnerKind) -> Launch {
    let runner = RunnerId { kind, ..RunnerId::of_bot(BotId::generate(), Attempt::FIRST) };
    Launch {
        spec: RunnerSpec {
            runner,
            tenant: TenantId::generate(),
            provider: Provider::new("zoom").expect("valid"),
            image: None,
            resources: Resources::default(),
            max_lifetime: Duration::from_millis(90_500),
        },
        environment: BTreeMap::from([("BOT_TOKEN".to_owned(), "hush-hush".to_owned())]),
        start_by: Timestamp::now(),
        standing: None,
    }
}

fn body(config: &Config, launch: &Launch) -> Value {
    serde_json::to_value(job(config, &names(), launch)).expect("plain data")
}

#[test]
fn a_job_runs_its_runner_once_behind_every_wall() {
    let (config, launch) = (config(&[]), launch(OwnerKind::Bot));
    let job = body(&config, &launch);
    let spec = &job["spec"];
    assert_eq!(job["metadata"]["name"], names().runner(launch.spec.runner).as_str());
    assert_eq!(
        [&spec["backoffLimit"], &spec["activeDeadlineSeconds"], &spec["ttlSecondsAfterFinished"]],
        [&json!(0), &json!(92), &json!(3600)]
    );
    let pod = &spec["template"]["spec"];
    assert_eq!([&pod["restartPolicy"], &pod["hostNetwork"]], [&json!("Never"), &json!(false)]);
    assert_eq!([&pod["automountServiceAccountToken"], &pod["enableServiceLinks"]], [&json!(false), &json!(false)]);
    assert_eq!(pod["hostPID"], Value::Null);
    assert_eq!(
        pod["securityContext"],
        json!({ "runAsNonRoot": true, "runAsUser": 10001, "runAsGroup": 10001, "fsGroup": 10001,
            "seccompProfile": { "type": "RuntimeDefault" } })
    );
    let container = &pod["containers"][0];
    assert_eq!(
        container["securityContext"],
        json!({ "privileged": false, "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
            "capabilities": { "drop": ["ALL"] } })
    );
    assert_eq!(
        container["resources"],
        json!({ "requests": { "cpu": "500m", "memory": "1073741824" }, "limits": { "cpu": "500m", "memory": "1073741824" } })
    );
    assert_eq!(pod["volumes"][0]["emptyDir"], json!({ "medium": "Memory", "sizeLimit": "536870912" }));
    assert_eq!(pod["volumes"].as_array().map(Vec::len), Some(2), "and nothing of the host's");
    assert_eq!(spec["template"]["metadata"]["finalizers"], json!([FINALIZER]));
    assert_eq!(level(&config, &BTreeSet::new()), "restricted");
}

#[test]
fn secrets_are_in_the_secret_that_goes_with_the_job_and_nowhere_else() {
    let given =
        [("REGISTRY_USERNAME", "me"), ("REGISTRY_PASSWORD", "swordfish"), ("RUNNER_IMAGE_ZOOM", "ghcr.io/a/b:1")];
    let (config, launch) = (config(&given), launch(OwnerKind::Bot));
    let job = body(&config, &launch);
    let text = job.to_string();
    assert!(!text.contains("hush-hush") && !text.contains("swordfish"), "{text}");
    let made = secrets(&config, &names(), &launch, "the-uid");
    let name = names().runner(launch.spec.runner);
    let names: Vec<_> = made.iter().filter_map(|secret| secret.metadata.name.clone()).collect();
    assert_eq!(names, [format!("{name}-registry"), name.clone()], "the one that the runner waits for comes last");
    for secret in &made {
        let owner = &secret.metadata.owner_references.as_ref().expect("an owner")[0];
        assert_eq!((owner.kind.as_str(), owner.name.as_str(), owner.uid.as_str()), ("Job", name.as_str(), "the-uid"));
        let labels = serde_json::to_string(&secret.metadata).expect("plain data");
        assert!(!labels.contains("hush-hush") && !labels.contains("swordfish"));
    }
    let data = |index: usize, key: &str| -> String {
        let data = made[index].data.as_ref().expect("data");
        String::from_utf8(data[key].0.clone()).expect("text")
    };
    assert_eq!(data(1, "BOT_TOKEN"), "hush-hush");
    assert_eq!((data(1, "HOME").as_str(), data(1, "GREENROOM_SANDBOX").as_str()), ("/tmp", "off"));
    let docker: Value = serde_json::from_str(&data(0, ".dockerconfigjson")).expect("JSON");
    assert_eq!(docker["auths"]["ghcr.io"]["auth"], "bWU6c3dvcmRmaXNo");
    let container = &job["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["envFrom"], json!([{ "secretRef": { "name": name, "optional": false } }]));
    let pull = &job["spec"]["template"]["spec"]["imagePullSecrets"];
    assert_eq!(pull, &json!([{ "name": format!("{name}-registry") }]));
}

#[test]
fn walls_go_for_an_image_that_needs_it_and_no_others() {
    let needs = [("RUNNER_IMAGE_ZOOM", "old:1"), ("RUNNER_IMAGE_ZOOM_NEEDS", "root,writable-root,new-privileges")];
    let config = config(&needs);
    let mut launch = launch(OwnerKind::Bot);
    let pod = body(&config, &launch)["spec"]["template"]["spec"].clone();
    assert_eq!(
        pod["securityContext"],
        json!({ "runAsNonRoot": false, "seccompProfile": { "type": "RuntimeDefault" } })
    );
    let walls = &pod["containers"][0]["securityContext"];
    assert_eq!([&walls["readOnlyRootFilesystem"], &walls["allowPrivilegeEscalation"]], [&json!(false), &json!(true)]);
    assert_eq!(walls["capabilities"], json!({ "drop": ["ALL"] }));
    assert!(!environment(&config, &launch).contains_key("GREENROOM_SANDBOX"), "its set-user-id program makes one");
    launch.spec.image = Some("another:1".to_owned());
    let pod = body(&config, &launch)["spec"]["template"]["spec"].clone();
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "a bot cannot ask for it");
}

#[test]
fn pods_run_where_the_settings_say() {
    let given = [
        ("K8S_NODE_SELECTOR", "pool=bots"),
        ("K8S_TOLERATIONS", "bots=true:NoSchedule"),
        ("K8S_PRIORITY_CLASS", "high"),
        ("K8S_RUNTIME_CLASS", "gvisor"),
        ("K8S_SPREAD_OVER", "topology.kubernetes.io/zone"),
        ("K8S_IMAGE_PULL_SECRETS", "ghcr-secret"),
        ("K8S_IMAGE_PULL_POLICY", "Always"),
        ("K8S_SERVICE_ACCOUNT", "runner"),
    ];
    let pod = body(&config(&given), &launch(OwnerKind::Bot))["spec"]["template"]["spec"].clone();
    assert_eq!(pod["nodeSelector"], json!({ "pool": "bots" }));
    assert_eq!(
        pod["tolerations"],
        json!([{ "key": "bots", "operator": "Equal", "value": "true", "effect": "NoSchedule" }])
    );
    assert_eq!([&pod["priorityClassName"], &pod["runtimeClassName"]], [&json!("high"), &json!("gvisor")]);
    assert_eq!(
        [&pod["serviceAccountName"], &pod["imagePullSecrets"][0]["name"]],
        [&json!("runner"), &json!("ghcr-secret")]
    );
    let spread = &pod["topologySpreadConstraints"][0];
    assert_eq!(
        [&spread["topologyKey"], &spread["whenUnsatisfiable"]],
        [&json!("topology.kubernetes.io/zone"), &json!("ScheduleAnyway")]
    );
    assert_eq!(spread["labelSelector"]["matchLabels"]["greenroom.dev/platform"], "k8s-eu");
    assert_eq!(pod["containers"][0]["imagePullPolicy"], "Always");
}

#[test]
fn one_of_the_usual_size_has_the_size_of_the_platform() {
    let given = [("K8S_BOT_CPU_REQUEST", "150m"), ("K8S_BOT_MEMORY_REQUEST", "512Mi"), ("K8S_BOT_MEMORY_LIMIT", "2Gi")];
    let sizes = config(&given).sizes;
    let asked = Resources { cpu_limit_millis: Some(1000), memory_limit_bytes: Some(3 << 29), ..Resources::default() };
    let size = sized(&sizes, &asked);
    assert_eq!((size.cpu_millis, size.cpu_limit()), (150, 300), "as far above it as before");
    assert_eq!((size.memory_bytes, size.memory_limit()), (512 << 20, 2 << 30));
    let large = Resources { cpu_millis: 700, memory_bytes: 3 << 29, ..asked };
    assert_eq!(sized(&sizes, &large), large, "somebody asked for that");
    assert_eq!(sized(&Sizes::default(), &asked), asked);
}

#[test]
fn the_usual_memory_has_the_limit_of_the_guide_until_somebody_sets_another() {
    let usual = Resources { memory_limit_bytes: Some(3 << 29), ..Resources::default() };
    let limit = |given: &[(&str, &str)], asked: &Resources| sized(&config(given).sizes, asked).memory_limit();
    assert_eq!(limit(&[], &usual), 2 << 30);
    let own = Resources { memory_limit_bytes: Some(5 << 28), ..usual };
    assert_eq!(limit(&[], &own), 5 << 28, "the bot's own");
    assert_eq!(limit(&[("RUNNER_MEMORY_LIMIT_PERCENT", "120")], &usual), 3 << 29);
    assert_eq!(limit(&[("K8S_BOT_MEMORY_LIMIT", "3Gi")], &usual), 3 << 30);
    assert_eq!(limit(&[("K8S_BOT_MEMORY_REQUEST", "512Mi")], &usual), 3 << 28, "as far above it as before");
}

#[test]
fn a_session_has_what_shows_it_beside_it() {
    let given = [("BROWSER_UI_IMAGE", "steel-dev/steel-browser-ui:latest")];
    let config = config(&given);
    let pod = body(&config, &launch(OwnerKind::Session))["spec"]["template"]["spec"].clone();
    let containers = pod["containers"].as_array().expect("containers");
    let names: Vec<_> = containers.iter().map(|container| container["name"].clone()).collect();
    assert_eq!(names, [RUNNER, session::SIDECAR]);
    assert_eq!(containers[1]["securityContext"], containers[0]["securityContext"]);
    assert_eq!(containers[1]["envFrom"], Value::Null, "it has no secrets");
    let mut shown = json!({ "spec": pod, "status": { "podIP": "10.0.0.7" } });
    let endpoint = |pod: &Value| session::endpoint(&serde_json::from_value(pod.clone()).expect("a pod"));
    assert_eq!(endpoint(&shown), Some(("10.0.0.7:3000".to_owned(), Some("10.0.0.7:5173".to_owned()))));
    shown["status"]["podIP"] = "fd00::7".into();
    assert_eq!(endpoint(&shown).map(|(api, _)| api), Some("[fd00::7]:3000".to_owned()));
    shown["status"] = json!({});
    assert_eq!(endpoint(&shown), None);
    let bot = body(&config, &launch(OwnerKind::Bot));
    assert_eq!(bot["spec"]["template"]["spec"]["containers"].as_array().map(Vec::len), Some(1));
}
