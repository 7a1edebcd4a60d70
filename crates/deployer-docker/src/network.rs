//! The network runners are in: a bridge of their own in which none sees another.

use std::collections::HashMap;

use bollard::models::{NetworkCreateRequest, NetworkInspect};
use greenroom_deployer::{Error, Names};

use crate::engine::Engine;
use crate::failure::Failure;

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
    let name = said.unwrap_or(own);
    let network = match (inspect(engine, name).await?, said) {
        (Some(network), _) => network,
        (None, Some(name)) => {
            return Err(Error::Rejected(format!("DOCKER_NETWORK: {} has no network {name:?}", engine.entry.name)));
        }
        (None, None) => make(engine, names, name).await?,
    };
    let network = Network { name: name.to_owned(), gateway: gateway(&network) };
    *known = Some(network.clone());
    Ok(network)
}

/// It is not there any more: whoever needs it looks again.
pub(crate) async fn forget(engine: &Engine) {
    *engine.network.lock().await = None;
}

/// None: there is none of that name.
pub(crate) async fn inspect(engine: &Engine, name: &str) -> Result<Option<NetworkInspect>, Failure> {
    match engine.ask(|docker| async move { docker.inspect_network(name, None).await }).await {
        Ok(network) => Ok(Some(network)),
        Err(failure) if failure.is_missing() => Ok(None),
        Err(failure) => Err(failure),
    }
}

async fn make(engine: &Engine, names: &Names, name: &str) -> Result<NetworkInspect, Error> {
    let request = request(names, name);
    match engine.ask(|docker| async move { docker.create_network(request).await }).await {
        Ok(_) => tracing::info!(network.name = name, host.name = engine.entry.name, "made a network for runners"),
        // Another replica was faster.
        Err(failure) if failure.is_conflict() => {}
        Err(failure) => return Err(failure.into()),
    }
    let made = inspect(engine, name).await?;
    made.ok_or_else(|| Error::Transient(format!("the network {name} is gone again")))
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

/// The first address of an IPv4 network that the host itself has.
fn gateway(network: &NetworkInspect) -> Option<String> {
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
    fn the_hosts_address_is_the_gateways() {
        let of = |config: serde_json::Value| {
            gateway(&serde_json::from_value(json!({ "IPAM": { "Config": config } })).expect("a network"))
        };
        assert_eq!(of(json!([{ "Subnet": "172.18.0.0/16", "Gateway": "172.18.0.1" }])).as_deref(), Some("172.18.0.1"));
        assert_eq!(of(json!([{ "Gateway": "fd00::1" }, { "Gateway": "10.0.0.1/24" }])).as_deref(), Some("10.0.0.1"));
        assert_eq!(of(json!([])), None);
    }
}
