//! Settings of Nomad platforms. Address, token and namespace are called as Nomad's own tools call them.

use std::time::Duration;

use greenroom_chassis::Settings;
use greenroom_deployer::Images;
use secrecy::SecretString;

/// Where Nomad is, and how jobs are made there.
#[derive(Debug, Clone)]
pub struct Config {
    /// A server's or an agent's address.
    pub address: Option<reqwest::Url>,
    /// Who we are to it; none where access control is off.
    pub token: Option<SecretString>,
    /// The namespace of our jobs.
    pub namespace: String,
    /// Where they may run.
    pub datacenters: Vec<String>,
    /// What they run.
    pub images: Images,
    /// How long one answer may take.
    pub timeout: Duration,
    /// What a processor of its nodes counts in Nomad, in MHz.
    pub cpu_mhz: u32,
    /// The longest grace; a node's `max_kill_timeout` bounds it.
    pub kill_timeout: Duration,
    /// Shared memory of a runner, in mebibytes.
    pub shm_mb: u32,
    /// How fast we ask.
    pub requests_per_second: u32,
}

impl Config {
    /// Reads the settings.
    pub fn parse(settings: &mut Settings) -> Self {
        settings.section("deployer-nomad");
        Self {
            address: settings.required("NOMAD_ADDR", "Where Nomad's API is: http://nomad.example.com:4646."),
            token: settings.secret(
                "NOMAD_TOKEN",
                "A token with submit-job, read-job, read-logs, alloc-lifecycle and variables (write, nomad/jobs/*) in the namespace.",
            ),
            namespace: settings.get("NOMAD_NAMESPACE", "default", "The namespace of runners' jobs."),
            datacenters: settings.list("NOMAD_DATACENTERS", "*", "Where runners may run, with commas between them."),
            images: Images::parse(settings, "NOMAD_"),
            timeout: settings.millis(
                "NOMAD_TIMEOUT_MS",
                Duration::from_secs(10),
                "How long Nomad may take for one answer.",
            ),
            cpu_mhz: settings.get("NOMAD_CPU_MHZ", "2000", "What Nomad counts one processor of its nodes as, in MHz."),
            kill_timeout: settings.millis(
                "NOMAD_KILL_TIMEOUT_MS",
                Duration::from_secs(30),
                "The longest grace that a runner gets; more than 30 s needs max_kill_timeout of the nodes raised.",
            ),
            shm_mb: settings.get("NOMAD_SHM_MB", "1024", "Shared memory (/dev/shm) of a runner, in mebibytes."),
            requests_per_second: settings.get("NOMAD_REQUESTS_PER_SECOND", "50", "We ask Nomad no faster than this."),
        }
    }
}
