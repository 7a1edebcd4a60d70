//! Settings of Coolify platforms.

use std::time::Duration;

use greenroom_chassis::Settings;
use greenroom_deployer::Images;
use secrecy::SecretString;

/// Where Coolify is, and where in it slots are made.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its API's address, with `/api/v1`.
    pub api_url: Option<reqwest::Url>,
    /// Who we are to it.
    pub api_token: Option<SecretString>,
    /// The project that slots belong to.
    pub project: Option<String>,
    /// The server that they run on.
    pub server: Option<String>,
    /// The project's environment.
    pub environment: Option<String>,
    /// The Docker network of the server's.
    pub destination: Option<String>,
    /// What runs in them.
    pub images: Images,
    /// How long one answer may take, once it is our turn to ask.
    pub timeout: Duration,
    /// How often all applications are looked at, in one request.
    pub poll: Duration,
    /// What Coolify admits.
    pub requests_per_minute: u32,
    /// Shared memory of a runner, in mebibytes.
    pub shm_mb: u32,
}

impl Config {
    /// Reads the settings.
    pub fn parse(settings: &mut Settings) -> Self {
        settings.section("deployer-coolify");
        Self {
            api_url: settings
                .required("COOLIFY_API_URL", "Where Coolify's API is: https://coolify.example.com/api/v1."),
            api_token: settings.required_secret(
                "COOLIFY_API_TOKEN",
                "A token of Coolify's (Keys & Tokens) with the permissions read, write and deploy; with read:sensitive too, failed starts say why.",
            ),
            project: settings.required("COOLIFY_PROJECT_UUID", "The project in which slots are made."),
            server: settings.required("COOLIFY_SERVER_UUID", "The server that they run on."),
            environment: settings.required("COOLIFY_ENVIRONMENT_NAME", "The project's environment: production."),
            destination: settings
                .required("COOLIFY_DESTINATION_UUID", "The server's destination (a Docker network) they are in."),
            images: Images::parse(settings, "COOLIFY_"),
            timeout: settings.millis(
                "COOLIFY_TIMEOUT_MS",
                Duration::from_secs(10),
                "How long Coolify may take for one answer. The wait for our turn to ask is not in it.",
            ),
            poll: settings.millis(
                "COOLIFY_POLL_MS",
                Duration::from_secs(10),
                "How often Coolify is asked for all statuses, in one request.",
            ),
            requests_per_minute: settings.get(
                "COOLIFY_REQUESTS_PER_MINUTE",
                "200",
                "What Coolify admits (its API_RATE_LIMIT): we ask no faster.",
            ),
            shm_mb: settings.get("COOLIFY_SHM_MB", "1024", "Shared memory (/dev/shm) of a runner, in mebibytes."),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_missing_is_named() {
        let mut settings = Settings::new([], "");
        let config = Config::parse(&mut settings);
        assert_eq!(config.requests_per_minute, 200);
        let problems = settings.finish().expect_err("nothing is set").0;
        let named: Vec<&str> = problems.iter().filter_map(|problem| problem.split(": ").next()).collect();
        assert_eq!(
            named,
            [
                "COOLIFY_API_URL",
                "COOLIFY_API_TOKEN",
                "COOLIFY_PROJECT_UUID",
                "COOLIFY_SERVER_UUID",
                "COOLIFY_ENVIRONMENT_NAME",
                "COOLIFY_DESTINATION_UUID",
            ]
        );
    }
}
