//! The part of Coolify's API that slots need, one function for each request.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use greenroom_deployer::Error;
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::client::{Client, accept, is_missing};

/// An application, as far as it matters here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Application {
    pub uuid: String,
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub status: Option<String>,
    /// Since the last deployment.
    #[serde(default)]
    pub restart_count: Option<u32>,
}

/// A deployment of an application.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Deployment {
    pub deployment_uuid: String,
    #[serde(default)]
    pub status: String,
    /// For tokens that may see secrets.
    #[serde(default)]
    pub logs: Option<String>,
}

/// A variable of an application; its value is none of our business.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Variable {
    pub uuid: String,
    pub key: String,
    #[serde(default)]
    pub is_preview: bool,
}

/// A server.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Server {
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub settings: ServerSettings,
    #[serde(default)]
    pub is_reachable: Option<bool>,
    #[serde(default)]
    pub is_usable: Option<bool>,
}

/// Settings of a server.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct ServerSettings {
    #[serde(default)]
    pub is_reachable: Option<bool>,
    #[serde(default)]
    pub is_usable: Option<bool>,
    #[serde(default)]
    pub concurrent_builds: Option<u32>,
}

/// A Docker network of a server.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Destination {
    #[serde(default)]
    pub network: Option<String>,
    #[serde(default)]
    pub server_uuid: Option<String>,
}

/// Coolify.
#[derive(Debug)]
pub(crate) struct Api {
    client: Client,
    all: Shared<Vec<Application>>,
}

fn parse<T: DeserializeOwned>(value: Value) -> Result<T, Error> {
    serde_json::from_value(value).map_err(|error| Error::Transient(format!("Coolify's answer cannot be read: {error}")))
}

impl Api {
    pub fn new(client: Client) -> Self {
        Self { client, all: Shared::default() }
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, Error> {
        self.client.read(Method::GET, path, None).await?.map(parse).transpose()
    }

    /// All applications that the token sees. Whoever asks gets an answer that was asked for after he did; those who ask at
    /// the same time get the same one.
    pub async fn applications(&self) -> Result<Arc<Vec<Application>>, Error> {
        let fetch = async || {
            let all = self.get("/applications").await?;
            all.ok_or_else(|| Error::Rejected("COOLIFY_API_URL is no API of Coolify's: it ends in /api/v1".to_owned()))
        };
        self.all.get(fetch).await
    }

    /// One of them; none: there is no such one.
    pub async fn application(&self, uuid: &str) -> Result<Option<Application>, Error> {
        self.get(&format!("/applications/{uuid}")).await
    }

    /// Makes one and says its uuid. The answer may get lost.
    pub async fn create(&self, body: &Value) -> Result<String, Error> {
        #[derive(Deserialize)]
        struct Created {
            uuid: String,
        }
        // What is not found here is what it is to be made of.
        let answer = self.client.ask(Method::POST, "/applications/dockerimage", Some(body)).await?;
        parse::<Created>(accept(&answer)?).map(|created| created.uuid)
    }

    /// Changes it.
    pub async fn update(&self, uuid: &str, body: &Value) -> Result<(), Error> {
        self.must(Method::PATCH, &format!("/applications/{uuid}"), Some(body)).await
    }

    /// Has it go, with everything. One that is not there is gone.
    pub async fn delete(&self, uuid: &str) -> Result<(), Error> {
        let path = format!("/applications/{uuid}?delete_configurations=true&delete_volumes=true&docker_cleanup=false");
        self.client.read(Method::DELETE, &path, None).await.map(drop)
    }

    /// The last deployment; none: it never had one.
    pub async fn latest(&self, uuid: &str) -> Result<Option<Deployment>, Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Deployments {
            /// As the document has it.
            Listed(Vec<Deployment>),
            /// As Coolify answers.
            Counted { deployments: Vec<Deployment> },
        }
        let path = format!("/deployments/applications/{uuid}?skip=0&take=1");
        let all = self.get(&path).await?.ok_or_else(gone)?;
        let (Deployments::Listed(all) | Deployments::Counted { deployments: all }) = all;
        Ok(all.into_iter().next())
    }

    /// Asks for a deployment: its container is begun. One that is under way already is enough.
    pub async fn start(&self, uuid: &str) -> Result<(), Error> {
        self.must(Method::POST, &format!("/applications/{uuid}/start"), None).await
    }

    /// Asks for its end: SIGTERM, force after the grace that is set, and the container is removed.
    pub async fn stop(&self, uuid: &str) -> Result<(), Error> {
        self.must(Method::POST, &format!("/applications/{uuid}/stop?docker_cleanup=false"), None).await
    }

    /// Ends a deployment that is under way; one that is not any more is fine.
    pub async fn cancel(&self, deployment: &str) -> Result<(), Error> {
        let answer = self.client.ask(Method::POST, &format!("/deployments/{deployment}/cancel"), None).await?;
        if answer.status == StatusCode::BAD_REQUEST || is_missing(&answer) {
            return Ok(());
        }
        accept(&answer).map(drop)
    }

    /// Its variables.
    pub async fn variables(&self, uuid: &str) -> Result<Vec<Variable>, Error> {
        self.get(&format!("/applications/{uuid}/envs")).await?.ok_or_else(gone)
    }

    /// Makes or changes variables.
    pub async fn set_variables(&self, uuid: &str, body: &Value) -> Result<(), Error> {
        self.must(Method::PATCH, &format!("/applications/{uuid}/envs/bulk"), Some(body)).await
    }

    /// Takes one away.
    pub async fn delete_variable(&self, uuid: &str, variable: &str) -> Result<(), Error> {
        self.client.read(Method::DELETE, &format!("/applications/{uuid}/envs/{variable}"), None).await.map(drop)
    }

    /// The last lines of its container, each with its time. None: it has none that runs, and Coolify has looked on the server.
    pub async fn logs(&self, uuid: &str, lines: u32) -> Result<Option<String>, Error> {
        #[derive(Deserialize)]
        struct Logs {
            #[serde(default)]
            logs: Option<String>,
        }
        let path = format!("/applications/{uuid}/logs?lines={lines}&show_timestamps=true");
        let answer = self.client.ask(Method::GET, &path, None).await?;
        let not_running = answer.status == StatusCode::BAD_REQUEST && answer.body.contains("not running");
        if not_running || is_missing(&answer) {
            return Ok(None);
        }
        parse::<Logs>(accept(&answer)?).map(|logs| Some(logs.logs.unwrap_or_default()))
    }

    /// `4.3.11`.
    pub async fn version(&self) -> Result<String, Error> {
        let answer = self.client.ask(Method::GET, "/version", None).await?;
        match answer.status.is_success() {
            // Plain text, whatever is asked for.
            true => Ok(answer.body.trim().trim_matches('"').to_owned()),
            false => accept(&answer).map(|_| String::new()),
        }
    }

    pub async fn server(&self, uuid: &str) -> Result<Option<Server>, Error> {
        self.get(&format!("/servers/{uuid}")).await
    }

    pub async fn destination(&self, uuid: &str) -> Result<Option<Destination>, Error> {
        self.get(&format!("/destinations/{uuid}")).await
    }

    pub async fn has_project(&self, uuid: &str) -> Result<bool, Error> {
        Ok(self.get::<Value>(&format!("/projects/{uuid}")).await?.is_some())
    }

    pub async fn has_environment(&self, project: &str, name: &str) -> Result<bool, Error> {
        Ok(self.get::<Value>(&format!("/projects/{project}/{name}")).await?.is_some())
    }

    async fn must(&self, method: Method, path: &str, body: Option<&Value>) -> Result<(), Error> {
        self.client.read(method, path, body).await?.map(drop).ok_or_else(gone)
    }
}

/// Between two of our requests somebody has taken the application away.
fn gone() -> Error {
    Error::NoCapacity("the application is not there any more".to_owned())
}

/// A body for a new description.
pub(crate) fn description(words: &str) -> Value {
    json!({ "description": words })
}

/// One answer for all who ask at the same time, and never one that was asked for before they did.
#[derive(Debug)]
struct Shared<T> {
    begun: AtomicU64,
    last: Mutex<Flight<T>>,
}

/// Its number, and what came of it.
type Flight<T> = (u64, Option<Result<Arc<T>, Error>>);

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self { begun: AtomicU64::new(0), last: Mutex::new((0, None)) }
    }
}

impl<T> Shared<T> {
    async fn get<Fetching>(&self, fetch: impl FnOnce() -> Fetching) -> Result<Arc<T>, Error>
    where
        Fetching: Future<Output = Result<T, Error>>,
    {
        let before = self.begun.load(Ordering::SeqCst);
        let mut last = self.last.lock().await;
        if let (number, Some(result)) = &*last
            && *number > before
        {
            return result.clone();
        }
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let result = fetch().await.map(Arc::new);
        *last = (number, Some(result.clone()));
        result
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    #[tokio::test]
    async fn one_request_answers_all_who_ask_meanwhile() {
        let (shared, asked) = (Shared::<u32>::default(), AtomicU32::new(0));
        let fetch = async || {
            let number = asked.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            Ok(number)
        };
        let all = futures::future::join_all((0..10).map(|_| shared.get(fetch))).await;
        let numbers: Vec<u32> = all.into_iter().map(|one| *one.expect("it answers")).collect();
        assert_eq!(numbers[0], 0);
        assert!(
            numbers[1..].iter().all(|number| *number == 1),
            "those who came during the first share the next: {numbers:?}"
        );
        assert_eq!(*shared.get(fetch).await.expect("it answers"), 2, "and nobody gets an old one");
    }
}
