//! `deploy/k8s/runners.yaml` gives exactly the rights that the driver has use for, and holds runners to a quota that fits the
//! limit that it names.

use std::collections::BTreeSet;

use greenroom_deployer_k8s::{Amount, RIGHTS};
use serde_json::Value;

const MANIFEST: &str = include_str!("../../../../deploy/k8s/runners.yaml");

/// Every object of the manifest.
fn objects() -> Vec<Value> {
    serde_saphyr::from_multiple::<Value>(MANIFEST).expect("YAML")
}

fn of(kind: &str) -> Value {
    objects().into_iter().find(|object| object["kind"] == kind).unwrap_or_else(|| panic!("there is no {kind}"))
}

fn words(list: &Value) -> impl Iterator<Item = String> + '_ {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned)
}

#[test]
fn the_role_gives_what_the_driver_asks_for_and_nothing_else() {
    let role = of("Role");
    let mut given = BTreeSet::new();
    for rule in role["rules"].as_array().expect("rules") {
        for group in words(&rule["apiGroups"]) {
            for resource in words(&rule["resources"]) {
                given.extend(words(&rule["verbs"]).map(|verb| (group.clone(), resource.clone(), verb)));
            }
        }
    }
    let wanted: BTreeSet<_> =
        RIGHTS.iter().map(|right| (right.group.to_owned(), right.resource.to_owned(), right.verb.to_owned())).collect();
    assert_eq!(given, wanted);
    assert!(objects().iter().all(|object| object["kind"] != "ClusterRole"), "nothing beyond the namespace");
    let binding = of("RoleBinding");
    assert_eq!(binding["roleRef"]["name"], role["metadata"]["name"]);
    assert_eq!(binding["subjects"][0]["kind"], "ServiceAccount");
}

#[test]
fn the_quota_admits_as_many_as_it_says() {
    let hard = of("ResourceQuota")["spec"]["hard"].clone();
    let amount = |key: &str| -> u64 {
        let text = hard[key].as_str().map_or_else(|| hard[key].to_string(), str::to_owned);
        text.parse::<Amount>().expect("a quantity").millis()
    };
    // K8S_BOT_LIMIT's default, of runners of the usual size: half a processor and 1 GiB, limited to twice as much.
    let runners = 80;
    assert_eq!(amount("requests.cpu"), runners * 500);
    assert_eq!(amount("limits.cpu"), runners * 1000);
    assert_eq!(amount("requests.memory"), runners * (1 << 30) * 1000);
    assert_eq!(amount("limits.memory"), runners * (2 << 30) * 1000);
    assert!(amount("pods") / 1000 > runners, "those that end keep nobody waiting");
}

#[test]
fn runners_are_let_out_and_nobody_is_let_in() {
    let policy = of("NetworkPolicy");
    let spec = &policy["spec"];
    assert_eq!(words(&spec["policyTypes"]).collect::<Vec<_>>(), ["Ingress", "Egress"]);
    assert!(spec["ingress"].as_array().is_none_or(Vec::is_empty));
    let selected = &spec["podSelector"]["matchLabels"];
    assert_eq!(selected["app.kubernetes.io/name"], "greenroom-runner", "as every runner is labelled");
    let blocks: Vec<&Value> = spec["egress"]
        .as_array()
        .expect("rules")
        .iter()
        .flat_map(|rule| rule["to"].as_array().into_iter().flatten())
        .filter_map(|to| to.get("ipBlock"))
        .collect();
    let internet = blocks.iter().find(|block| block["cidr"] == "0.0.0.0/0").expect("meetings are on the internet");
    let except: BTreeSet<String> = words(&internet["except"]).collect();
    for private in ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10"] {
        assert!(except.contains(private), "{private} is not the internet");
    }
    assert_eq!(of("Namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"], "restricted");
    assert_eq!(of("LimitRange")["spec"]["limits"][0]["type"], "Container");
}
