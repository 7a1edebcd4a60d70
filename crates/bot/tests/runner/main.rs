//! The runner as a process, with a real Chromium in the demo's meeting room, against a gateway in this process.

#![allow(clippy::disallowed_methods, reason = "a test ends with what it spawns")]

mod gateway;
mod liar;
mod page;
mod private;
mod process;
mod reach;
mod truth;
mod wait;

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use gateway::Gateway;
use greenroom_bot::config::BrowserSettings;
use greenroom_contracts::proto::v1::runner_report::Report;
use greenroom_contracts::proto::v1::{AutomaticLeave, BotSettings, Desired, Meeting, RunnerConfig};
use greenroom_contracts::webm::{Beginning, beginning};
use greenroom_demo::host::Host;
use greenroom_demo::melody;
use greenroom_demo::room::Room;
use nix::sys::signal::Signal;
use process::Runner;
use tokio::time::timeout;

const PASSWORD: &str = "sesame-open";

fn config(url: &str) -> RunnerConfig {
    let meeting =
        Meeting { provider: "web".to_owned(), url: url.to_owned(), id: String::new(), password: PASSWORD.to_owned() };
    let bot = BotSettings {
        meeting: Some(meeting),
        display_name: "Note \"taker\" <b>".to_owned(),
        recording_enabled: Some(true),
        automatic_leave: Some(AutomaticLeave { waiting_room_timeout_ms: Some(60_000), ..AutomaticLeave::default() }),
        ..BotSettings::default()
    };
    RunnerConfig {
        settings: Some(bot),
        beat_interval_ms: 200,
        orphan_timeout_ms: 900_000,
        part_ms: 1_000,
        first_part: 7,
        allowed_networks: vec!["loopback".to_owned()],
    }
}

fn meeting(config: &mut RunnerConfig) -> &mut Meeting {
    config.settings.as_mut().unwrap().meeting.as_mut().unwrap()
}

fn leave(config: &mut RunnerConfig) -> &mut AutomaticLeave {
    config.settings.as_mut().unwrap().automatic_leave.as_mut().unwrap()
}

/// Lets the bot in once it has told that it waits.
async fn let_in(gateway: &Gateway, host: &Host) {
    gateway.reported("the waiting room", |report| matches!(report, Report::InWaitingRoom(_))).await;
    host.admit().await.unwrap();
}

/// Nothing that must stay secret is in the log, at the most talkative level.
fn assert_discreet(runner: &Runner, room: &Room) {
    let log = runner.log();
    assert!(log.contains("runner.admitted"), "{log}");
    for secret in [gateway::TOKEN, PASSWORD, &room.url(), room.url().rsplit('/').next().unwrap()] {
        assert!(!log.contains(secret), "the log has a secret:\n{log}");
    }
}

/// Mean volume in dB, by ffmpeg, and the sound itself.
fn decode(webm: &[u8]) -> (f64, Vec<f64>) {
    let run = |arguments: &[&str]| {
        let mut ffmpeg = Command::new("ffmpeg")
            .args(["-hide_banner", "-nostdin", "-i", "pipe:0"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("ffmpeg is needed");
        let mut stdin = ffmpeg.stdin.take().unwrap();
        let webm = webm.to_owned();
        let feed = std::thread::spawn(move || stdin.write_all(&webm));
        let output = ffmpeg.wait_with_output().unwrap();
        let _ = feed.join();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output
    };
    let output = run(&["-af", "volumedetect", "-f", "null", "-"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let volume = text.split("mean_volume: ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
    let pcm = run(&["-f", "s16le", "-ac", "1", "-ar", &melody::RATE.to_string(), "pipe:1"]);
    (volume.unwrap_or_else(|| panic!("no volume in {text}")), melody::samples(&pcm.stdout))
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_that_storage_refuses_are_kept_and_in_the_end_counted() {
    let room = Room::open(PASSWORD).await.unwrap();
    let gateway = Gateway::start(config(&room.url())).await;
    let host = Host::start(&room, &BrowserSettings::default()).await.unwrap();
    let mut runner = Runner::start(&gateway);
    let_in(&gateway, &host).await;
    gateway.until("two parts", |kept| kept.parts.len() >= 2).await;
    gateway.kept().is_full = true;
    // A disk that is freed in time costs nothing.
    gateway.until("a refused part", |kept| kept.refused_parts > 0).await;
    gateway.kept().is_full = false;
    gateway.until("six parts", |kept| kept.parts.len() >= 6).await;
    gateway.kept().is_full = true;
    let parts = gateway.kept().parts.len();
    let refused = gateway.kept().refused_parts;
    gateway.until("a refused part again", |kept| kept.refused_parts > refused).await;
    host.end().await.unwrap();
    gateway.reported("the leave", |report| matches!(report, Report::Leaving(_))).await;
    let refused = gateway.kept().refused_parts;
    // The meeting is over, and the parts are kept and sent again until the platform ends the runner.
    gateway.until("three more refusals", |kept| kept.refused_parts > refused + 3).await;
    assert_eq!(gateway.kept().parts.len(), parts);
    runner.signal(Signal::SIGTERM);

    assert_eq!(runner.ended().await.code(), Some(0), "{}", runner.log());
    let indexes: Vec<u32> = gateway.kept().parts.iter().map(|part| part.index).collect();
    assert_eq!(indexes, (7..7 + u32::try_from(indexes.len()).unwrap()).collect::<Vec<_>>());
    let notes: Vec<_> = gateway
        .kept()
        .reports
        .iter()
        .filter_map(|report| match &report.report {
            Some(Report::Note(note)) => Some(note.text.clone()),
            _ => None,
        })
        .collect();
    assert!(notes.iter().any(|note| note.ends_with("of the recording could not be handed in")), "{notes:?}");
    assert_eq!(gateway.words().last().map(String::as_str), Some("finished:meeting_ended"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bot_waits_is_let_in_records_the_melody_and_goes_when_the_meeting_ends() {
    let room = Room::open(PASSWORD).await.unwrap();
    let gateway = Gateway::start(config(&room.url())).await;
    gateway.kept().away = 3;
    let host = Host::start(&room, &BrowserSettings::default()).await.unwrap();
    let mut runner = Runner::start(&gateway);

    timeout(Duration::from_secs(180), host.knocked()).await.expect("a knock").unwrap();
    gateway.reported("the waiting room", |report| matches!(report, Report::InWaitingRoom(_))).await;
    host.admit().await.unwrap();
    gateway.until("five parts", |kept| kept.parts.len() >= 5).await;
    // Answers that get lost on the way cost nothing but time.
    gateway.kept().away = 4;
    gateway.until("eight parts", |kept| kept.parts.len() >= 8).await;
    assert_eq!(host.people().await.unwrap(), 2);
    host.end().await.unwrap();

    assert_eq!(runner.ended().await.code(), Some(0), "{}", runner.log());
    let words = gateway.words();
    let expected = ["waiting", "in_call", "recording", "leaving:meeting_ended", "stopped", "finished:meeting_ended"];
    assert_eq!(words, expected);
    assert!(gateway.kept().beats > 10);
    for label in ["joining_call", "in_waiting_room", "recording", "leaving"] {
        assert!(
            gateway.kept().screenshots.iter().any(|l| l == label),
            "no picture of {label}: {:?}",
            gateway.kept().screenshots
        );
    }

    let parts = std::mem::take(&mut gateway.kept().parts);
    let indexes: Vec<u32> = parts.iter().map(|part| part.index).collect();
    assert_eq!(indexes, (7..7 + u32::try_from(parts.len()).unwrap()).collect::<Vec<_>>());
    assert!(parts.is_sorted_by_key(|part| part.offset_ms));
    assert!(parts.iter().all(|part| part.media_type == "audio/webm;codecs=opus"));
    let webm: Vec<u8> = parts.into_iter().flat_map(|part| part.content).collect();
    let (volume, sound) = decode(&webm);
    println!(
        "mean volume {volume} dB, {:.1} s, {:?}",
        sound.len() as f64 / f64::from(melody::RATE),
        melody::find(&sound)
    );
    assert!(volume > -40.0, "{volume} dB");
    assert!(sound.len() > 7 * melody::RATE as usize, "only {} samples", sound.len());
    assert!(melody::find(&sound).melody(), "{:?}", melody::find(&sound));

    assert_discreet(&runner, &room);
    runner.assert_nothing_left();
    host.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_means_leave_flush_report_exit() {
    let room = Room::open(PASSWORD).await.unwrap();
    let gateway = Gateway::start(config(&room.url())).await;
    let host = Host::start(&room, &BrowserSettings::default()).await.unwrap();
    let mut runner = Runner::start(&gateway);
    let_in(&gateway, &host).await;
    gateway.until("two parts", |kept| kept.parts.len() >= 2).await;
    let before = gateway.kept().parts.len();

    runner.signal(Signal::SIGTERM);
    assert_eq!(runner.ended().await.code(), Some(0), "{}", runner.log());
    assert_eq!(gateway.words()[2..], ["recording", "leaving:terminated", "stopped", "finished:terminated"]);
    assert!(gateway.kept().parts.len() > before, "the last part is missing");
    runner.assert_nothing_left();
    assert_discreet(&runner, &room);
    // It left as a guest leaves, not as one whose line broke.
    assert_eq!(host.people().await.unwrap(), 1);
    host.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_browser_outlives_a_killed_runner() {
    let room = Room::open(PASSWORD).await.unwrap();
    let gateway = Gateway::start(config(&room.url())).await;
    let mut runner = Runner::start(&gateway);
    gateway.reported("the waiting room", |report| matches!(report, Report::InWaitingRoom(_))).await;
    assert!(runner.processes().len() > 3, "a browser has several processes: {:?}", runner.processes());

    runner.signal(Signal::SIGKILL);
    let killed = Instant::now();
    runner.ended().await;
    while !runner.processes().is_empty() || !runner.left_behind().is_empty() {
        assert!(killed.elapsed() < Duration::from_secs(180), "{:?} {:?}", runner.processes(), runner.left_behind());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("nothing left {} ms after SIGKILL", killed.elapsed().as_millis());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_is_not_admitted_touches_nothing() {
    let room = Room::open(PASSWORD).await.unwrap();
    let gateway = Gateway::start(config(&room.url())).await;
    gateway.kept().refuse_admission = true;
    let mut runner = Runner::start(&gateway);
    assert_eq!(runner.ended().await.code(), Some(3), "{}", runner.log());
    let kept = gateway.kept();
    assert_eq!((kept.admissions, kept.beats, kept.reports.len(), kept.screenshots.len()), (1, 0, 0, 0));
    drop(kept);
    runner.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incomplete_environment_is_named() {
    let gateway = Gateway::start(RunnerConfig::default()).await;
    let mut runner = Runner::start_with(&gateway, &[("BOT_ID", "")]);
    assert_eq!(runner.ended().await.code(), Some(2));
    assert!(runner.log().contains("BOT_ID"), "{}", runner.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn beats_can_ask_to_leave_and_to_vanish() {
    for (desired, code, last) in [(Desired::Leave, 0, "finished:leave_requested"), (Desired::Exit, 3, "waiting")] {
        let room = Room::open(PASSWORD).await.unwrap();
        let gateway = Gateway::start(config(&room.url())).await;
        let mut runner = Runner::start(&gateway);
        gateway.reported("the waiting room", |report| matches!(report, Report::InWaitingRoom(_))).await;
        gateway.kept().desired = desired;
        assert_eq!(runner.ended().await.code(), Some(code), "{}", runner.log());
        assert_eq!(gateway.words().last().map(String::as_str), Some(last));
        let gone = Instant::now();
        while !runner.processes().is_empty() || !runner.left_behind().is_empty() {
            assert!(gone.elapsed() < Duration::from_secs(180), "{:?} {:?}", runner.processes(), runner.left_behind());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_to_a_report_can_ask_to_leave() {
    let room = Room::open(PASSWORD).await.unwrap();
    let gateway = Gateway::start(config(&room.url())).await;
    gateway.kept().desired_by_report = Desired::Leave;
    let mut runner = Runner::start(&gateway);
    assert_eq!(runner.ended().await.code(), Some(0), "{}", runner.log());
    assert_eq!(gateway.words().last().map(String::as_str), Some("finished:leave_requested"));
    runner.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_failed_join_has_a_reason() {
    let room = Room::open(PASSWORD).await.unwrap();
    let host = Host::start(&room, &BrowserSettings::default()).await.unwrap();
    let web = |url: &str| config(url);
    let with = |change: fn(&mut RunnerConfig)| {
        let mut config = config(&room.url());
        change(&mut config);
        config
    };
    let cases = [
        (web(&format!("{}-nowhere", room.url())), "failed:meeting_not_found:false"),
        (web("http://127.0.0.1:9/m/x"), "failed:page_unreachable:true"),
        (web("http://no-such-host.invalid/"), "failed:meeting_not_found:false"),
        (with(|c| meeting(c).password = "wrong".to_owned()), "failed:join_denied:false"),
        (with(|c| meeting(c).provider = "zoom".to_owned()), "failed:provider_unsupported:false"),
        (with(|c| leave(c).waiting_room_timeout_ms = Some(1)), "failed:waiting_room_timeout:false"),
    ];
    for (config, expected) in cases {
        let gateway = Gateway::start(config).await;
        let mut runner = Runner::start(&gateway);
        assert_eq!(runner.ended().await.code(), Some(0), "{expected}: {}", runner.log());
        assert_eq!(gateway.words().last().map(String::as_str), Some(expected), "{}", runner.log());
        let reason = expected.split(':').nth(1).unwrap();
        let pictured = gateway.kept().screenshots.iter().any(|label| label == reason);
        assert!(pictured || reason == "provider_unsupported", "no picture of {reason}");
        assert_discreet(&runner, &room);
        runner.assert_nothing_left();
    }
    let gateway = Gateway::start(config(&room.url())).await;
    let mut runner = Runner::start_with(&gateway, &[("CHROMIUM", "/nonexistent/chromium")]);
    assert_eq!(runner.ended().await.code(), Some(0));
    assert_eq!(gateway.words(), ["failed:browser_failed:false"]);
    host.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bot_leaves_by_itself_when_everyone_else_has() {
    let room = Room::open(PASSWORD).await.unwrap();
    let mut config = config(&room.url());
    leave(&mut config).everyone_left_timeout_ms = Some(500);
    config.settings.as_mut().unwrap().recording_enabled = Some(false);
    let gateway = Gateway::start(config).await;
    let host = Host::start(&room, &BrowserSettings::default()).await.unwrap();
    let mut runner = Runner::start(&gateway);
    let_in(&gateway, &host).await;
    gateway.reported("the call", |report| matches!(report, Report::InCall(_))).await;
    host.leave().await.unwrap();
    assert_eq!(runner.ended().await.code(), Some(0), "{}", runner.log());
    assert_eq!(gateway.words(), ["waiting", "in_call", "leaving:everyone_left", "finished:everyone_left"]);
    host.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orphan_leaves_by_itself() {
    let room = Room::open(PASSWORD).await.unwrap();
    let mut config = config(&room.url());
    config.orphan_timeout_ms = 3_000;
    let gateway = Gateway::start(config).await;
    let host = Host::start(&room, &BrowserSettings::default()).await.unwrap();
    let mut runner = Runner::start(&gateway);
    let_in(&gateway, &host).await;
    gateway.reported("the recording", |report| matches!(report, Report::RecordingStarted(_))).await;
    gateway.kept().away = u32::MAX;
    while host.people().await.unwrap() > 1 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    gateway.kept().away = 0;
    assert_eq!(runner.ended().await.code(), Some(0), "{}", runner.log());
    assert_eq!(gateway.words()[3..], ["stopped", "failed:orphaned:true"], "{}", runner.log());
    runner.assert_nothing_left();
    host.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_before_admission_ends_quietly() {
    let gateway = Gateway::start(config("http://127.0.0.1:9/")).await;
    gateway.kept().away = u32::MAX;
    let mut runner = Runner::start(&gateway);
    gateway.until("a first try", |kept| kept.away < u32::MAX).await;
    runner.signal(Signal::SIGTERM);
    assert_eq!(runner.ended().await.code(), Some(0), "{}", runner.log());
    runner.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_dies_is_reported_and_what_was_recorded_is_kept() {
    let room = Room::open(PASSWORD).await.unwrap();
    let gateway = Gateway::start(config(&room.url())).await;
    let host = Host::start(&room, &BrowserSettings::default()).await.unwrap();
    let mut runner = Runner::start(&gateway);
    let_in(&gateway, &host).await;
    gateway.until("six parts", |kept| kept.parts.len() >= 6).await;
    runner.kill_browser();
    assert_eq!(runner.ended().await.code(), Some(0), "{}", runner.log());
    assert_eq!(gateway.words().last().map(String::as_str), Some("failed:browser_failed:true"));
    let webm: Vec<u8> = gateway.kept().parts.iter().flat_map(|part| part.content.clone()).collect();
    assert!(melody::find(&decode(&webm).1).melody());
    runner.assert_nothing_left();
    host.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_meeting_without_a_sound_is_left() {
    let room = Room::open(PASSWORD).await.unwrap();
    let mut config = config(&room.url());
    leave(&mut config).inactivity_timeout_ms = Some(5_000);
    let gateway = Gateway::start(config).await;
    let host = Host::start(&room, &BrowserSettings::default()).await.unwrap();
    let mut runner = Runner::start(&gateway);
    let_in(&gateway, &host).await;
    gateway.until("eight parts", |kept| kept.parts.len() >= 8).await;
    assert_eq!(gateway.words().last().map(String::as_str), Some("recording"), "it left although there was sound");
    host.tab().ask::<bool>("mute", "document.querySelector('#mute').click(), true").await.unwrap();
    assert_eq!(runner.ended().await.code(), Some(0), "{}", runner.log());
    assert_eq!(gateway.words().last().map(String::as_str), Some("finished:inactivity"));
    host.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_lies_to_the_recorder_neither_finds_nor_changes_it() {
    let liar = liar::Liar::start().await;
    let gateway = Gateway::start(config(&liar.url())).await;
    let mut runner = Runner::start(&gateway);
    gateway.until("six parts", |kept| kept.parts.len() >= 6).await;
    gateway.kept().desired = Desired::Leave;
    assert_eq!(runner.ended().await.code(), Some(0), "{}", runner.log());

    let parts = std::mem::take(&mut gateway.kept().parts);
    for part in &parts {
        let shown = String::from_utf8_lossy(&part.content[..part.content.len().min(40)]).into_owned();
        assert!(beginning(&part.content).is_some(), "part {} begins with {shown:?}", part.index);
    }
    assert_eq!(beginning(&parts[0].content), Some(Beginning::Header));
    assert_eq!(liar.found(), Vec::<String>::new(), "the page found something of the recorder");
    let webm: Vec<u8> = parts.into_iter().flat_map(|part| part.content).collect();
    let (volume, sound) = decode(&webm);
    assert!(volume > -40.0, "{volume} dB");
    assert!(sound.len() > 4 * melody::RATE as usize, "only {} samples", sound.len());
    runner.assert_nothing_left();
}

/// A page joins, and a frame of it holds the call: FRAME says how.
const FRAMED: &str = r#"
show("joined");
const call = async (Connection) => {
  const context = new AudioContext(), tone = context.createOscillator(), out = context.createMediaStreamDestination();
  tone.connect(out);
  tone.start();
  const [a, b] = [new Connection(), new Connection()];
  a.onicecandidate = ({ candidate }) => candidate && b.addIceCandidate(candidate);
  b.onicecandidate = ({ candidate }) => candidate && a.addIceCandidate(candidate);
  a.addTrack(out.stream.getAudioTracks()[0], out.stream);
  await a.setLocalDescription(await a.createOffer());
  await b.setRemoteDescription(a.localDescription);
  await b.setLocalDescription(await b.createAnswer());
  await a.setRemoteDescription(b.localDescription);
};
const frame = document.createElement("iframe");
FRAME
"#;

#[tokio::test(flavor = "multi_thread")]
async fn sound_of_a_same_origin_frame_is_recorded() {
    for (kind, script) in [
        (
            "a document",
            "frame.srcdoc = `<script>(${call})(RTCPeerConnection)<\\/script>`; document.body.append(frame);",
        ),
        ("an empty one", "document.body.append(frame); call(frame.contentWindow.RTCPeerConnection);"),
    ] {
        let page = page::Page::open(&FRAMED.replace("FRAME\n", script)).await;
        let gateway = Gateway::start(config(&page.url())).await;
        let mut runner = Runner::start(&gateway);
        gateway.until("five parts", |kept| kept.parts.len() >= 5).await;
        gateway.kept().desired = Desired::Leave;
        assert_eq!(runner.ended().await.code(), Some(0), "{}", runner.log());
        let parts = std::mem::take(&mut gateway.kept().parts);
        let webm: Vec<u8> = parts.into_iter().flat_map(|part| part.content).collect();
        let (volume, _) = decode(&webm);
        assert!(volume > -40.0, "{kind}: {volume} dB");
    }
}
