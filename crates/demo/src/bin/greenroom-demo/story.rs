//! The demo's story, step by step, and its end, whatever came of it.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use greenroom_bot::config::BrowserSettings;
use greenroom_demo::host::Host;
use greenroom_demo::room::Room;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};

use crate::api::{Api, Change, Recording};
use crate::engine::{self, Engine};
use crate::greenroom::{self, Up};
use crate::recording::{self, Heard};
use crate::screen::Screen;
use crate::{Arguments, api};

/// How long everything but the host's playing may take.
const PATIENCE: Duration = Duration::from_secs(150);
/// How long the recording may take once the bot is done.
const JOINING: Duration = Duration::from_secs(60);

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("a Docker engine for the bot")]
    Engine(#[from] engine::Error),
    #[error("the meeting room could not be opened")]
    Room(#[source] std::io::Error),
    #[error("the browser's settings")]
    Settings(#[from] greenroom_bot::config::Error),
    #[error("the host's browser")]
    Host(#[from] greenroom_bot::browser::Error),
    #[error("greenroom up")]
    Up(#[from] greenroom::Error),
    #[error("the API")]
    Api(#[from] api::Error),
    #[error("the bot ended as {state} ({reason})")]
    Bot { state: String, reason: String },
    #[error("the bot was still {0} when the demo's patience ended")]
    Late(String),
    #[error("there was no recording a minute after the bot was done; its state is {0}")]
    NoRecording(String),
    #[error("the recording")]
    Recording(#[from] recording::Error),
}

/// The host, and whether browsers have a sandbox here. Where this machine lets Chromium make none, the demo goes on without:
/// its only page is its own.
async fn host(screen: &Screen, room: &Room, mut settings: BrowserSettings) -> Result<(Host, bool), Error> {
    match Host::start(room, &settings).await {
        Err(error) if error.lacks_sandbox() && !settings.sandbox_off => {
            screen.good("Chromium's sandbox is not available here; the demo's page is its own, so it goes on without");
            settings.sandbox_off = true;
            Ok((Host::start(room, &settings).await?, false))
        }
        started => Ok((started?, !settings.sandbox_off)),
    }
}

/// The story, and everything it has set up so far.
pub struct Story<'a> {
    screen: &'a Screen,
    arguments: &'a Arguments,
    engine: Option<Engine>,
    room: Option<Room>,
    host: Option<Host>,
    up: Option<Up>,
    api: Option<Api>,
    bot: Option<String>,
    over: bool,
}

impl<'a> Story<'a> {
    pub fn new(screen: &'a Screen, arguments: &'a Arguments) -> Self {
        Self { screen, arguments, engine: None, room: None, host: None, up: None, api: None, bot: None, over: false }
    }

    /// Tells it from beginning to end.
    pub async fn tell(&mut self) -> Result<(), Error> {
        let screen = self.screen;
        screen.title("Greenroom: one bot, one meeting");
        let began = Instant::now();

        if engine::asked(&std::env::var("PLATFORM_PRIORITY").unwrap_or_default()) {
            self.engine = Some(Engine::start(screen, &self.arguments.dir).await?);
        }
        // A container has a loopback of its own: what it has to reach is at the host's address in its network.
        let address = self.engine.as_ref().map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), Engine::address);
        let room = self.room.insert(Room::open_at(address, "").await.map_err(Error::Room)?);
        let meeting = room.url();

        let step = Instant::now();
        screen.waiting("the host starts the meeting in a headless tab");
        let mut settings = BrowserSettings::from_map(&std::env::vars().collect())?;
        if self.engine.is_some() {
            settings.flags.push(engine::trusting(&room.origin()));
        }
        let (host, sandboxed) = host(screen, room, settings).await?;
        self.host = Some(host);
        screen.good(&format!("Ada hosts the meeting and plays her melody ({})", seconds(step.elapsed())));

        let step = Instant::now();
        screen.waiting("starting Greenroom (Postgres, NATS and the services)");
        let (url, key) = match (&self.arguments.url, &self.arguments.api_key) {
            (Some(url), Some(key)) => (url.clone(), key.clone()),
            _ => {
                let mut settings = self.engine.as_ref().map_or(vec![], |engine| engine.settings(&room.origin()));
                if !sandboxed {
                    // Bots are processes of this machine as well, and open the same page.
                    settings.push(("GREENROOM_SANDBOX", "off".to_owned()));
                }
                let program = self.arguments.greenroom.as_deref();
                let up = self.up.insert(Up::start(program, &self.arguments.dir, address, &settings)?);
                let ready = up.ready().await?;
                (ready.url, ready.api_key)
            }
        };
        let api = self.api.insert(Api::new(&url, &key)?).clone();
        screen.good(&format!("Greenroom is up at {url} ({})", seconds(step.elapsed())));

        let mut changes = api.changes().await?;
        let asked = Timestamp::now();
        let bot = self.bot.insert(api.create(&meeting, "Notetaker").await?).clone();
        screen.good(&format!("a bot was asked for: {bot}"));
        screen.title("The bot's way");
        let timeline = self.follow(&bot, asked, &mut changes).await?;
        self.over = true;

        let recorded = Instant::now();
        screen.waiting("Greenroom joins the recording's parts");
        let recording = self.recording(&api, &bot).await?;
        let file = self.file(&api, &bot, &recording).await?;
        let joined = recorded.elapsed();
        screen.waiting("listening for the melody in the recording");
        let heard = recording::listen(&file).await?;
        self.summary(&timeline, &recording, &file, heard, joined, began.elapsed());
        Ok(())
    }

    /// Shows each change of state while the host does its part.
    async fn follow(
        &self,
        bot: &str,
        asked: Timestamp,
        changes: &mut mpsc::UnboundedReceiver<Change>,
    ) -> Result<Vec<(String, f64)>, Error> {
        let Some(host) = &self.host else { return Ok(vec![]) };
        let deadline =
            Instant::now() + PATIENCE + Duration::from_secs(self.arguments.seconds + self.arguments.admit_after);
        let mut hosting = Box::pin(self.hosting(host));
        let mut hosted = false;
        let mut timeline: Vec<(String, f64)> = Vec::new();
        let mut seen = HashSet::new();
        self.screen.waiting("waiting for Greenroom");
        loop {
            let change = tokio::select! {
                done = &mut hosting, if !hosted => {
                    done?;
                    hosted = true;
                    continue;
                }
                change = timeout_at(deadline, changes.recv()) => change,
            };
            let Ok(Some(change)) = change else {
                return Err(Error::Late(timeline.pop().map_or_else(|| "unheard of".to_owned(), |(state, _)| state)));
            };
            // Delivered at least once: what comes again is no news.
            if change.bot != bot || !seen.insert(change.id.clone()) {
                continue;
            }
            let at = change.at.duration_since(asked).as_secs_f64().max(0.0);
            let reason = change.reason.clone().unwrap_or_default();
            let why = if reason.is_empty() { String::new() } else { format!(" ({reason})") };
            self.screen.good(&format!("{at:>6.2} s  {}{why}", change.state));
            timeline.push((change.state.clone(), at));
            if change.state == "RECORDING"
                && let Some(engine) = &self.engine
                && let Some(walls) = engine.walls(bot).await
            {
                for wall in walls.lines() {
                    self.screen.line(&format!("             in a container: {wall}"));
                }
            }
            match change.state.as_str() {
                "DONE" => return Ok(timeline),
                "FATAL" | "CANCELLED" => return Err(Error::Bot { state: change.state, reason }),
                state => self.screen.waiting(&self.next(state)),
            }
        }
    }

    /// What is waited for in a state.
    fn next(&self, state: &str) -> String {
        match state {
            "SCHEDULED" => "waiting for its time".to_owned(),
            "QUEUED" => "waiting for a free slot".to_owned(),
            "DEPLOYING" if self.engine.is_some() => "Docker starts the runner's container".to_owned(),
            "DEPLOYING" => "the platform starts a runner".to_owned(),
            "JOINING_CALL" => "Chromium opens the meeting and asks to join".to_owned(),
            "IN_WAITING_ROOM" => format!("the host lets the bot in after {} s", self.arguments.admit_after),
            "IN_CALL" => "the recording starts".to_owned(),
            "RECORDING" => format!("recording; the host ends the meeting after {} s", self.arguments.seconds),
            "LEAVING" => "the bot leaves and hands in its last part".to_owned(),
            _ => "on its way".to_owned(),
        }
    }

    /// What the host does: waits for the knock, lets the bot in, plays, ends the meeting.
    async fn hosting(&self, host: &Host) -> Result<(), Error> {
        host.knocked().await?;
        sleep(Duration::from_secs(self.arguments.admit_after)).await;
        host.admit().await?;
        sleep(Duration::from_secs(self.arguments.seconds)).await;
        host.end().await?;
        Ok(())
    }

    async fn recording(&self, api: &Api, bot: &str) -> Result<Recording, Error> {
        let deadline = Instant::now() + JOINING;
        let mut state = "unknown".to_owned();
        while Instant::now() < deadline {
            if let Some(recording) = api.recording(bot).await? {
                if recording.state.eq_ignore_ascii_case("ready") {
                    return Ok(recording);
                }
                state = recording.state;
            }
            sleep(Duration::from_millis(200)).await;
        }
        Err(Error::NoRecording(state))
    }

    /// The recording's file on this machine.
    async fn file(&self, api: &Api, bot: &str, recording: &Recording) -> Result<PathBuf, Error> {
        if let Some(path) = recording.path.as_ref().map(PathBuf::from).filter(|path| path.is_file()) {
            return Ok(path);
        }
        let url = recording.url.as_deref().ok_or(api::Error::Missing("path or url"))?;
        let file = self.arguments.dir.join(format!("{bot}.webm"));
        std::fs::create_dir_all(&self.arguments.dir).map_err(api::Error::Write)?;
        api.download(url, &file).await?;
        Ok(file)
    }

    fn summary(
        &self,
        timeline: &[(String, f64)],
        recording: &Recording,
        file: &std::path::Path,
        heard: Heard,
        joined: Duration,
        total: Duration,
    ) {
        let screen = self.screen;
        screen.idle();
        screen.title("How long each step took");
        for pair in timeline.windows(2) {
            screen.line(&format!("  {:<16}{:>7.2} s", pair[0].0, (pair[1].1 - pair[0].1).max(0.0)));
        }
        screen.line(&format!("  {:<16}{:>7.2} s", "recording joined", joined.as_secs_f64()));
        screen.title("The recording");
        screen.line(&format!("  file      {}", file.display()));
        let told =
            recording.duration_ms.map_or(String::new(), |ms| format!(" (Greenroom says {:.1} s)", ms as f64 / 1000.0));
        screen.line(&format!("  length    {:.1} s{told}", heard.seconds));
        let size = recording.size_bytes.or_else(|| file.metadata().ok().map(|data| data.len())).unwrap_or_default();
        screen.line(&format!("  size      {} kB", size / 1000));
        let told = recording.mean_volume_db.map_or(String::new(), |db| format!(" (Greenroom says {db:.1} dB)"));
        screen.line(&format!("  loudness  {:.1} dB mean{told}", heard.mean_db));
        let [c, e, g, high] = heard.found.shares.map(|share| (share * 100.0).round());
        screen.line(&format!("  melody    found: C5 {c} %, E5 {e} %, G5 {g} %, C6 {high} % of the time"));
        screen.line("");
        screen.good(&format!("the bot heard what the host played; all in {}", seconds(total)));
    }

    /// Takes everything down that was set up.
    pub async fn end(mut self) {
        if let (Some(api), Some(bot), false) = (&self.api, &self.bot, self.over) {
            let _ = api.cancel(bot).await;
        }
        if let Some(host) = self.host.take() {
            host.close().await;
        }
        if let Some(bot) = &self.bot {
            greenroom::end_runner(bot).await;
        }
        if let Some(up) = self.up.take() {
            self.screen.waiting("stopping Greenroom");
            up.stop().await;
        }
        if let Some(engine) = self.engine.take() {
            self.screen.waiting("cleaning up after the container");
            engine.end(self.bot.as_deref()).await;
        }
        greenroom::childless().await;
    }

    /// Where to look when something went wrong.
    pub fn logs(&self) -> Vec<PathBuf> {
        if self.up.is_some() { greenroom::logs(&self.arguments.dir) } else { vec![] }
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
