//! Whose API key it is, cached.

use std::time::{Duration, Instant};

use greenroom_chassis::Host;
use greenroom_contracts::proto::internal::v1::{AuthenticateRequest, Caller};
use greenroom_domain::TenantId;
use moka::Expiry;
use moka::future::Cache;
use sha2::{Digest, Sha256};
use tonic::{Code, Request, Status};

use crate::Config;
use crate::upstream::{Upstream, outward};

/// A wrong key is asked about again after so long: it may have been made meanwhile.
const NOBODYS_KEPT: Duration = Duration::from_secs(5);
const MOST: u64 = 100_000;

/// A client who has shown a good key.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub tenant: TenantId,
    pub caller: Caller,
}

/// Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    // By the key's hash. Concurrent questions about one key are one question.
    known: Cache<[u8; 32], Option<Client>>,
    upstream: Upstream,
}

impl Keys {
    pub fn new(config: &Config, host: &Host, upstream: Upstream) -> Self {
        let kept = Kept { good: host.scaled(config.key_cache), nobodys: host.scaled(NOBODYS_KEPT) };
        Self { known: Cache::builder().max_capacity(MOST).expire_after(kept).build(), upstream }
    }

    /// Whose key stands in an `Authorization` header.
    pub async fn client(&self, authorization: Option<&str>) -> Result<Client, Status> {
        let key =
            bearer(authorization).ok_or_else(|| Status::unauthenticated("send Authorization: Bearer <API key>"))?;
        let wrong = || Status::unauthenticated("the API key is not valid");
        if !key.starts_with("grk_") {
            return Err(wrong());
        }
        let hash: [u8; 32] = Sha256::digest(key.as_bytes()).into();
        let client = self.known.try_get_with(hash, self.ask(hash)).await;
        client.map_err(|status| Status::clone(&status))?.ok_or_else(wrong)
    }

    async fn ask(&self, hash: [u8; 32]) -> Result<Option<Client>, Status> {
        let what = "AccountsService.Authenticate";
        let answer = self.upstream.ask(what, || {
            let mut accounts = self.upstream.accounts.clone();
            let mut request = Request::new(AuthenticateRequest { key_sha256: hash.to_vec() });
            request.set_timeout(Duration::from_secs(5));
            async move {
                // Here that code is an answer: it is nobody's key.
                match accounts.authenticate(request).await {
                    Err(status) if status.code() == Code::Unauthenticated => Ok(tonic::Response::new(None)),
                    answer => answer.map(|caller| caller.map(Some)),
                }
            }
        });
        let Some(caller) = answer.await? else { return Ok(None) };
        let tenant = caller.tenant_id.parse().map_err(|_| outward(what, &Status::internal("no tenant id")))?;
        Ok(Some(Client { tenant, caller }))
    }
}

/// The token in an `Authorization` header.
pub(crate) fn bearer(authorization: Option<&str>) -> Option<&str> {
    let (scheme, token) = authorization?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

struct Kept {
    good: Duration,
    nobodys: Duration,
}

impl Expiry<[u8; 32], Option<Client>> for Kept {
    fn expire_after_create(&self, _: &[u8; 32], client: &Option<Client>, _: Instant) -> Option<Duration> {
        Some(if client.is_some() { self.good } else { self.nobodys })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearer_is_a_scheme_and_a_token() {
        for (header, expected) in [
            (Some("Bearer abc"), Some("abc")),
            (Some("bearer  abc "), Some("abc")),
            (Some("Basic abc"), None),
            (Some("Bearer "), None),
            (Some("abc"), None),
            (None, None),
        ] {
            assert_eq!(bearer(header), expected, "{header:?}");
        }
    }
}
