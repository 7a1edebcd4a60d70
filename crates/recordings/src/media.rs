//! The one way to run a program over media that came from outside. Whoever can upload a part chooses the bytes that ffmpeg
//! reads, so that a run is locked in four times over:
//!
//! - the demuxer, the decoders and the protocols are named by us and never guessed ([`input`]): the bytes of a list or a
//!   manifest are not taken for one, and nothing that a file names is opened;
//! - the process sees its own folder, the system's libraries and nothing else (Landlock), and has no network (a namespace of
//!   its own where the system allows that, Landlock's rules for TCP everywhere);
//! - memory, processor time, output and open files are limited, and so is the time on the clock;
//! - it gets no environment, and what it writes to its log is kept up to a bound.
//!
//! A system without Landlock or namespaces is told of once in the log; the rest holds there too.

mod jail;
pub mod verdict;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{ChildStdin, Command};

use verdict::{Exit, Fault};

/// Address space of one run. ffmpeg and its libraries map some 400 MiB before they read anything; copying sound needs a few
/// more.
const MEMORY: u64 = 2 << 30;
/// Open files of one run, beside its inputs.
const FILES: usize = 32;
/// What is kept of a log or of figures: the end, where the verdict is.
const KEPT: usize = 64 << 10;
/// Of the time on the clock, so much may be the processor's: who has used it up asks for too much, who has not was kept
/// waiting by the machine.
const PROCESSOR_SHARE: f64 = 0.75;

/// Sets limits, then becomes the program. In kibibytes, seconds, blocks of 512 bytes and files.
const LIMITS: &str =
    r#"ulimit -c 0 && ulimit -v "$1" && ulimit -S -t "$2" && ulimit -f "$3" && ulimit -n "$4" && shift 4 && exec "$@""#;

/// Why a run came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program could not be started.
    #[error("ffmpeg cannot be started ({0}): install it, or set FFMPEG")]
    Missing(String),
    /// The program does not accept its input.
    #[error("ffmpeg says: {0}")]
    Refused(String),
    /// The input asks for more than a run may have.
    #[error("joining takes too much: {0}")]
    Exceeded(String),
    /// Something on this machine failed that may work later.
    #[error("ffmpeg failed for now: {0}")]
    Passing(String),
    /// It took too long, and the processor was not busy with it.
    #[error("ffmpeg took longer than {} s", .0.as_secs())]
    TimedOut(Duration),
    /// The working folder or the program's pipes failed.
    #[error("ffmpeg cannot be run here")]
    Io(#[from] std::io::Error),
}

/// The program, and how long a run may take.
#[derive(Debug, Clone)]
pub struct Media {
    pub program: PathBuf,
    pub timeout: Duration,
}

/// One run.
pub struct Job<'a> {
    /// The folder that it works in, and all it sees of this machine's files. Inputs and outputs are named relative to it.
    pub folder: &'a Path,
    /// Everything after the general options; inputs as [`input`] names them.
    pub arguments: Vec<OsString>,
    /// How many files it reads.
    pub inputs: usize,
    /// The most that it may write into one file, in bytes.
    pub most_output: u64,
}

/// What a run said.
#[derive(Debug)]
pub struct Output {
    /// What `-progress pipe:1` wrote.
    pub progress: String,
    pub log: String,
}

/// The options of one input: WebM of Opus or Vorbis, from a file of the folder or from `pipe:0`, and nothing else.
pub fn input(name: &str) -> impl Iterator<Item = &str> {
    let protocol = if name.starts_with("pipe:") { "pipe" } else { "file" };
    [
        "-protocol_whitelist",
        protocol,
        "-format_whitelist",
        "matroska,webm",
        "-codec_whitelist",
        DECODERS,
        "-f",
        "matroska",
        "-i",
        name,
    ]
    .into_iter()
}

/// The decoders that may be used.
pub const DECODERS: &str = "opus,libopus,vorbis,libvorbis";

impl Media {
    /// Runs the program without input of ours.
    ///
    /// # Errors
    /// As [`Error`].
    pub async fn run(&self, job: Job<'_>) -> Result<Output, Error> {
        self.run_fed(job, async |_| Ok::<_, Error>(())).await
    }

    /// Runs the program, and feeds its standard input (`pipe:0`). A program that stops reading is judged by how it ends.
    ///
    /// # Errors
    /// As [`Error`], and what feeding reports other than a broken pipe.
    pub async fn run_fed<E: From<Error>>(
        &self,
        job: Job<'_>,
        feed: impl AsyncFnOnce(&mut ChildStdin) -> Result<(), E>,
    ) -> Result<Output, E> {
        let processor = self.timeout.mul_f64(PROCESSOR_SHARE).as_secs().max(1);
        let limits = [MEMORY >> 10, processor, job.most_output.div_ceil(512), (FILES + job.inputs) as u64];
        let mut arguments: Vec<OsString> = ["-c", LIMITS, "sh"].map(OsString::from).into();
        arguments.extend(limits.iter().map(|limit| limit.to_string().into()));
        let program = jail::find(&self.program).ok_or_else(|| Error::Missing("there is no such program".to_owned()))?;
        arguments.push(program.clone().into());
        let general =
            ["-nostdin", "-hide_banner", "-nostats", "-y", "-loglevel", "info", "-progress", "pipe:1", "-threads", "1"];
        arguments.extend(general.map(OsString::from));
        arguments.extend(job.arguments);

        let mut command = Command::new("sh");
        command.args(arguments).current_dir(job.folder).env_clear().env("LC_ALL", "C");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = jail::spawn(command, job.folder, &program).await?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(mut stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(Error::Io(std::io::Error::other("a pipe is missing")).into());
        };
        let fed = async move {
            let fed = feed(&mut stdin).await;
            drop(stdin);
            fed
        };
        let all = async { tokio::join!(fed, tail(stdout), tail(stderr), child.wait()) };
        let Ok((fed, progress, log, status)) = tokio::time::timeout(self.timeout, all).await else {
            return Err(Error::TimedOut(self.timeout).into());
        };
        let (progress, log) = (progress.map_err(Error::Io)?, log.map_err(Error::Io)?);
        // What was fed broke off when this fails: how the program took that says nothing.
        fed?;
        judge(status.map_err(Error::Io)?, &log)?;
        Ok(Output { progress, log })
    }
}

fn judge(status: ExitStatus, log: &str) -> Result<(), Error> {
    use std::os::unix::process::ExitStatusExt;
    let exit = match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, signal) => Exit::Signal(signal.unwrap_or(0)),
    };
    let fault = verdict::judge(exit, log);
    let why = || verdict::complaint(log);
    match fault {
        None => Ok(()),
        Some(Fault::Program) => Err(Error::Missing(why())),
        Some(Fault::Input) => Err(Error::Refused(match exit {
            Exit::Signal(signal) => format!("it crashed (signal {signal})"),
            Exit::Code(_) => why(),
        })),
        Some(Fault::Limit(limit)) => Err(Error::Exceeded(limit.to_owned())),
        Some(Fault::Machine(what)) => Err(Error::Passing(what)),
    }
}

/// Reads to the end and keeps the last bytes.
async fn tail(mut pipe: impl AsyncRead + Unpin) -> std::io::Result<String> {
    let (mut kept, mut buffer) = (Vec::new(), vec![0; 16 << 10]);
    loop {
        let n = pipe.read(&mut buffer).await?;
        if n == 0 {
            return Ok(String::from_utf8_lossy(&kept).into_owned());
        }
        kept.extend_from_slice(&buffer[..n]);
        if kept.len() > 2 * KEPT {
            kept.drain(..kept.len() - KEPT);
        }
    }
}

/// Writes all of it; a reader that is gone is not an error.
///
/// # Errors
/// When the pipe fails otherwise.
pub async fn write(pipe: &mut ChildStdin, bytes: &[u8]) -> Result<bool, Error> {
    use tokio::io::AsyncWriteExt;
    match pipe.write_all(bytes).await {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Error::Io(error)),
    }
}

/// Arguments, as a job takes them.
pub fn arguments<'a>(words: impl IntoIterator<Item = &'a str>) -> Vec<OsString> {
    words.into_iter().map(|word| OsStr::new(word).to_owned()).collect()
}

#[cfg(test)]
mod tests;
