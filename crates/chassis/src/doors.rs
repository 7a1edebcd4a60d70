//! gRPC between services: every call shows the installation's inner token and carries its trace.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use greenroom_domain::PlatformName;
use tonic::codegen::http::{HeaderMap, HeaderValue};
use tonic::transport::Endpoint;

use crate::{InnerChannel, Secret, Settings};

/// Shows the inner token, going out, and asks for it, coming in.
#[derive(Debug, Clone)]
pub struct Inner {
    secret: Secret,
    shown: HeaderValue,
}

const TOKEN: &str = "greenroom-inner";

impl Inner {
    /// For an installation.
    ///
    /// # Panics
    /// Never: the token is made of hexadecimal digits.
    #[must_use]
    pub fn new(secret: &Secret) -> Self {
        Self { secret: secret.clone(), shown: secret.inner_token().parse().expect("hexadecimal digits") }
    }

    /// Whether a request comes from one of our own.
    #[must_use]
    pub fn admits(&self, headers: &HeaderMap) -> bool {
        headers.get(TOKEN).and_then(|token| token.to_str().ok()).is_some_and(|token| self.secret.is_inner_token(token))
    }

    /// Puts the token where it is asked for.
    pub(crate) fn show(&self, headers: &mut HeaderMap) {
        headers.insert(TOKEN, self.shown.clone());
    }
}

/// Where the other services are.
#[derive(Debug, Clone)]
pub struct Peers {
    addresses: BTreeMap<String, String>,
    default: String,
    inner: Inner,
}

/// Every service with an inner door.
const SERVICES: &[&str] = &["accounts", "scheduler", "queue", "pool-manager", "recordings", "deployer"];

impl Peers {
    /// Reads where the others are. Without a word everything is at this process's own door.
    pub fn parse(settings: &mut Settings, own: &str, platforms: &[PlatformName], secret: &Secret) -> Self {
        let mut addresses = BTreeMap::new();
        let mut read = |name: String, variable: String, about| {
            if let Some(url) = settings.optional::<String>(&variable, about) {
                if url.parse::<Endpoint>().is_err() {
                    settings.problem(&variable, "expected http://HOST:PORT");
                }
                addresses.insert(name, url);
            }
        };
        for service in SERVICES {
            let variable = format!("{}_URL", service.to_uppercase().replace('-', "_"));
            read((*service).to_owned(), variable, "Where that service's inner door is; default: this process's own.");
        }
        for platform in platforms {
            let variable = format!("DEPLOYER_{}_URL", platform.as_str().to_uppercase().replace('-', "_"));
            read(
                format!("deployer-{platform}"),
                variable,
                "Where the deployer of that platform is; default: DEPLOYER_URL.",
            );
        }
        Self { addresses, default: format!("http://{own}"), inner: Inner::new(secret) }
    }

    /// A connection to a service, made when it is first used and made again when it breaks.
    ///
    /// # Panics
    /// Never: addresses were checked when they were read.
    #[must_use]
    pub fn channel(&self, service: &str) -> InnerChannel {
        let address = self.addresses.get(service).unwrap_or(&self.default).clone();
        let endpoint = Endpoint::from_shared(address)
            .expect("checked when it was read")
            .connect_timeout(std::time::Duration::from_secs(2))
            .timeout(std::time::Duration::from_secs(20))
            .http2_keep_alive_interval(std::time::Duration::from_secs(10))
            .keep_alive_timeout(std::time::Duration::from_secs(5))
            .tcp_nodelay(true);
        InnerChannel::new(endpoint.connect_lazy(), self.inner.clone())
    }

    /// A connection to the deployer of a platform.
    #[must_use]
    pub fn deployer(&self, platform: &PlatformName) -> InnerChannel {
        let own = format!("deployer-{platform}");
        if self.addresses.contains_key(&own) { self.channel(&own) } else { self.channel("deployer") }
    }

    /// What is shown and asked for at inner doors.
    #[must_use]
    pub fn inner(&self) -> &Inner {
        &self.inner
    }
}

/// An address to listen on.
///
/// # Errors
/// When it is none.
pub fn parse_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("{text:?}: expected IP:PORT"))
}
