use aws_sdk_ecs::primitives::DateTime;
use aws_sdk_ecs::types::{Container, ContainerOverride, Tag, TaskOverride, TaskStopCode};
use greenroom_domain::{Attempt, BotId, Installation, PlatformName};

use super::*;

fn names(platform: &str) -> Names {
    Names::new(Installation::new("greenroom").expect("valid"), PlatformName::new(platform).expect("valid"))
}

fn runner() -> RunnerId {
    RunnerId::of_bot(BotId::generate(), Attempt(2))
}

fn tags(names: &Names) -> Vec<Tag> {
    let ours = names.ours().into_iter().map(|(key, value)| Tag::builder().key(key).value(value).build());
    ours.chain([Tag::builder().key(LIFETIME).value("60").build()]).collect()
}

fn task(status: &str) -> Task {
    Task {
        arn: "arn:aws:ecs:eu-west-1:1:task/bots/1".to_owned(),
        runner: None,
        definition: String::new(),
        last_status: status.to_owned(),
        ran: false,
        ends_by: None,
        stop_code: None,
        stopped_reason: String::new(),
        exit_code: None,
        container_reason: String::new(),
        container: "bot".to_owned(),
    }
}

fn stopped(code: TaskStopCode, reason: &str) -> Task {
    Task { stop_code: Some(code.as_str().to_owned()), stopped_reason: reason.to_owned(), ..task("STOPPED") }
}

#[test]
fn a_task_is_ours_by_its_name_and_its_tags() {
    let (names, runner) = (names("aws"), runner());
    let sidecar = Container::builder().name("sidecar").exit_code(1).build();
    let bot = Container::builder().name("bot").exit_code(3).reason("why").build();
    let built = types::Task::builder()
        .task_arn("arn:1")
        .started_by(names.runner(runner))
        .set_tags(Some(tags(&names)))
        .created_at(DateTime::from_secs(1_000))
        .set_containers(Some(vec![sidecar, bot]))
        .overrides(
            TaskOverride::builder().container_overrides(ContainerOverride::builder().name("bot").build()).build(),
        )
        .build();
    let read = Task::read(&built, &names).expect("it has a name");
    assert_eq!(read.runner, Some(runner));
    assert_eq!((read.exit_code, read.container_reason.as_str()), (Some(3), "why"), "of the container that is ours");
    assert_eq!(read.ends_by, Timestamp::from_second(1_060).ok());
    let old = Timestamp::from_second(1_061).expect("in range");
    assert!(read.is_too_old(old) && !Task { last_status: "STOPPED".to_owned(), ..read }.is_too_old(old));

    assert_eq!(Task::read(&built, &self::names("aws-us")).and_then(|task| task.runner), None, "another platform's");
    let nobodys = types::Task::builder().task_arn("arn:2").started_by(names.runner(runner)).build();
    assert_eq!(Task::read(&nobodys, &names).and_then(|task| task.runner), None, "a name alone is anybody's");
    let unnamed = types::Task::builder().task_arn("arn:3").set_tags(Some(tags(&names))).build();
    assert_eq!(Task::read(&unnamed, &names).and_then(|task| task.runner), None);
}

#[test]
fn it_runs_until_the_whole_of_it_has_stopped() {
    for status in ["PROVISIONING", "PENDING", "ACTIVATING", "RUNNING", "DEACTIVATING", "STOPPING", "DEPROVISIONING", ""]
    {
        assert_eq!(Task { exit_code: Some(0), ..task(status) }.observed(), Observed::Running, "{status}");
    }
}

#[test]
fn ends_are_told_apart() {
    use TaskStopCode as Code;
    let ended = |task: Task, code: Option<i32>| match (Task { ran: true, exit_code: code, ..task }).observed() {
        Observed::Exited(exit) => exit,
        other => panic!("it ran, and is {other:?}"),
    };
    let by_itself = stopped(Code::EssentialContainerExited, "Essential container in task exited");
    assert_eq!(ended(by_itself.clone(), Some(7)), Exit::with_code(7));
    assert_eq!(ended(by_itself.clone(), None), Exit::default());
    let container_reason = "OutOfMemoryError: Container killed due to memory usage".to_owned();
    assert_eq!(ended(Task { container_reason, ..by_itself }, Some(137)), Exit::with_code(137).out_of_memory());
    for (code, reason, cause) in [
        (Code::UserInitiated, "greenroom: stopped", None),
        (Code::UserInitiated, TOO_OLD, Some(ExitCause::Lifetime)),
        (Code::SpotInterruption, "Your Spot Task was interrupted.", Some(ExitCause::Interrupted)),
        (Code::TerminationNotice, "", Some(ExitCause::Interrupted)),
        (Code::InfrastructureHealth, "", Some(ExitCause::Evicted)),
        (Code::ServiceSchedulerInitiated, "", Some(ExitCause::Evicted)),
        (Code::EssentialContainerExited, "Host EC2 (instance i-0abc) terminated.", Some(ExitCause::Evicted)),
        (
            Code::EssentialContainerExited,
            "ECS is performing maintenance on the underlying infrastructure hosting the task.",
            Some(ExitCause::Evicted),
        ),
    ] {
        assert_eq!(ended(stopped(code.clone(), reason), Some(143)).cause, cause, "{code:?} {reason:?}");
    }
}

#[test]
fn a_task_that_never_ran_has_a_reason() {
    use TaskStopCode as Code;
    for (reason, expected) in [
        ("CannotPullContainerError: pull image manifest has been retried 1 time(s): not found", "Image"),
        ("ResourceInitializationError: unable to pull secrets or registry auth: AccessDenied", "Image"),
        ("ResourceInitializationError: failed to validate logger args: no such log group", "Rejected"),
        ("CannotStartContainerError: exec: \"bot\": executable file not found", "Rejected"),
        ("CannotCreateContainerError: API error (500)", "Rejected"),
        ("Timeout waiting for network interface provisioning to complete.", "NoCapacity"),
        (
            "Unexpected EC2 error while attempting to Create Network Interface: InsufficientFreeAddressesInSubnet",
            "NoCapacity",
        ),
        ("Capacity is unavailable at this time. Please try again later", "NoCapacity"),
        ("Your Spot Task was interrupted.", "NoCapacity"),
        ("You've reached the limit on the number of vCPUs you can run concurrently", "Quota"),
        ("Task failed to start", "Unschedulable"),
    ] {
        match stopped(Code::TaskFailedToStart, reason).observed() {
            Observed::Refused(error) => assert!(format!("{error:?}").starts_with(expected), "{reason}: {error:?}"),
            other => panic!("{reason}: {other:?}"),
        }
    }
    let unwanted = stopped(Code::UserInitiated, "greenroom: stopped").observed();
    assert_eq!(unwanted, Observed::Exited(Exit::default()), "who is not wanted any more is not refused");
    let container_reason = "CannotPullContainerError: no".to_owned();
    let said = Task { container_reason, ..stopped(Code::TaskFailedToStart, "Task failed to start") }.observed();
    assert_eq!(said, Observed::Refused(Error::Image("Task failed to start (CannotPullContainerError: no)".to_owned())));
}

#[test]
fn while_one_of_two_may_run_it_runs() {
    let refused = stopped(TaskStopCode::TaskFailedToStart, "Capacity is unavailable");
    let ended = Task { exit_code: Some(0), ..task("STOPPED") };
    assert_eq!(observed([&ended, &task("PENDING")]), Some(Observed::Running));
    assert_eq!(observed([&refused, &ended]), Some(Observed::Exited(Exit::with_code(0))));
    assert_eq!(observed([]), None);
}
