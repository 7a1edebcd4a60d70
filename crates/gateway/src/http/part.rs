//! Who asks, and what stands in the address: parts of a request before its body.

use std::collections::{BTreeMap, HashMap};
use std::str::FromStr;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Path, Request};
use axum::http::header;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::Response;
use greenroom_chassis::RunnerToken;
use greenroom_contracts::BadField;
use greenroom_domain::BotId;

use super::problem::{Kind, Problem};
use super::text;
use crate::core::Core;
use crate::keys::Client;
use greenroom_contracts::json::shortened;

impl FromRequestParts<Arc<Core>> for Client {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, core: &Arc<Core>) -> Result<Self, Problem> {
        let client = core.keys.client(text(&parts.headers, header::AUTHORIZATION.as_str())).await?;
        refuse_parameters(parts)?;
        Ok(client)
    }
}

/// A runner that has shown a good token.
pub(super) struct Runner(pub RunnerToken);

impl FromRequestParts<Arc<Core>> for Runner {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, core: &Arc<Core>) -> Result<Self, Problem> {
        let token = core.runners.token(text(&parts.headers, header::AUTHORIZATION.as_str()))?;
        refuse_parameters(parts)?;
        Ok(Self(token))
    }
}

/// Marks a request for an address that takes no parameters.
#[derive(Clone, Copy)]
struct WithoutParameters;

/// Marks the requests of routes that take no parameters, so that each one given is refused once it is known who calls.
pub(super) async fn without_parameters(mut request: Request, next: Next) -> Response {
    request.extensions_mut().insert(WithoutParameters);
    next.run(request).await
}

fn refuse_parameters(parts: &Parts) -> Result<(), Problem> {
    if parts.extensions.get::<WithoutParameters>().is_some() { Query::of(parts).finish() } else { Ok(()) }
}

/// The variable parts of the path.
pub(super) struct InPath(HashMap<String, String>);

impl InPath {
    /// The bot it speaks of. What is no id is no bot's.
    pub fn bot(&self) -> Result<BotId, Problem> {
        self.word("bot_id").parse().map_err(|_| Problem::new(Kind::NotFound, "there is no such bot"))
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
    fn of(parts: &Parts) -> Self {
        Self::parse(parts.uri.query().unwrap_or_default())
    }

    fn parse(text: &str) -> Self {
        let mut query = Self { given: BTreeMap::new(), bad: Vec::new() };
        for (name, value) in url::form_urlencoded::parse(text.as_bytes()).into_owned() {
            let called = shortened(&name);
            if query.given.insert(name, value).is_some() {
                query.bad.push(BadField::new(called, "must not be given twice"));
            }
        }
        query
    }

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
        Err(Problem::called(self.bad))
    }
}

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self::of(parts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_taken_and_the_rest_is_unknown() {
        let mut good = Query::parse("limit=7");
        assert_eq!(good.take("limit", "a number"), Some(7_u32));
        assert_eq!(good.take::<u32>("tail", "a number"), None);
        assert!(good.finish().is_ok());

        let mut bad = Query::parse("limit=x&colour=red");
        assert_eq!(bad.take::<u32>("limit", "must be a number"), None);
        let problem = bad.finish().expect_err("two problems");
        let fields: Vec<_> = problem.errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!((problem.kind, fields), (Kind::InvalidFields, vec!["limit", "colour"]));
    }

    #[test]
    fn nothing_is_given_twice() {
        for text in ["limit=1&limit=2", "limit=1&limit=1"] {
            let mut query = Query::parse(text);
            query.take::<u32>("limit", "must be a number");
            let problem = query.finish().expect_err(text);
            assert_eq!(problem.detail, "limit must not be given twice", "{text}");
        }
    }
}
