//! What Coolify is asked for: bodies of requests, as pure functions of what a slot or a runner needs.

use std::collections::{BTreeMap, BTreeSet};

use greenroom_deployer::Image;
use greenroom_domain::Resources;
use serde_json::{Value, json};

use crate::api::Variable;

/// Where slots are made.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub project: String,
    pub server: String,
    pub environment: String,
    pub destination: String,
}

/// Name and tag of a reference as Coolify takes them: a digest is the tag of a name that ends in `@sha256`.
pub(crate) fn image_parts(reference: &str) -> (String, String) {
    if let Some((name, digest)) = reference.split_once("@sha256:") {
        // A tag beside a digest says nothing any more.
        let name = image_parts(name).0;
        return (format!("{name}@sha256"), digest.to_owned());
    }
    match reference.rsplit_once(':') {
        // A colon before the last slash belongs to a port.
        Some((name, tag)) if !tag.contains('/') => (name.to_owned(), tag.to_owned()),
        _ => (reference.to_owned(), "latest".to_owned()),
    }
}

/// What Coolify lets through of the hardening of a container. It knows no user, no read-only root, no tmpfs and no limit of
/// processes, and cuts values at their first hyphen, so that `no-new-privileges` cannot be said either: see `check`.
pub(crate) fn docker_options(shm_mb: u32) -> String {
    format!("--cap-drop=ALL --init --shm-size={shm_mb}m")
}

/// What a container has of image and size.
fn shape(image: &Image, size: &Resources, shm_mb: u32) -> Value {
    let (name, tag) = image_parts(&image.reference);
    let mebibytes = |bytes: u64| format!("{}m", (bytes >> 20).max(6));
    json!({
        "docker_registry_image_name": name,
        "docker_registry_image_tag": tag,
        "limits_cpus": format!("{}.{:03}", size.cpu_limit() / 1000, size.cpu_limit() % 1000),
        "limits_cpu_shares": (u64::from(size.cpu_millis) * 1024 / 1000).max(2),
        "limits_memory": mebibytes(size.memory_limit()),
        // As much as memory: no swap.
        "limits_memory_swap": mebibytes(size.memory_limit()),
        "limits_memory_reservation": mebibytes(size.memory_bytes),
        "custom_docker_run_options": docker_options(shm_mb),
    })
}

/// `POST /applications/dockerimage`: a slot that nothing runs in.
pub(crate) fn create(place: &Place, name: &str, image: &Image, size: &Resources, shm_mb: u32) -> Value {
    let mut body = json!({
        "project_uuid": place.project,
        "server_uuid": place.server,
        "environment_name": place.environment,
        "destination_uuid": place.destination,
        "name": name,
        "description": "[IDLE] prepared by Greenroom",
        "ports_exposes": "80",
        // Nobody comes in from outside, and nobody knocks to see whether it is well: it says so itself.
        "autogenerate_domain": false,
        "health_check_enabled": false,
        "instant_deploy": false,
        // Docker begins whatever ends anew; this has Coolify stop it when it sees that.
        "max_restart_count": 1,
    });
    merge(&mut body, shape(image, size, shm_mb));
    body
}

/// `PATCH /applications/{uuid}`: the slot is somebody's, with everything that is different about him.
pub(crate) fn claim(name: &str, image: &Image, size: &Resources, shm_mb: u32) -> Value {
    let mut body = json!({ "name": name, "max_restart_count": 1 });
    merge(&mut body, shape(image, size, shm_mb));
    body
}

fn merge(body: &mut Value, more: Value) {
    if let (Value::Object(body), Value::Object(more)) = (body, more) {
        body.extend(more);
    }
}

/// What a runner finds in its environment.
pub(crate) fn environment(launch: &BTreeMap<String, String>, image: &Image) -> BTreeMap<String, String> {
    let mut all = launch.clone();
    all.entry("HOME".to_owned()).or_insert_with(|| "/tmp".to_owned());
    // Neither namespaces (Docker's seccomp profile) nor its set-uid helper (no capabilities) are to be had there.
    all.entry("GREENROOM_SANDBOX".to_owned()).or_insert_with(|| "off".to_owned());
    if let Some(flags) = &image.chrome_flags {
        all.entry("CHROME_FLAGS".to_owned()).or_insert_with(|| flags.clone());
    }
    all
}

/// What has to be done to a slot's variables, so that a runner finds its own and no others.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Change {
    /// `PATCH /applications/{uuid}/envs/bulk`; none: nothing.
    pub set: Option<Value>,
    /// Those of others, by their uuids.
    pub delete: Vec<String>,
}

/// From what is there to what a runner needs. Coolify keeps a copy of each variable for previews, which stays empty.
pub(crate) fn change(there: &[Variable], wanted: &BTreeMap<String, String>) -> Change {
    let ours = wanted.iter().map(|(key, value)| {
        json!({
            "key": key,
            "value": value,
            "is_preview": false,
            // Between single quotes, with nothing put in for a `$`. One that has such a quote itself would end there: that one
            // Coolify escapes as well as it can.
            "is_literal": !value.contains('\''),
            "is_multiline": value.contains('\n'),
            "is_shown_once": true,
        })
    });
    let data: Vec<Value> = ours.collect();
    let strangers = there.iter().filter(|variable| !wanted.contains_key(&variable.key));
    Change {
        set: (!data.is_empty()).then(|| json!({ "data": data })),
        delete: strangers.map(|variable| variable.uuid.clone()).collect(),
    }
}

/// Takes the values of all variables away, in one request; their names may stay. None: there are none.
pub(crate) fn blank(there: &[Variable]) -> Option<Value> {
    let names: BTreeSet<(&str, bool)> =
        there.iter().map(|variable| (variable.key.as_str(), variable.is_preview)).collect();
    let data: Vec<Value> =
        names.iter().map(|(key, preview)| json!({ "key": key, "value": "", "is_preview": preview })).collect();
    (!data.is_empty()).then(|| json!({ "data": data }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(reference: &str) -> Image {
        Image { reference: reference.to_owned(), needs: BTreeSet::new(), chrome_flags: Some("--mute-audio".to_owned()) }
    }

    fn variable(uuid: &str, key: &str, is_preview: bool) -> Variable {
        Variable { uuid: uuid.to_owned(), key: key.to_owned(), is_preview }
    }

    #[test]
    fn references_are_taken_apart() {
        for (reference, name, tag) in [
            ("debian", "debian", "latest"),
            ("debian:12", "debian", "12"),
            ("ghcr.io/a/meeboter-zoom-bot:v3", "ghcr.io/a/meeboter-zoom-bot", "v3"),
            ("reg.example:5000/a/b", "reg.example:5000/a/b", "latest"),
            ("reg.example:5000/a/b:c", "reg.example:5000/a/b", "c"),
            ("ghcr.io/a/b@sha256:0123", "ghcr.io/a/b@sha256", "0123"),
            ("ghcr.io/a/b:tag@sha256:0123", "ghcr.io/a/b@sha256", "0123"),
        ] {
            assert_eq!(image_parts(reference), (name.to_owned(), tag.to_owned()), "{reference}");
        }
    }

    #[test]
    fn a_slot_as_a_request() {
        let place = Place {
            project: "p".to_owned(),
            server: "s".to_owned(),
            environment: "production".to_owned(),
            destination: "d".to_owned(),
        };
        let size =
            Resources { memory_limit_bytes: Some(3 << 29), cpu_limit_millis: Some(1250), ..Resources::default() };
        let body = create(&place, "pool-web-001", &image("ghcr.io/a/b:c"), &size, 1024);
        let expected = json!({
            "project_uuid": "p", "server_uuid": "s", "environment_name": "production", "destination_uuid": "d",
            "name": "pool-web-001", "description": "[IDLE] prepared by Greenroom", "ports_exposes": "80",
            "autogenerate_domain": false, "health_check_enabled": false, "instant_deploy": false, "max_restart_count": 1,
            "docker_registry_image_name": "ghcr.io/a/b", "docker_registry_image_tag": "c",
            "limits_cpus": "1.250", "limits_cpu_shares": 512, "limits_memory": "1536m", "limits_memory_swap": "1536m",
            "limits_memory_reservation": "1024m",
            "custom_docker_run_options": "--cap-drop=ALL --init --shm-size=1024m",
        });
        assert_eq!(body, expected);
        let claimed = claim("pool-web-001 bot", &image("x@sha256:1"), &size, 64);
        assert_eq!(claimed["name"], "pool-web-001 bot");
        assert_eq!(claimed["docker_registry_image_tag"], "1");
        assert!(claimed.get("server_uuid").is_none(), "where it is does not change");
    }

    #[test]
    fn no_option_has_a_value_that_coolify_would_cut() {
        for option in docker_options(64).split("--").filter(|option| !option.trim().is_empty()) {
            let value = option.split_once('=').map_or("", |(_, value)| value);
            assert!(!value.contains('-'), "{option}");
        }
    }

    #[test]
    fn variables_of_others_go_and_ours_come() {
        let there = [variable("1", "TOKEN", false), variable("2", "OLD", false), variable("3", "OLD", true)];
        let wanted = BTreeMap::from([("TOKEN".to_owned(), "a\nb".to_owned())]);
        let change = change(&there, &wanted);
        assert_eq!(change.delete, ["2", "3"]);
        let set = change.set.expect("one");
        assert_eq!(set["data"].as_array().map(Vec::len), Some(1));
        assert_eq!(set["data"][0]["value"], "a\nb");
        assert_eq!(set["data"][0]["is_multiline"], true);
        assert_eq!(set["data"][0]["is_shown_once"], true);
        assert_eq!(set["data"][0]["is_literal"], true);
        let quoted = BTreeMap::from([("NAME".to_owned(), "O'Brien".to_owned())]);
        assert_eq!(self::change(&[], &quoted).set.expect("one")["data"][0]["is_literal"], false);
    }

    #[test]
    fn nothing_of_an_environment_stays() {
        let there = [variable("1", "TOKEN", false), variable("2", "TOKEN", true)];
        let body = blank(&there).expect("two");
        let all = body["data"].as_array().expect("a list");
        assert_eq!(all.len(), 2);
        assert!(all.iter().all(|one| one["value"] == ""), "{all:?}");
        assert_eq!(blank(&[]), None);
    }

    #[test]
    fn runners_get_what_containers_need() {
        let own = BTreeMap::from([("HOME".to_owned(), "/srv".to_owned())]);
        let all = environment(&own, &image("x"));
        assert_eq!(all["HOME"], "/srv", "what it was given wins");
        assert_eq!(all["GREENROOM_SANDBOX"], "off");
        assert_eq!(all["CHROME_FLAGS"], "--mute-audio");
        let bare = environment(&BTreeMap::new(), &Image { chrome_flags: None, ..image("x") });
        assert_eq!(bare["HOME"], "/tmp");
        assert!(!bare.contains_key("CHROME_FLAGS"));
    }
}
