//! From a host to its addresses.

use std::io;
use std::net::IpAddr;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use greenroom_domain::network::local_name;

use super::Trouble;

/// Finds the addresses of a name.
pub trait Resolve: Send + Sync + 'static {
    /// All of them, the best first.
    fn resolve(&self, name: String) -> BoxFuture<'_, io::Result<Vec<IpAddr>>>;
}

/// As every program of this machine finds them.
#[derive(Debug, Clone, Copy)]
pub struct System;

impl Resolve for System {
    fn resolve(&self, name: String) -> BoxFuture<'_, io::Result<Vec<IpAddr>>> {
        let found = async move { Ok(tokio::net::lookup_host((name, 0)).await?.map(|found| found.ip()).collect()) };
        found.boxed()
    }
}

/// The addresses of a URL's host: a literal is one, `localhost` is this machine whatever a resolver says.
pub(super) async fn addresses(resolver: &dyn Resolve, host: &str) -> Result<Vec<IpAddr>, Trouble> {
    let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if let Ok(address) = literal.parse() {
        return Ok(vec![address]);
    }
    if let Some(local) = local_name(host) {
        return Ok(local.to_vec());
    }
    match resolver.resolve(host.to_owned()).await {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) | Err(_) => Err(Trouble::NoAddress),
    }
}
