//! The fence: one instance of the current attempt is admitted, and nobody else.

use futures::future::join_all;
use greenroom_chassis::RunnerToken;
use greenroom_contracts::proto::internal::v1::{
    AuthorizeUploadRequest, CloseAttemptRequest, GetDesiredRequest, LaunchEnvironmentRequest, LaunchEnvironmentResponse,
};
use greenroom_contracts::proto::v1::runner_report::Report;
use greenroom_contracts::proto::v1::{Desired, InCall, Note, ReportRequest, RunnerReport};
use greenroom_domain::bot::BotState;
use greenroom_domain::{InstanceId, Reason, RunnerId};
use tonic::{Code, Response, Status};

use crate::heard::until;
use crate::house::{House, Owner, PASSWORD, URL, admit, id_of, runner_of};

impl House {
    async fn environment(&self, runner: RunnerId) -> Result<LaunchEnvironmentResponse, Status> {
        let request = LaunchEnvironmentRequest { runner: Some(runner.into()) };
        self.owner.clone().launch_environment(request).await.map(Response::into_inner)
    }

    async fn desired(&self, runner: RunnerId) -> Desired {
        self.desired_of(runner, "").await
    }

    async fn desired_of(&self, runner: RunnerId, instance: &str) -> Desired {
        let request = GetDesiredRequest { runner: Some(runner.into()), instance: instance.to_owned() };
        self.owner.clone().get_desired(request).await.expect("answered").into_inner().desired()
    }

    async fn close_attempt(&self, runner: RunnerId) -> Result<(), Status> {
        let request = CloseAttemptRequest { runner: Some(runner.into()) };
        self.owner.clone().close_attempt(request).await.map(|_| ())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_instance_is_admitted_and_told_what_to_do() {
    let house = House::new().await;
    let (bot, _) = house.at(BotState::Deploying).await;
    let (runner, instance) = (runner_of(&bot, 1), InstanceId::generate());
    let config = house.admit(runner, instance).await.expect("admitted").config.expect("a config");
    let meeting = config.settings.clone().and_then(|settings| settings.meeting).expect("a meeting");
    assert_eq!((meeting.url.as_str(), meeting.password.as_str()), (URL, PASSWORD));
    assert_eq!(house.admit(runner, instance).await.expect("again").config, Some(config), "the same, the same");
    for (runner, instance) in
        [(runner, InstanceId::generate()), (runner_of(&bot, 2), instance), (runner_of(&bot, 2), InstanceId::generate())]
    {
        assert_eq!(house.admit(runner, instance).await.expect_err("fenced").code(), Code::FailedPrecondition);
    }
    assert_eq!(house.desired_of(runner, &instance.to_string()).await, Desired::Continue);
    assert_eq!(house.desired_of(runner, &InstanceId::generate().to_string()).await, Desired::Exit, "a twin");
    assert_eq!(house.get(&bot).await.sequence, 4, "created, due, assigned, admitted");
}

/// Two processes of one attempt ask at the doors of two replicas at the same moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_admissions_admit_one_instance() {
    let house = House::new().await;
    let (_, other) = house.replica().await;
    for round in 0..12 {
        let (bot, _) = house.at(BotState::Deploying).await;
        let runner = runner_of(&bot, 1);
        let asking = (0..6).map(|n| {
            let door = if n % 2 == 0 { &house.owner } else { &other };
            admit(door, runner, InstanceId::generate())
        });
        let answers = join_all(asking).await;
        let admitted = answers.iter().filter(|answer| answer.is_ok()).count();
        assert_eq!(admitted, 1, "round {round}: {answers:?}");
        assert!(
            answers
                .iter()
                .filter_map(|answer| answer.as_ref().err())
                .all(|status| status.code() == Code::FailedPrecondition)
        );
    }
}

/// Who had to wait for a bot's row sees all that was written meanwhile, the attempt as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_admissions_on_one_row_lock_admit_one() {
    let house = House::new().await;
    let (_, other) = house.replica().await;
    let (bot, _) = house.at(BotState::Deploying).await;
    let runner = runner_of(&bot, 1);
    let mut holder = house.sql.begin().await.expect("a transaction");
    sqlx::query("SELECT 1 FROM scheduler.bots WHERE id = $1 FOR UPDATE")
        .bind(id_of(&bot).uuid())
        .execute(&mut *holder)
        .await
        .expect("locked");
    let release = async {
        until("both wait", async || {
            let waiting: i64 = sqlx::query_scalar(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
            )
            .fetch_one(&house.sql)
            .await
            .expect("a row");
            (waiting >= 2).then_some(())
        })
        .await;
        holder.commit().await.expect("let go");
    };
    let (first, second) = (InstanceId::generate(), InstanceId::generate());
    let (here, there, ()) = tokio::join!(admit(&house.owner, runner, first), admit(&other, runner, second), release);
    assert!(here.is_ok() != there.is_ok(), "{here:?} {there:?}");
    let refused = here.err().or(there.err()).expect("one");
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::FailedPrecondition, "another instance was admitted for this attempt")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closing_loses_to_an_admission_and_an_admission_to_a_closing() {
    let house = House::new().await;
    let (bot, _) = house.at(BotState::JoiningCall).await;
    assert_eq!(house.close_attempt(runner_of(&bot, 1)).await.expect_err("admitted").code(), Code::FailedPrecondition);

    for round in 0..10 {
        let (bot, _) = house.at(BotState::Deploying).await;
        let runner = runner_of(&bot, 1);
        let (admitted, closed) = tokio::join!(house.admit(runner, InstanceId::generate()), house.close_attempt(runner));
        assert!(admitted.is_ok() != closed.is_ok(), "round {round}: {admitted:?} {closed:?}");
        let seen = house.get(&bot).await;
        let expected = if closed.is_ok() { ("QUEUED", 2) } else { ("JOINING_CALL", 1) };
        assert_eq!((seen.state().word(), seen.attempt), expected);
    }
    // Of a bot that nobody knows, nobody is admitted.
    let stranger = RunnerId::of_bot(greenroom_domain::BotId::generate(), greenroom_domain::Attempt::FIRST);
    house.close_attempt(stranger).await.expect("closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_that_is_over_is_not_launched() {
    let house = House::new().await;
    let (bot, _) = house.at(BotState::Deploying).await;
    let (first, second) = (runner_of(&bot, 1), runner_of(&bot, 2));
    let variables = house.environment(first).await.expect("its environment").variables;
    assert_eq!((variables["BOT_ID"].as_str(), variables["ATTEMPT"].as_str()), (bot.id.as_str(), "1"));
    assert_eq!(variables["GREENROOM_URL"], "http://gateway.example:8080");
    let token = RunnerToken::verify(&variables["GREENROOM_TOKEN"], house.secret()).expect("ours");
    assert_eq!((token.runner, token.tenant), (first, house.tenant));
    assert!(
        variables.values().all(|value| !value.contains(URL) && !value.contains(PASSWORD)),
        "only the admitted see it"
    );
    assert_eq!(house.environment(second).await.expect_err("not yet").code(), Code::FailedPrecondition);

    house.refused(first, "one", Reason::NO_CAPACITY, true).await;
    assert_eq!(house.environment(first).await.expect_err("over").code(), Code::FailedPrecondition);
    assert_eq!(house.admit(first, InstanceId::generate()).await.expect_err("over").code(), Code::FailedPrecondition);
    house.environment(second).await.expect("its turn");
    house.cancel(&bot).await;
    assert_eq!(house.environment(second).await.expect_err("cancelled").code(), Code::FailedPrecondition);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runner_is_told_what_is_desired() {
    let house = House::new().await;
    let (bot, _) = house.at(BotState::InCall).await;
    let runner = runner_of(&bot, 1);
    assert_eq!(house.desired(runner).await, Desired::Continue);
    assert_eq!(house.desired(runner_of(&bot, 2)).await, Desired::Exit);
    house.leave(&bot).await;
    assert_eq!(house.desired(runner).await, Desired::Leave);
    let (bot, _) = house.at(BotState::InCall).await;
    house.cancel(&bot).await;
    assert_eq!(house.desired(runner_of(&bot, 1)).await, Desired::Leave);
}

async fn authorize(owner: &Owner, runner: RunnerId, instance: InstanceId) -> Result<u64, Status> {
    let request = AuthorizeUploadRequest { runner: Some(runner.into()), instance: instance.to_string() };
    owner.clone().authorize_upload(request).await.map(|answer| answer.into_inner().valid_ms)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_admitted_instance_uploads_and_for_a_while_after_the_end() {
    let house = House::new().await;
    let (_, strict) = house.replica_with(&[("LATE_UPLOADS_MS", "1")]).await;
    let (bot, _) = house.at(BotState::Deploying).await;
    let (runner, instance, zombie) = (runner_of(&bot, 1), InstanceId::generate(), InstanceId::generate());
    let refused = async |owner: &Owner, runner, instance| {
        let refused = authorize(owner, runner, instance).await.expect_err("fenced");
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
        refused.message().to_owned()
    };
    assert_eq!(refused(&house.owner, runner, instance).await, "nobody was admitted for this attempt");
    house.admit(runner, instance).await.expect("admitted");
    assert!(authorize(&house.owner, runner, instance).await.expect("it may") > 0);
    assert_eq!(refused(&house.owner, runner, zombie).await, "another instance was admitted for this attempt");
    assert_eq!(refused(&house.owner, runner_of(&bot, 2), instance).await, "this attempt is over");

    house.cancel(&bot).await;
    let left = authorize(&house.owner, runner, instance).await.expect("what it has in its hands");
    assert!((1..=600_000).contains(&left), "{left} ms");
    assert_eq!(refused(&house.owner, runner, zombie).await, "another instance was admitted for this attempt");
    until("the bound has passed", async || authorize(&strict, runner, instance).await.is_err().then_some(())).await;
    assert_eq!(refused(&strict, runner, instance).await, "this attempt is over");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bot_keeps_so_many_notes_and_reports_all_the_same() {
    let house = House::new().await;
    let (_, owner) = house.replica_with(&[("NOTES_PER_BOT", "3")]).await;
    let (bot, instance) = house.at(BotState::JoiningCall).await;
    let runner = runner_of(&bot, 1);
    let say = async |instance: InstanceId, sequences: std::ops::RangeInclusive<u64>, last: Option<Report>| {
        let note = |sequence| (sequence, Some(Report::Note(Note { text: format!("note {sequence}") })));
        let reports = sequences.map(note).chain(last.map(|last| (99, Some(last))));
        let reports = reports.map(|(sequence, report)| RunnerReport { sequence, report, ..RunnerReport::default() });
        let request = ReportRequest {
            runner: Some(runner.into()),
            instance: instance.to_string(),
            reports: reports.collect(),
            ..ReportRequest::default()
        };
        owner.clone().report(request).await.map(|answer| answer.into_inner().acknowledged)
    };
    assert_eq!(say(instance, 1..=2, None).await.expect("kept"), 2);
    assert_eq!(say(instance, 3..=9, None).await.expect("kept, or left out"), 9);
    assert_eq!(say(instance, 10..=20, None).await.expect("left out"), 20);
    let fenced = say(InstanceId::generate(), 21..=22, None).await.expect_err("a zombie");
    assert_eq!(fenced.code(), Code::FailedPrecondition, "it hears of the fence, whatever it says");
    assert_eq!(say(instance, 21..=30, Some(Report::InCall(InCall {}))).await.expect("kept"), 99);

    let bot = house.get(&bot).await;
    assert_eq!(bot.state().word(), BotState::InCall.as_str());
    let notes: Vec<_> =
        bot.timeline.iter().filter(|line| line.what == "note").map(|line| line.detail.as_str()).collect();
    let told = "further notes of this bot are not kept: NOTES_PER_BOT is 3";
    assert_eq!(notes, ["note 1", "note 2", "note 3", told]);
}
