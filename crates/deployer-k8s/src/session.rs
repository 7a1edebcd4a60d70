//! Sessions: a browser to be driven, and beside it a container that shows it.
//!
//! What is here makes the pod and knows its endpoint. Nobody asks for the endpoint yet: that needs a session's owner, and a
//! gateway that passes calls on (it has to be let in by a network policy of its own).

use greenroom_chassis::Settings;
use k8s_openapi::api::core::v1::{Container, ContainerPort, Pod};

/// The name of the second container.
pub const SIDECAR: &str = "ui";

/// How sessions' pods differ from those of bots.
#[derive(Debug, Clone)]
pub struct Config {
    /// What shows the browser; none: nothing does.
    pub ui_image: Option<String>,
    /// Where the browser is driven.
    pub api_port: u16,
    /// Where it is shown.
    pub ui_port: u16,
}

impl Config {
    /// Reads the settings.
    pub fn parse(settings: &mut Settings) -> Self {
        Self {
            ui_image: settings.optional(
                "BROWSER_UI_IMAGE",
                "The image of the second container of a session's pod, which shows its browser.",
            ),
            api_port: settings.get("BROWSER_API_PORT", "3000", "The port at which a session's browser is driven."),
            ui_port: settings.get("BROWSER_UI_PORT", "5173", "The port at which a session's browser is shown."),
        }
    }

    /// The containers of a session: the browser, and what shows it where there is such.
    #[must_use]
    pub fn containers(&self, mut browser: Container) -> Vec<Container> {
        browser.ports = Some(vec![port("api", self.api_port)]);
        let ui = self.ui_image.as_ref().map(|image| Container {
            name: SIDECAR.to_owned(),
            image: Some(image.clone()),
            image_pull_policy: browser.image_pull_policy.clone(),
            security_context: browser.security_context.clone(),
            ports: Some(vec![port("ui", self.ui_port)]),
            // It shows what the other one does: with a share of its own it would be asked for twice.
            resources: None,
            ..Container::default()
        });
        std::iter::once(browser).chain(ui).collect()
    }
}

fn port(name: &str, number: u16) -> ContainerPort {
    ContainerPort { name: Some(name.to_owned()), container_port: i32::from(number), ..ContainerPort::default() }
}

/// Where a session can be reached inside the cluster: (browser, what shows it). None: it has no address yet.
#[must_use]
pub fn endpoint(pod: &Pod) -> Option<(String, Option<String>)> {
    let address = pod.status.as_ref()?.pod_ip.as_deref()?;
    let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    let ports = pod.spec.as_ref()?.containers.iter().flat_map(|container| container.ports.iter().flatten());
    let at = |name: &str| {
        let found = ports.clone().find(|port| port.name.as_deref() == Some(name))?;
        Some(format!("{host}:{}", found.container_port))
    };
    Some((at("api")?, at("ui")))
}
