//! What both servers have in common: starting on a port, stopping, dying, starting again.

use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};

use crate::process::{Launch, Process};
use crate::{Error, port};

/// Recovery after a kill is part of it.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long one question may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
const ASK_EVERY: Duration = Duration::from_millis(20);
/// How long a port that is ours may stay taken while we start again.
const PORT_WITHIN: Duration = Duration::from_secs(5);
const PORT_TRIES: usize = 8;

/// A program that serves on a port.
pub(crate) trait Program {
    /// Writes what the program reads at its start.
    fn prepare(&self, port: u16) -> Result<(), Error>;

    fn launch(&self, port: u16) -> Launch;

    /// Whether this server, and not another one on the same port, answers.
    async fn is_ready(&self, port: u16) -> bool;
}

/// A program and, while it runs, its process.
#[derive(Debug)]
pub(crate) struct Instance<P> {
    pub(crate) program: P,
    pub(crate) port: u16,
    process: Option<Process>,
}

impl<P: Program> Instance<P> {
    /// Starts on this port, or on one that is free.
    pub(crate) async fn start(program: P, port: Option<u16>) -> Result<Self, Error> {
        let mut tries = 0;
        loop {
            tries += 1;
            let chosen = port.unwrap_or_else(port::free);
            match run(&program, chosen).await {
                Ok(process) => {
                    return Ok(Self { program, port: chosen, process: Some(process) });
                }
                Err(Error::PortTaken { .. }) if port.is_none() && tries < PORT_TRIES => {}
                Err(error) => return Err(error),
            }
        }
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    pub(crate) async fn stop(&mut self) -> Result<(), Error> {
        match self.process.take() {
            Some(process) => process.stop().await,
            None => Ok(()),
        }
    }

    pub(crate) async fn kill(&mut self) -> Result<(), Error> {
        match self.process.take() {
            Some(process) => process.kill().await,
            None => Ok(()),
        }
    }

    pub(crate) async fn restart(&mut self) -> Result<(), Error> {
        self.stop().await?;
        let started = Instant::now();
        loop {
            match run(&self.program, self.port).await {
                Ok(process) => {
                    self.process = Some(process);
                    return Ok(());
                }
                Err(Error::PortTaken { .. }) if started.elapsed() < PORT_WITHIN => {
                    sleep(Duration::from_millis(100)).await
                }
                Err(error) => return Err(error),
            }
        }
    }

    pub(crate) async fn death(&mut self) -> Error {
        match &mut self.process {
            Some(process) => process.death().await,
            None => std::future::pending().await,
        }
    }
}

/// Starts the program and waits until it answers.
async fn run<P: Program>(program: &P, port: u16) -> Result<Process, Error> {
    program.prepare(port)?;
    let launch = program.launch(port);
    let mut process = Process::spawn(launch.clone())?;
    let started = Instant::now();
    loop {
        // Beside its death, because somebody else on that port may accept us and say nothing.
        let ready = tokio::select! {
            error = process.death() => {
                let taken = launch.tail().to_lowercase().contains("address already in use");
                return Err(if taken { Error::PortTaken { name: launch.name, port } } else { error });
            }
            ready = timeout(ANSWER_WITHIN, program.is_ready(port)) => ready.unwrap_or(false),
        };
        if ready {
            return Ok(process);
        }
        let waited = started.elapsed();
        if waited > READY_WITHIN {
            return Err(Error::NotReady { name: launch.name, waited, log: launch.log.clone(), tail: launch.tail() });
        }
        sleep(ASK_EVERY).await;
    }
}
