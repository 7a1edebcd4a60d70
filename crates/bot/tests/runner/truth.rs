//! What becomes of a bot whose runner fails in every way it can: the real runner with a real Chromium, and what the scheduler
//! decides on its reports. Each has ways to fail that the other alone does not show.

use std::time::Duration;

use greenroom_contracts::proto::v1::runner_report::Report as Said;
use greenroom_contracts::proto::v1::{Desired, RunnerConfig};
use greenroom_domain::bot::{AttemptState, Bot, BotState, Decision, Event, Policy, Report, Timing, decide};
use greenroom_domain::{Attempt, BotId, Exit, InstanceId, PlatformName, Reason, TenantId, Timestamp};
use nix::sys::signal::Signal;
use uuid::Uuid;

use crate::config;
use crate::gateway::Gateway;
use crate::page::Page;
use crate::process::Runner;

/// A bot whose first attempt has a runner that was admitted.
fn admitted(instance: InstanceId, now: Timestamp) -> Bot {
    let platform = PlatformName::new("local").unwrap();
    let attempt =
        AttemptState { platform: Some(platform.clone()), started: true, ..AttemptState::new(Attempt(1), now, now) };
    let hour = Duration::from_secs(3_600);
    let bot = Bot {
        id: BotId::from_uuid(Uuid::from_u128(1)),
        tenant: TenantId::from_uuid(Uuid::from_u128(2)),
        state: BotState::Deploying,
        state_since: now,
        reason: None,
        start_at: now,
        end_at: None,
        queued_at: Some(now),
        queue_deadline: None,
        joined_at: None,
        policy: Policy {
            max_retries: 3,
            rejoin: true,
            queue_timeout: hour,
            waiting_room_timeout: hour,
            max_duration: hour,
        },
        chain: vec![platform],
        chain_from: 0,
        failures: 0,
        wake_at: None,
        asserts: 0,
        attempt: Some(attempt),
    };
    decided(&bot, &Event::AdmissionAsked { attempt: Attempt(1), instance }, now)
}

fn decided(bot: &Bot, event: &Event, now: Timestamp) -> Bot {
    match decide(bot, event, now, &Timing::default()) {
        Decision::Advance { next, .. } => *next,
        Decision::Ignore(_) => bot.clone(),
        Decision::Reject(why) => panic!("{event:?}: {why}"),
    }
}

fn understood(said: &Said) -> Report {
    match said {
        Said::Joining(_) => Report::Joining,
        Said::InWaitingRoom(_) => Report::InWaitingRoom,
        Said::InCall(_) => Report::InCall,
        Said::RecordingStarted(_) => Report::RecordingStarted,
        Said::RecordingStopped(_) => Report::RecordingStopped,
        Said::Leaving(leaving) => Report::Leaving(Reason::open(&leaving.reason)),
        Said::Finished(finished) => Report::Finished(Reason::open(&finished.reason)),
        Said::Failed(failed) => Report::Failed { reason: Reason::open(&failed.reason), may_pass: failed.may_pass },
        Said::Note(_) => Report::Note,
    }
}

/// What the scheduler makes of what a runner said, and of its end: each state once, and the last reason.
fn story(gateway: &Gateway, asked_to_leave: bool, code: Option<i32>) -> (Vec<&'static str>, String) {
    let (now, instance) = (Timestamp::now(), InstanceId::from_uuid(Uuid::from_u128(3)));
    let mut bot = admitted(instance, now);
    let mut states = vec![bot.state];
    let mut step = |bot: &mut Bot, event: Event| {
        *bot = decided(bot, &event, now);
        if states.last() != Some(&bot.state) {
            states.push(bot.state);
        }
    };
    if asked_to_leave {
        step(&mut bot, Event::LeaveAsked);
    }
    for said in &gateway.kept().reports {
        let report = understood(said.report.as_ref().unwrap());
        step(&mut bot, Event::Reported { attempt: Attempt(1), instance, sequence: said.sequence, report });
    }
    step(&mut bot, Event::Gone { attempt: Attempt(1), exit: code.map(Exit::with_code) });
    (states.into_iter().map(BotState::as_str).collect(), bot.reason.map_or_else(String::new, |r| r.to_string()))
}

struct Meeting {
    page: Page,
    gateway: Gateway,
    runner: Runner,
}

impl Meeting {
    async fn begin(script: &str) -> Self {
        Self::begin_with(script, |_, _| {}).await
    }

    async fn begin_with(script: &str, change: fn(&mut RunnerConfig, &Page)) -> Self {
        let page = Page::open(script).await;
        let mut config = config(&page.url());
        change(&mut config, &page);
        let gateway = Gateway::start(config).await;
        let runner = Runner::start(&gateway);
        Self { page, gateway, runner }
    }

    async fn recording(&self) {
        self.gateway.reported("the recording", |report| matches!(report, Said::RecordingStarted(_))).await;
    }

    /// Waits until it has reported so much.
    async fn words(&self, words: &[&str]) {
        let heard = |kept: &crate::gateway::Kept| {
            kept.reports.iter().map(|r| crate::gateway::word(r.report.as_ref().unwrap())).collect::<Vec<_>>()
        };
        self.gateway
            .until(&format!("{words:?}"), |kept| {
                heard(kept).starts_with(&words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>())
            })
            .await;
    }

    async fn ends(mut self, states: &[&str], reason: &str) {
        self.ends_when(false, states, reason).await;
    }

    async fn ends_when(&mut self, asked_to_leave: bool, states: &[&str], reason: &str) {
        let code = self.runner.ended().await.code();
        let story = story(&self.gateway, asked_to_leave, code);
        let expected = (states.to_vec(), reason.to_owned());
        assert_eq!(story, expected, "{:?}\n{}", self.gateway.words(), self.runner.log());
        // What the browser was killed with is on its way out.
        while !self.runner.processes().is_empty() || !self.runner.left_behind().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

const IN_CALL: &str = "show('joined'); await step();";

#[tokio::test(flavor = "multi_thread")]
async fn a_bot_that_is_not_admitted_to_the_meeting_fails() {
    let impatient = |config: &mut RunnerConfig, _: &Page| {
        crate::leave(config).waiting_room_timeout_ms = Some(1);
    };
    let meeting = Meeting::begin_with("show('waiting');", impatient).await;
    meeting.ends(&["JOINING_CALL", "IN_WAITING_ROOM", "FATAL"], "waiting_room_timeout").await;
    Meeting::begin("show('denied');").await.ends(&["JOINING_CALL", "FATAL"], "join_denied").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bot_whose_browser_or_page_dies_goes_back() {
    let states = ["JOINING_CALL", "IN_CALL", "RECORDING", "IN_CALL", "QUEUED"];
    let meeting = Meeting::begin(IN_CALL).await;
    meeting.recording().await;
    meeting.runner.kill_browser();
    meeting.ends(&states, "browser_failed").await;

    let meeting = Meeting::begin(IN_CALL).await;
    meeting.recording().await;
    meeting.runner.kill_pages();
    meeting.ends(&states, "browser_failed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_network_dies_with_the_browser_alone() {
    let mut meeting = Meeting::begin(IN_CALL).await;
    meeting.recording().await;
    let processes = meeting.runner.processes();
    assert!(processes.iter().any(|command| command.contains("--type=renderer")), "{processes:?}");
    let apart = processes.iter().any(|command| command.contains("network.mojom.NetworkService"));
    assert!(!apart, "the network has a process of its own: {processes:?}");
    meeting.gateway.kept().desired = Desired::Leave;
    meeting.ends_when(true, &["JOINING_CALL", "LEAVING", "DONE"], "leave_requested").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_asks_for_kerberos_or_ntlm_ends_no_browser() {
    let script = "show('joined'); await step(); \
                  for (const scheme of ['Negotiate', 'NTLM']) { \
                    const answer = await fetch('/asks-for/' + scheme); await tell(scheme + answer.status); }";
    let mut meeting = Meeting::begin(script).await;
    meeting.recording().await;
    meeting.page.step();
    meeting.page.told("Negotiate401").await;
    meeting.page.told("NTLM401").await;
    meeting.gateway.kept().desired = Desired::Leave;
    meeting.ends_when(true, &["JOINING_CALL", "LEAVING", "DONE"], "leave_requested").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bot_whose_page_hangs_goes_back() {
    let meeting = Meeting::begin("show('joined'); await step(); for (;;) {}").await;
    meeting.recording().await;
    meeting.page.step();
    meeting.ends(&["JOINING_CALL", "IN_CALL", "RECORDING", "IN_CALL", "QUEUED"], "page_unresponsive").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bot_that_was_told_to_leave_has_left_although_its_page_hangs() {
    let mut meeting = Meeting::begin("show('joined'); await step(); tell('hangs'); for (;;) {}").await;
    meeting.recording().await;
    meeting.page.step();
    meeting.page.told("hangs").await;
    meeting.gateway.kept().desired = Desired::Leave;
    meeting.ends_when(true, &["JOINING_CALL", "LEAVING", "DONE"], "leave_requested").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orphan_and_one_that_its_platform_ends_are_replaced() {
    let states = ["JOINING_CALL", "IN_CALL", "RECORDING", "IN_CALL", "QUEUED"];
    let meeting = Meeting::begin_with(IN_CALL, |config, _| config.orphan_timeout_ms = 3_000).await;
    meeting.recording().await;
    meeting.gateway.kept().away = u32::MAX;
    let left = "the orphan's leave";
    while !meeting.runner.log().contains("meeting.leaving") {
        tokio::time::timeout(Duration::from_secs(180), tokio::time::sleep(Duration::from_millis(50)))
            .await
            .expect(left);
    }
    meeting.gateway.kept().away = 0;
    meeting.ends(&states, "orphaned").await;

    let meeting = Meeting::begin(IN_CALL).await;
    meeting.recording().await;
    meeting.runner.signal(Signal::SIGTERM);
    meeting.ends(&states, "terminated").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_never_answers_the_click_is_unreachable() {
    Meeting::begin("").await.ends(&["JOINING_CALL", "QUEUED"], "page_unreachable").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_answers_slowly_is_unreachable_and_the_browser_is_not_blamed() {
    let slow = |config: &mut RunnerConfig, page: &Page| {
        crate::meeting(config).url = format!("{}slow", page.url());
    };
    Meeting::begin_with("", slow).await.ends(&["JOINING_CALL", "QUEUED"], "page_unreachable").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_waits_for_a_resource_is_joined_meanwhile() {
    let script = "<img src='/slow'></body>show('joined'); await step(); show('ended');";
    let meeting = Meeting::begin(script).await;
    meeting.recording().await;
    meeting.page.step();
    meeting.ends(&["JOINING_CALL", "IN_CALL", "RECORDING", "LEAVING", "DONE"], "meeting_ended").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_meeting_that_wants_an_account_is_told_so() {
    let account = |config: &mut RunnerConfig, page: &Page| {
        crate::meeting(config).url = format!("{}signs-in", page.url());
    };
    Meeting::begin_with("", account).await.ends(&["JOINING_CALL", "FATAL"], "sign_in_required").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_goes_elsewhere_has_lost_its_meeting() {
    let meeting = Meeting::begin("show('joined'); await step(); location = '/elsewhere';").await;
    meeting.recording().await;
    meeting.page.step();
    meeting.ends(&["JOINING_CALL", "IN_CALL", "RECORDING", "IN_CALL", "QUEUED"], "page_unreachable").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_reloads_is_joined_and_recorded_again() {
    let script = "show('joined'); await step(); if (load === 1) location.reload(); else show('ended');";
    let meeting = Meeting::begin(script).await;
    meeting.gateway.until("two parts", |kept| kept.parts.len() >= 2).await;
    meeting.page.step();
    meeting.words(&["in_call", "recording", "stopped", "joining", "in_call", "recording"]).await;
    let before = meeting.gateway.kept().parts.len();
    meeting.gateway.until("two parts more", |kept| kept.parts.len() >= before + 2).await;
    let parts: Vec<_> = meeting
        .gateway
        .kept()
        .parts
        .iter()
        .map(|part| (part.offset_ms, part.content[..4] == [0x1a, 0x45, 0xdf, 0xa3]))
        .collect();
    assert!(parts.is_sorted(), "offsets count from the first recording: {parts:?}");
    assert_eq!(parts.iter().filter(|(_, begins)| *begins).count(), 2, "each recording is a file: {parts:?}");
    meeting.page.step();
    let states =
        ["JOINING_CALL", "IN_CALL", "RECORDING", "IN_CALL", "JOINING_CALL", "IN_CALL", "RECORDING", "LEAVING", "DONE"];
    meeting.ends(&states, "meeting_ended").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_comes_back_by_itself_is_recorded_again() {
    // A single-page application that joins again without its lobby.
    let script = "const joined = () => { show('joined'); }; joined(); sessionStorage.again = 1; await step(); location.reload();";
    let page = format!(
        "{script}}});\nif (sessionStorage.again) {{ show('joined'); step().then(() => show('ended')); }}\n(async () => {{"
    );
    let meeting = Meeting::begin(&page).await;
    meeting.gateway.until("two parts", |kept| kept.parts.len() >= 2).await;
    meeting.page.step();
    meeting.words(&["in_call", "recording", "stopped", "recording"]).await;
    meeting.page.step();
    let states = ["JOINING_CALL", "IN_CALL", "RECORDING", "IN_CALL", "RECORDING", "LEAVING", "DONE"];
    meeting.ends(&states, "meeting_ended").await;
}

/// Joins by itself, and loads itself anew after so many milliseconds, for ever.
fn restless(ms: u32) -> String {
    let again = "show('joined');";
    format!(
        "sessionStorage.again = 1; show('joined'); }});\n\
         if (sessionStorage.again) {{ {again} setTimeout(() => location.reload(), {ms}); }}\n\
         else addEventListener('click', () => setTimeout(() => location.reload(), {ms}));\n(async () => {{"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_shorter_than_a_part_are_recorded_all_the_same() {
    // Parts of ten seconds, as they are everywhere but in tests.
    let long = |config: &mut RunnerConfig, _: &Page| config.part_ms = 10_000;
    let mut meeting = Meeting::begin_with(&restless(5_000), long).await;
    meeting.gateway.until("parts of three documents", |kept| kept.parts.len() >= 3).await;
    meeting.gateway.kept().desired = Desired::Leave;
    assert_eq!(meeting.runner.ended().await.code(), Some(0), "{}", meeting.runner.log());
    let parts = std::mem::take(&mut meeting.gateway.kept().parts);
    assert!(parts.iter().take(3).all(|part| part.content[..4] == [0x1a, 0x45, 0xdf, 0xa3]), "a document each");
    for part in parts.iter().take(3) {
        let (_, sound) = crate::decode(&part.content);
        let seconds = sound.len() as f64 / f64::from(greenroom_demo::melody::RATE);
        assert!(seconds > 1.5, "part {} has {seconds} s", part.index);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_which_nothing_is_ever_recorded_fails_and_is_never_recording() {
    // Each document is gone before anything comes of its recorder.
    let mut meeting = Meeting::begin(&restless(300)).await;
    let code = meeting.runner.ended().await.code();
    let (states, reason) = story(&meeting.gateway, false, code);
    assert_eq!(
        (states, reason.as_str()),
        (vec!["JOINING_CALL", "IN_CALL", "QUEUED"], "recording_failed"),
        "{:?}",
        meeting.gateway.words()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_floods_the_runner_with_dialogs_does_not_flood_its_log() {
    let script = "show('joined'); await step(); for (let n = 0; n < 1000; n++) alert(n); tell('done'); await step(); show('ended');";
    let meeting = Meeting::begin(script).await;
    meeting.recording().await;
    meeting.page.step();
    meeting.page.told("done").await;
    let lines = meeting.runner.log().matches("page.dialog").count();
    assert!((1..=30).contains(&lines), "{lines} lines");
    meeting.page.step();
    meeting.ends(&["JOINING_CALL", "IN_CALL", "RECORDING", "LEAVING", "DONE"], "meeting_ended").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_flaps_between_waiting_room_and_call_is_left() {
    let script = "setInterval(() => show(room.dataset.greenroomState === 'joined' ? 'waiting' : 'joined'), 500);";
    let mut meeting = Meeting::begin(script).await;
    let code = meeting.runner.ended().await.code();
    let (states, reason) = story(&meeting.gateway, false, code);
    assert_eq!((states.last(), reason.as_str()), (Some(&"QUEUED"), "page_unreachable"), "{}", meeting.runner.log());
    assert!(meeting.gateway.words().len() < 120, "{:?}", meeting.gateway.words());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_reloads_for_ever_has_lost_its_meeting() {
    let mut meeting = Meeting::begin("show('joined'); await step(); location.reload();").await;
    meeting.recording().await;
    for _ in 0..20 {
        meeting.page.step();
    }
    let code = meeting.runner.ended().await.code();
    let (states, reason) = story(&meeting.gateway, false, code);
    assert_eq!((states.last(), reason.as_str()), (Some(&"QUEUED"), "page_unreachable"), "{}", meeting.runner.log());
    assert!(meeting.page.loads() <= 7, "it was loaded {} times", meeting.page.loads());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bot_that_is_put_back_into_the_waiting_room_says_so() {
    let script =
        "show('joined'); await step(); show('waiting'); await step(); show('joined'); await step(); show('waiting');";
    let impatient = |config: &mut RunnerConfig, _: &Page| {
        crate::leave(config).waiting_room_timeout_ms = Some(4_000);
    };
    let meeting = Meeting::begin_with(script, impatient).await;
    meeting.recording().await;
    meeting.page.step();
    meeting.words(&["in_call", "recording", "stopped", "waiting"]).await;
    meeting.page.step();
    meeting.words(&["in_call", "recording", "stopped", "waiting", "in_call", "recording"]).await;
    meeting.page.step();
    let states = [
        "JOINING_CALL",
        "IN_CALL",
        "RECORDING",
        "IN_CALL",
        "IN_WAITING_ROOM",
        "IN_CALL",
        "RECORDING",
        "IN_CALL",
        "IN_WAITING_ROOM",
        "FATAL",
    ];
    meeting.ends(&states, "waiting_room_timeout").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dialogs_windows_and_prompts_do_not_stop_a_page() {
    // Each waits for a person who is not there.
    let waits = [
        "alert('an alert')",
        "if (!confirm('sure?')) throw 1",
        "if (prompt('a name?', 'somebody') !== 'somebody') throw 1",
        "document.body.append(Object.assign(document.createElement('iframe'), { src: '/noisy' })); await new Promise((f) => setTimeout(f, 500))",
        "window.open('/noisy')",
        "window.open('/noisy', '_blank', 'noopener')",
        "const other = window.open(); other?.alert?.('from outside')",
        "await Notification.requestPermission()",
        "await new Promise((f) => navigator.geolocation.getCurrentPosition(f, f))",
        "await navigator.permissions.query({ name: 'camera' })",
        "await navigator.clipboard.readText().catch(() => {})",
        "await navigator.requestMIDIAccess({ sysex: true }).catch(() => {})",
        "window.print()",
        "document.documentElement.requestFullscreen().catch(() => {})",
        "document.body.append(Object.assign(document.createElement('a'), { href: 'zoommtg://x' })); document.querySelector('a').click()",
        "debugger",
    ];
    let steps: String = waits
        .iter()
        .enumerate()
        .map(|(n, wait)| {
            format!("try {{ {wait}; await tell('fine{n}'); }} catch (error) {{ await tell('threw{n}'); }}\n")
        })
        .collect();
    let script = format!(
        "show('joined'); await step();\n{steps}\nwindow.onbeforeunload = (event) => {{ event.preventDefault(); return 'stay'; }};\n\
         await tell('asks'); if (load === 1) location.reload(); else {{ window.onbeforeunload = null; show('ended'); }}"
    );
    let meeting = Meeting::begin(&script).await;
    meeting.recording().await;
    meeting.page.step();
    for n in 0..waits.len() {
        meeting.page.told(&format!("fine{n}")).await;
    }
    meeting.words(&["in_call", "recording", "stopped", "joining", "in_call"]).await;
    meeting.page.step();
    let states =
        ["JOINING_CALL", "IN_CALL", "RECORDING", "IN_CALL", "JOINING_CALL", "IN_CALL", "RECORDING", "LEAVING", "DONE"];
    meeting.ends(&states, "meeting_ended").await;
}
