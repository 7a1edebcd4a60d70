//! One process of a sandbox.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A process that runs some services, and can be treated badly. Dropped, it is killed.
#[derive(Debug)]
pub struct Node {
    /// What it is called here.
    pub name: String,
    program: PathBuf,
    services: Vec<String>,
    environment: BTreeMap<String, String>,
    child: Option<Child>,
}

impl Node {
    /// A node that is not started yet.
    #[must_use]
    pub fn new(name: String, program: &Path, services: &[&str], environment: BTreeMap<String, String>) -> Self {
        let services = services.iter().map(|service| (*service).to_owned()).collect();
        Self { name, program: program.to_owned(), services, environment, child: None }
    }

    /// Starts it, with nothing of our own environment but what programs need to run.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start(&mut self) -> io::Result<()> {
        let kept =
            ["PATH", "HOME", "LANG", "TMPDIR"].into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
        let child = Command::new(&self.program)
            .arg("serve")
            .args(&self.services)
            .env_clear()
            .envs(kept)
            .envs(&self.environment)
            // Nothing is said here: it closes when we end, however we end, and then so does the node.
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(self.last_words()?)
            .spawn()?;
        self.child = Some(child);
        Ok(())
    }

    /// Sets a variable of its environment from its next start on; `None` removes it.
    pub fn set(&mut self, name: &str, value: Option<&str>) {
        match value {
            Some(value) => drop(self.environment.insert(name.to_owned(), value.to_owned())),
            None => drop(self.environment.remove(name)),
        }
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn kill(&mut self) -> io::Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// SIGSTOP: it holds all it holds, and says nothing.
    ///
    /// # Errors
    /// When it is not there.
    pub fn pause(&self) -> io::Result<()> {
        self.signal("STOP")
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// When it is not there.
    pub fn resume(&self) -> io::Result<()> {
        self.signal("CONT")
    }

    /// SIGTERM, and the exit code that follows; none when a signal ended it.
    ///
    /// # Errors
    /// When it is not there, or does not end within a time; then it runs still.
    pub async fn terminate(&mut self, within: Duration) -> io::Result<Option<i32>> {
        self.signal("TERM")?;
        let end = Instant::now() + within;
        while let Some(child) = &mut self.child {
            if let Some(status) = child.try_wait()? {
                self.child = None;
                return Ok(status.code());
            }
            if Instant::now() > end {
                return Err(io::Error::other(format!("{} did not end within {within:?}", self.name)));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(None)
    }

    /// Where its operators' door is.
    #[must_use]
    pub fn operations(&self) -> String {
        format!("http://{}", self.variable("OPS_ADDR"))
    }

    /// What it has logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.variable("LOG_FILE")).unwrap_or_default()
    }

    /// Beside its log: what it says that has none yet, of settings that it cannot use, say.
    fn last_words(&self) -> io::Result<Stdio> {
        let log = Path::new(self.variable("LOG_FILE"));
        Ok(File::options().create(true).append(true).open(log.with_extension("stderr.log"))?.into())
    }

    fn variable(&self, name: &str) -> &str {
        self.environment.get(name).map_or("", String::as_str)
    }

    /// The code that it ended with by itself; `None` while it runs, and when a signal ended it.
    pub fn exit_code(&mut self) -> Option<i32> {
        self.child.as_mut().and_then(|child| child.try_wait().ok().flatten()).and_then(|status| status.code())
    }

    /// Whether it ended by itself.
    pub fn has_died(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(Some(_))))
    }

    fn signal(&self, signal: &str) -> io::Result<()> {
        let child = self.child.as_ref().ok_or_else(|| io::Error::other("the node does not run"))?;
        // By number, and only of a child that we have not waited for: it cannot be anybody else's.
        let sent = Command::new("kill").arg(format!("-{signal}")).arg(child.id().to_string()).status()?;
        if sent.success() { Ok(()) } else { Err(io::Error::other(format!("kill -{signal} failed"))) }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // A paused process is killed as well.
        let _ = self.kill();
    }
}
