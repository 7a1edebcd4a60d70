//! What `greenroom platforms check` finds.

use greenroom_deployer::{Error, Finding, Quota, Wanted};
use k8s_openapi::api::authorization::v1::{SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use k8s_openapi::api::core::v1::{Namespace, ResourceQuota};
use kube::Api;
use kube::api::{ListParams, PostParams};

use crate::config::Config;
use crate::driver::K8sDeployer;
use crate::quantity::Amount;
use crate::rights::{RIGHTS, Right};
use crate::spec::{level, sized};

/// Says which level of pod security a namespace holds its pods to.
const ENFORCED: &str = "pod-security.kubernetes.io/enforce";

pub(crate) async fn run(deployer: &K8sDeployer, wanted: &Wanted) -> Vec<Finding> {
    let cluster = &deployer.cluster;
    let mut found = match cluster.call(cluster.client.apiserver_version()).await {
        Ok(version) => vec![Finding::passed("reachability", format!("Kubernetes {} answers", version.git_version))],
        Err(failure) => return vec![unreachable(&failure.into())],
    };
    found.push(rights(deployer).await);
    let namespace = namespace(deployer).await;
    found.extend(namespace.0);
    found.extend(images(&deployer.config, namespace.1.as_deref()));
    found.extend(pull_secrets(deployer).await);
    found.extend(quota(deployer, wanted).await);
    found
}

fn unreachable(error: &Error) -> Finding {
    match error {
        Error::Unauthorized(detail) => Finding::failed(
            "credentials",
            detail,
            "renew what K8S_KUBECONFIG says, or look at its context (K8S_CONTEXT)",
        ),
        error => Finding::failed(
            "reachability",
            error.detail(),
            "see whether the cluster's address in K8S_KUBECONFIG can be reached from here",
        ),
    }
}

async fn rights(deployer: &K8sDeployer) -> Finding {
    let cluster = &deployer.cluster;
    let reviews: Api<SelfSubjectAccessReview> = Api::all(cluster.client.clone());
    let mut missing = Vec::new();
    for right in RIGHTS {
        let review = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(right.attributes(&cluster.namespace)),
                ..SelfSubjectAccessReviewSpec::default()
            },
            ..SelfSubjectAccessReview::default()
        };
        match cluster.call(reviews.create(&PostParams::default(), &review)).await {
            Ok(answer) if answer.status.as_ref().is_some_and(|status| status.allowed) => {}
            Ok(_) => missing.push(right),
            Err(failure) => {
                let why = Error::from(failure).detail().to_owned();
                return Finding::skipped("permissions", why, "kubectl auth can-i --list, as who we are there");
            }
        }
    }
    missing_rights(&missing, &cluster.namespace)
}

fn missing_rights(missing: &[Right], namespace: &str) -> Finding {
    let said = |needed: bool| {
        missing.iter().filter(|right| right.needed == needed).map(Right::said).collect::<Vec<_>>().join(", ")
    };
    let advice = "give them by the Role in deploy/k8s/runners.yaml";
    match (said(true), said(false)) {
        (needed, _) if !needed.is_empty() => {
            Finding::failed("permissions", format!("in {namespace} we may not: {needed}"), advice)
        }
        (_, liked) if !liked.is_empty() => Finding::warning(
            "permissions",
            format!("in {namespace} we may not: {liked}; logs, use or these checks are poorer for it"),
            advice,
        ),
        _ => Finding::passed("permissions", format!("all {} of them, in {namespace}", RIGHTS.len())),
    }
}

/// What is found about the namespace, and the level of pod security it enforces.
async fn namespace(deployer: &K8sDeployer) -> (Option<Finding>, Option<String>) {
    let (cluster, name) = (&deployer.cluster, &deployer.cluster.namespace);
    let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
    match cluster.find(namespaces.get(name)).await {
        Ok(Some(namespace)) => {
            let level = namespace.metadata.labels.as_ref().and_then(|labels| labels.get(ENFORCED)).cloned();
            let detail = match &level {
                Some(level) => format!("{name}, which holds pods to {level}"),
                None => format!("{name}, which holds pods to nothing ({ENFORCED} is not set)"),
            };
            (Some(Finding::passed("namespace", detail)), level)
        }
        Ok(None) => {
            let advice = format!("kubectl create namespace {name}, or set K8S_NAMESPACE");
            (Some(Finding::failed("namespace", format!("there is no {name}"), advice)), None)
        }
        Err(error) => {
            let how = format!("kubectl get namespace {name} --show-labels");
            (Some(Finding::skipped("namespace", error.detail(), how)), None)
        }
    }
}

/// Levels of pod security, the strictest first.
const LEVELS: [&str; 3] = ["restricted", "baseline", "privileged"];

fn images(config: &Config, enforced: Option<&str>) -> Vec<Finding> {
    let strictness = |level: &str| LEVELS.iter().position(|known| *known == level);
    let mut found: Vec<Finding> = Vec::new();
    for (provider, image) in config.images.all() {
        let subject = provider.map_or("image".to_owned(), |provider| format!("image {provider}"));
        let needs: Vec<_> = image.needs.iter().map(|need| need.as_str()).collect();
        let needs = if needs.is_empty() { String::new() } else { format!(", which needs {}", needs.join(", ")) };
        let what = format!("{}{needs}", image.reference);
        let level = level(config, &image.needs);
        let refused = enforced.filter(|enforced| strictness(enforced) < strictness(level));
        found.push(match refused {
            Some(enforced) => Finding::failed(
                subject,
                format!("{what}: the namespace holds pods to {enforced}, and lets none of it run"),
                format!("kubectl label namespace … {ENFORCED}={level}, or have an image that needs less"),
            ),
            None => Finding::skipped(
                subject,
                format!("{what}: the nodes pull it, not we"),
                "greenroom platforms check --inside starts one",
            ),
        });
    }
    found
}

async fn pull_secrets(deployer: &K8sDeployer) -> Vec<Finding> {
    let mut found = Vec::new();
    for name in &deployer.config.pull_secrets {
        let subject = format!("pull secret {name}");
        let looked = deployer.cluster.find(deployer.cluster.secrets.get_metadata(name)).await;
        found.push(match looked {
            Ok(Some(_)) => Finding::passed(subject, "it is there"),
            Ok(None) => Finding::failed(
                subject,
                format!("there is none in {}", deployer.cluster.namespace),
                format!(
                    "kubectl create secret docker-registry {name} --docker-server=…, or set K8S_IMAGE_PULL_SECRETS"
                ),
            ),
            // The Role of ours may not, and should not: to see one is to read it.
            Err(_) => {
                let how = format!("kubectl get secret {name} -n {}", deployer.cluster.namespace);
                Finding::skipped(subject, "we may not look at Secrets", how)
            }
        });
    }
    found
}

async fn quota(deployer: &K8sDeployer, wanted: &Wanted) -> Vec<Finding> {
    let cluster = &deployer.cluster;
    let quotas: Api<ResourceQuota> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let quotas = match cluster.call(quotas.list(&ListParams::default())).await {
        Ok(list) => list.items,
        Err(failure) => {
            let how = format!("kubectl describe quota -n {}", cluster.namespace);
            return vec![Finding::skipped("quota", Error::from(failure).detail(), how)];
        }
    };
    let wanted = Wanted { size: sized(&deployer.config.sizes, &wanted.size), ..*wanted };
    let mut found = vec![admitted(&quotas).finding(&wanted, &deployer.setting("BOT_LIMIT"))];
    for quota in quotas.iter().filter(|quota| is_scoped(quota)) {
        let name = quota.metadata.name.as_deref().unwrap_or_default();
        let how = format!("kubectl describe quota {name} -n {}", cluster.namespace);
        found.push(Finding::skipped(format!("quota {name}"), "it holds for some pods alone", how));
    }
    found
}

fn is_scoped(quota: &ResourceQuota) -> bool {
    let spec = quota.spec.as_ref();
    spec.is_some_and(|spec| spec.scopes.is_some() || spec.scope_selector.is_some())
}

/// The least that any quota of all pods admits.
fn admitted(quotas: &[ResourceQuota]) -> Quota {
    let hard = |keys: &[&str], of: fn(Amount) -> u64| {
        let all =
            quotas.iter().filter(|quota| !is_scoped(quota)).filter_map(|quota| quota.spec.as_ref()?.hard.as_ref());
        let amounts = all.flat_map(|hard| keys.iter().filter_map(|key| Amount::of(hard.get(*key)?)));
        amounts.map(of).min()
    };
    Quota {
        // Each runner has one of each.
        runners: hard(&["pods", "count/pods", "count/jobs.batch", "secrets", "count/secrets"], Amount::whole),
        cpu_millis: hard(&["requests.cpu", "cpu"], Amount::millis),
        memory_bytes: hard(&["requests.memory", "memory"], Amount::whole),
        cpu_limit_millis: hard(&["limits.cpu"], Amount::millis),
        memory_limit_bytes: hard(&["limits.memory"], Amount::whole),
    }
}

#[cfg(test)]
mod tests {
    use greenroom_chassis::Settings;
    use greenroom_deployer::Verdict;
    use greenroom_domain::Resources;
    use serde_json::json;

    use super::*;

    fn quota(hard: serde_json::Value, scopes: Option<&[&str]>) -> ResourceQuota {
        serde_json::from_value(json!({ "metadata": { "name": "q" }, "spec": { "hard": hard, "scopes": scopes } }))
            .expect("a quota")
    }

    #[test]
    fn the_guides_quota_admits_28() {
        let guide = json!({ "pods": "100", "requests.cpu": "14", "requests.memory": "45Gi", "limits.cpu": "45",
            "limits.memory": "85Gi" });
        let size =
            Resources { cpu_limit_millis: Some(1000), memory_limit_bytes: Some(2 << 30), ..Resources::default() };
        let finding = admitted(&[quota(guide, None)]).finding(&Wanted { limit: 80, size }, "K8S_BOT_LIMIT");
        assert_eq!(finding.verdict, Verdict::Warning);
        assert!(finding.detail.starts_with("requested cpu admits 28 runners"), "{}", finding.detail);
        let several = [quota(json!({ "pods": "10" }), None), quota(json!({ "count/pods": "7" }), None)];
        assert_eq!(admitted(&several).runners, Some(7));
        let scoped = quota(json!({ "pods": "1" }), Some(&["BestEffort"]));
        assert_eq!(admitted(&[scoped]), Quota::default());
    }

    #[test]
    fn missing_permissions_are_named() {
        let of = |verb: &str, resource: &str| {
            RIGHTS.into_iter().find(|right| right.verb == verb && right.resource == resource)
        };
        let missing =
            [of("watch", "pods"), of("delete", "jobs"), of("get", "pods/log")].map(|right| right.expect("there"));
        let finding = missing_rights(&missing, "bots");
        assert_eq!(finding.verdict, Verdict::Failed);
        assert_eq!(finding.detail, "in bots we may not: watch pods, delete jobs.batch");
        assert_eq!(missing_rights(&missing[2..], "bots").verdict, Verdict::Warning);
        assert_eq!(missing_rights(&[], "bots").verdict, Verdict::Passed);
    }

    #[test]
    fn an_image_that_the_namespace_does_not_let_run_is_named() {
        let given = [("RUNNER_IMAGE_ZOOM", "old:1"), ("RUNNER_IMAGE_ZOOM_NEEDS", "root")];
        let given = given.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let config = Config::parse(&mut Settings::new(given, ""));
        let failed = |enforced| -> Vec<String> {
            let all = images(&config, enforced).into_iter();
            all.filter(|finding| finding.verdict == Verdict::Failed).map(|finding| finding.subject).collect()
        };
        assert_eq!(failed(Some("restricted")), ["image zoom"]);
        assert!(failed(Some("baseline")).is_empty() && failed(None).is_empty());
    }
}
