//! Who asks, and what stands in the address: parts of a request before its body.

use std::collections::{BTreeMap, HashMap};
use std::str::FromStr;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Path};
use axum::http::header;
use axum::http::request::Parts;
use greenroom_chassis::RunnerToken;
use greenroom_contracts::BadField;
use greenroom_domain::BotId;

use super::problem::{Kind, Problem};
use super::text;
use crate::core::Core;
use crate::keys::Client;

impl FromRequestParts<Arc<Core>> for Client {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, core: &Arc<Core>) -> Result<Self, Problem> {
        Ok(core.keys.client(text(&parts.headers, header::AUTHORIZATION.as_str())).await?)
    }
}

/// A runner that has shown a good token.
pub(super) struct Runner(pub RunnerToken);

impl FromRequestParts<Arc<Core>> for Runner {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, core: &Arc<Core>) -> Result<Self, Problem> {
        Ok(Self(core.runners.token(text(&parts.headers, header::AUTHORIZATION.as_str()))?))
    }
}

/// The variable parts of the path.
pub(super) struct InPath(HashMap<String, String>);

impl InPath {
    /// The bot it speaks of. What is no id is no bot's.
    pub fn bot(&self) -> Result<BotId, Problem> {
        self.word("id").parse().map_err(|_| Problem::new(Kind::NotFound, "there is no such bot"))
    }

    pub fn word(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }
}

impl FromRequestParts<Arc<Core>> for InPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, core: &Arc<Core>) -> Result<Self, Problem> {
        let path = Path::from_request_parts(parts, core).await;
        path.map(|Path(words)| Self(words))
            .map_err(|_| Problem::new(Kind::NotFound, "there is nothing at this address"))
    }
}

/// What stands behind the question mark. Each parameter is taken by name; what is left is unknown.
pub(super) struct Query {
    given: BTreeMap<String, String>,
    bad: Vec<BadField>,
}

impl Query {
    /// A parameter, if it is there.
    pub fn take<T: FromStr>(&mut self, name: &str, expected: &str) -> Option<T> {
        let text = self.given.remove(name)?;
        let value = text.parse().ok();
        if value.is_none() {
            self.bad.push(BadField::new(name, expected));
        }
        value
    }

    /// All that was wrong with it.
    pub fn finish(mut self) -> Result<(), Problem> {
        self.bad
            .extend(self.given.into_keys().map(|name| BadField::new(shortened(&name), "there is no such parameter")));
        if self.bad.is_empty() {
            return Ok(());
        }
        Err(Problem { kind: Kind::InvalidRequest, ..Problem::called(self.bad) })
    }
}

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let query = parts.uri.query().unwrap_or_default();
        let given = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        Ok(Self { given, bad: Vec::new() })
    }
}

/// A name that a client made up, fit to be said back.
pub(super) fn shortened(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Query {
        let given = url::form_urlencoded::parse(text.as_bytes()).into_owned().collect();
        Query { given, bad: Vec::new() }
    }

    #[test]
    fn parameters_are_taken_and_the_rest_is_unknown() {
        let mut good = query("limit=7");
        assert_eq!(good.take("limit", "a number"), Some(7_u32));
        assert_eq!(good.take::<u32>("tail", "a number"), None);
        assert!(good.finish().is_ok());

        let mut bad = query("limit=x&colour=red");
        assert_eq!(bad.take::<u32>("limit", "must be a number"), None);
        let problem = bad.finish().expect_err("two problems");
        let fields: Vec<_> = problem.errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!((problem.kind, fields), (Kind::InvalidRequest, vec!["limit", "colour"]));
    }
}
