//! The network runners are in: a bridge of their own in which none sees another.

use std::collections::HashMap;

use bollard::models::{Network as Found, NetworkCreateRequest};
use bollard::query_parameters::ListNetworksOptionsBuilder;
use greenroom_deployer::{Error, Names};

use crate::engine::Engine;
use crate::failure::Failure;
use crate::look;

/// A network of one engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Network {
    /// Its name.
    pub name: String,
    /// The host's own address in it; none: it has none.
    pub gateway: Option<String>,
}

/// The network of runners there, made where it is ours and missing. `said`: one that somebody else sees to.
pub(crate) async fn ensure(engine: &Engine, names: &Names, own: &str, said: Option<&str>) -> Result<Network, Error> {
    let mut known = engine.network.lock().await;
    if let Some(network) = &*known {
        return Ok(network.clone());
    }
    let there = find(engine, said.unwrap_or(own)).await?;
    let found = match (said, &there[..]) {
        (Some(_), [one]) => one.clone(),
        (Some(name), _) => {
            let (host, count) = (&engine.entry.name, there.len());
            return Err(Error::Rejected(format!("DOCKER_NETWORK: {host} has {count} networks {name:?}")));
        }
        (None, []) => make(engine, names, own).await?,
        (None, _) => settle(engine, names, own, there).await?,
    };
    let network = Network { name: said.unwrap_or(own).to_owned(), gateway: gateway(&found) };
    *known = Some(network.clone());
    Ok(network)
}

/// It is not there any more: whoever needs it looks again.
pub(crate) async fn forget(engine: &Engine) {
    *engine.network.lock().await = None;
}

/// Those of that name, the oldest first: engines before 25 let two be made at the same time.
pub(crate) async fn find(engine: &Engine, name: &str) -> Result<Vec<Found>, Failure> {
    let filters = HashMap::from([("name".to_owned(), vec![name.to_owned()])]);
    let options = ListNetworksOptionsBuilder::new().filters(&filters).build();
    let mut found = engine.ask(|docker| async move { docker.list_networks(Some(options)).await }).await?;
    // The filter takes parts of names as well.
    found.retain(|network| network.name.as_deref() == Some(name));
    found.sort_by(|one, other| (&one.created, &one.id).cmp(&(&other.created, &other.id)));
    Ok(found)
}

async fn make(engine: &Engine, names: &Names, name: &str) -> Result<Found, Error> {
    let request = request(names, name);
    match engine.ask(|docker| async move { docker.create_network(request).await }).await {
        Ok(_) => tracing::info!(network.name = name, host.name = engine.entry.name, "network created"),
        // Another replica was faster.
        Err(failure) if failure.is_conflict() => {}
        Err(failure) => return Err(failure.into()),
    }
    settle(engine, names, name, find(engine, name).await?).await
}

/// Of two that were made at the same time the younger goes, whoever made it. Nobody can be in it: its name is no name yet.
async fn settle(engine: &Engine, names: &Names, name: &str, there: Vec<Found>) -> Result<Found, Error> {
    let mut there = all_ours(there, names, name)?.into_iter();
    let first = there.next().ok_or_else(|| Error::Transient(format!("the network {name} is gone again")))?;
    for id in there.filter_map(|younger| younger.id) {
        if let Err(failure) = remove(engine, &id).await {
            return Err(Error::Transient(failure.words));
        }
    }
    Ok(first)
}

/// A stranger's network may let runners see each other, and whom they see; and an engine does not know which of two is meant.
fn all_ours(there: Vec<Found>, names: &Names, name: &str) -> Result<Vec<Found>, Error> {
    if there.iter().all(|network| is_ours(network, names)) {
        return Ok(there);
    }
    Err(Error::Rejected(format!(
        "the name {name} is taken by a network that is not ours; DOCKER_NETWORK names another"
    )))
}

pub(crate) fn is_ours(network: &Found, names: &Names) -> bool {
    network.labels.as_ref().is_some_and(|labels| look::is_ours(labels, names))
}

/// Removes a network that nobody is in; one that is not there is success.
pub(crate) async fn remove(engine: &Engine, id: &str) -> Result<(), Failure> {
    match engine.ask(|docker| async move { docker.remove_network(id).await }).await {
        Err(failure) if failure.is_missing() => Ok(()),
        removed => removed,
    }
}

fn request(names: &Names, name: &str) -> NetworkCreateRequest {
    let labels = names.recommended().into_iter().map(|(name, value)| (name.to_owned(), value));
    // Runners speak to the outside and to nobody beside them.
    let options =
        [("com.docker.network.bridge.enable_icc", "false"), ("com.docker.network.bridge.enable_ip_masquerade", "true")];
    NetworkCreateRequest {
        name: name.to_owned(),
        driver: Some("bridge".to_owned()),
        options: Some(options.map(|(name, value)| (name.to_owned(), value.to_owned())).into()),
        labels: Some(labels.collect::<HashMap<_, _>>()),
        ..NetworkCreateRequest::default()
    }
}

/// Whether containers in it reach each other.
pub(crate) fn sees_others(network: &Found) -> bool {
    let options = network.options.as_ref();
    options.and_then(|options| options.get("com.docker.network.bridge.enable_icc")).is_none_or(|icc| icc != "false")
}

/// The first address of an IPv4 network that the host itself has.
fn gateway(network: &Found) -> Option<String> {
    let pools = network.ipam.as_ref()?.config.as_ref()?;
    let mut gateways = pools.iter().filter_map(|pool| pool.gateway.clone());
    // Some versions write it with the network's size.
    let first = gateways.find(|gateway| gateway.contains('.'))?;
    Some(first.split('/').next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use greenroom_domain::{Installation, PlatformName};
    use serde_json::json;

    use super::*;

    #[test]
    fn runners_do_not_see_each_other() {
        let names = Names::new(Installation::new("one").expect("valid"), PlatformName::new("docker").expect("valid"));
        let request = request(&names, "one-docker");
        assert_eq!(request.options.expect("there")["com.docker.network.bridge.enable_icc"], "false");
        assert_eq!(request.labels.expect("there")["greenroom.dev/installation"], "one");
    }

    #[test]
    fn a_network_is_ours_by_its_labels_alone() {
        let names = |installation: &str| {
            Names::new(Installation::new(installation).expect("valid"), PlatformName::new("docker").expect("valid"))
        };
        let (one, two) = (names("one"), names("two"));
        let of = |names: &Names| Found { labels: request(names, "one-docker").labels, ..Found::default() };
        let bare = || Found { name: Some("one-docker".to_owned()), ..Found::default() };
        for (there, fit) in [
            (vec![], true),
            (vec![of(&one)], true),
            (vec![of(&one), of(&one)], true),
            (vec![bare()], false),
            (vec![of(&two)], false),
            (vec![of(&one), bare()], false),
        ] {
            let answer = all_ours(there.clone(), &one, "one-docker");
            assert_eq!(matches!(answer, Ok(ref same) if *same == there), fit, "{there:?}");
            assert_eq!(matches!(answer, Err(Error::Rejected(_))), !fit, "{there:?}");
        }
    }

    #[test]
    fn the_hosts_address_is_the_gateways() {
        let of = |config: serde_json::Value| {
            gateway(&serde_json::from_value(json!({ "IPAM": { "Config": config } })).expect("a network"))
        };
        assert_eq!(of(json!([{ "Subnet": "172.18.0.0/16", "Gateway": "172.18.0.1" }])).as_deref(), Some("172.18.0.1"));
        assert_eq!(of(json!([{ "Gateway": "fd00::1" }, { "Gateway": "10.0.0.1/24" }])).as_deref(), Some("10.0.0.1"));
        assert_eq!(of(json!([])), None);
    }
}
