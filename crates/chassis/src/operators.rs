//! The operators' door asks for no key, so it refuses requests that a web page in somebody's browser may have caused.
//!
//! A page cannot change its `Origin`, which browsers add to every request that is not a plain reading one. A page whose name
//! was rebound to an address of ours reads like a page of our own, but shows its own name as `Host`. Names are refused only
//! at `/log-level`: Prometheus reads metrics, and probes read health, by names that only the operators know.

use std::fs;
use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::Request;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::Response;

use crate::listen::problem;

const FETCH_SITE: &str = "sec-fetch-site";

/// Refuses requests that web pages make. `Sec-Fetch-Site: none` stands for an address that a person typed.
pub(crate) async fn no_web_pages(request: Request, next: Next) -> Response {
    let headers = request.headers();
    let typed = headers.get_all(FETCH_SITE).iter().all(|site| site == "none");
    if headers.contains_key(header::ORIGIN) || !typed {
        return problem::answer(StatusCode::FORBIDDEN);
    }
    next.run(request).await
}

/// The names by which this machine calls itself.
#[derive(Debug, Clone)]
pub(crate) struct OwnNames(Arc<str>);

impl OwnNames {
    pub fn of_this_machine() -> Self {
        let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Self(name.trim().into())
    }

    /// Refuses requests that name another host than an IP address, `localhost` or the name of this machine.
    pub async fn only(self, request: Request, next: Next) -> Response {
        if self.meant_by(request.uri(), request.headers()) {
            next.run(request).await
        } else {
            problem::answer(StatusCode::MISDIRECTED_REQUEST)
        }
    }

    /// HTTP/2 has the host in the address of the request, HTTP/1 in a header or both: every one has to be ours.
    fn meant_by(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        let shown = headers.get_all(header::HOST).iter().map(|host| Authority::try_from(host.as_bytes()).ok());
        let mut hosts = uri.authority().cloned().map(Some).into_iter().chain(shown).peekable();
        hosts.peek().is_some() && hosts.all(|host| host.is_some_and(|host| self.is_ours(&host)))
    }

    /// A host with a user before it is nobody's: no browser sends one.
    fn is_ours(&self, host: &Authority) -> bool {
        !host.as_str().contains('@') && self.includes(host.host())
    }

    fn includes(&self, host: &str) -> bool {
        let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let name = host.strip_suffix('.').unwrap_or(host);
        address.parse::<IpAddr>().is_ok()
            || name.eq_ignore_ascii_case("localhost")
            || (!name.is_empty() && name.eq_ignore_ascii_case(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_own_names_are_ours_and_other_names_are_not() {
        let names = OwnNames("Build-7".into());
        let meant = |uri: &str, hosts: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(header::HOST, header::HeaderValue::from_static(host));
            }
            names.meant_by(&uri.parse().expect("an address"), &headers)
        };
        for host in
            ["127.0.0.1:8462", "10.1.2.3", "[::1]:8462", "localhost", "LOCALHOST:1", "localhost.", "build-7:8462"]
        {
            assert!(meant("/log-level", &[host]), "{host}");
        }
        for host in
            ["rebound.example:8462", "127.0.0.1.rebound.example", "a.localhost", "build-7.example", "", "a@127.0.0.1:x"]
        {
            assert!(!meant("/log-level", &[host]), "{host}");
        }
        assert!(meant("http://127.0.0.1:8462/log-level", &[]), "as HTTP/2 says it");
        assert!(!meant("http://rebound.example/log-level", &["127.0.0.1"]));
        assert!(!meant("/log-level", &["127.0.0.1", "rebound.example"]));
        assert!(!meant("/log-level", &[]));
        assert!(!OwnNames("".into()).includes(""), "a machine without a name");
    }
}
