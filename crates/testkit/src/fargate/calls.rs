//! The calls that are more than passed on.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::tasks::{Blueprint, Why};
use super::{Shared, lock};

const ECS: &str = "AmazonEC2ContainerServiceV20141113.";
const GET_LOG_EVENTS: &str = "Logs_20140328.GetLogEvents";
/// As many as AWS shows on a page.
const PAGE: usize = 100;

/// What is known while tasks are started.
#[derive(Debug, Default)]
pub struct Starting {
    /// Tokens that were spent on nothing.
    spent: HashSet<String>,
    /// Starts that came too fast.
    pub refused: usize,
    /// When each start came.
    pub came: Vec<Instant>,
}

pub fn routes(shared: Arc<Shared>) -> Router {
    Router::new().fallback(call).with_state(shared)
}

async fn call(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let target = header("x-amz-target").to_owned();
    // Credential=key/date/region/service/aws4_request
    let Some(service) = header("authorization").split('/').nth(3).map(str::to_owned) else {
        return refuse("MissingAuthenticationTokenException", "Missing Authentication Token");
    };
    let action = target.rsplit('.').next().unwrap_or_default().to_owned();
    lock(&shared.actions).insert(format!("{service}:{action}"));
    let Ok(text) = String::from_utf8(body.to_vec()) else { return refuse("SerializationException", "no text") };
    let asked: Value = serde_json::from_str(&text).unwrap_or_default();
    match target.strip_prefix(ECS) {
        Some("RunTask") => run_task(&shared, &target, asked).await,
        Some("DescribeTasks") => describe_tasks(&shared, &target, asked).await,
        Some("ListTasks") => list_tasks(&shared, &target, asked).await,
        Some("StopTask") => stop_task(&shared, &asked),
        None if target == GET_LOG_EVENTS => get_log_events(&shared, asked).await,
        _ => match shared.moto.pass(&service, &target, text).await {
            Ok((status, said)) => answer(status, said),
            Err(error) => answer(502, error.to_string()),
        },
    }
}

fn answer(status: u16, body: String) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    (status, [(header::CONTENT_TYPE, "application/x-amz-json-1.1")], body).into_response()
}

fn refuse(code: &str, message: &str) -> Response {
    answer(400, json!({ "__type": code, "message": message }).to_string())
}

fn words(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// What makes a request another one under the same token.
fn without_token(asked: &Value) -> Value {
    let mut rest = asked.clone();
    rest.as_object_mut().map(|rest| rest.remove("clientToken"));
    rest
}

/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/ECS_Idempotency.html>
async fn run_task(shared: &Arc<Shared>, target: &str, asked: Value) -> Response {
    let came = Instant::now();
    let mut starting = shared.starting.lock().await;
    starting.came.push(came);
    let behaviour = {
        let mut behaviour = lock(&shared.behaviour);
        if let Some(left) = behaviour.too_fast.checked_sub(1) {
            behaviour.too_fast = left;
            starting.refused += 1;
            return refuse("ClientException", "Rate exceeded");
        }
        *behaviour
    };
    let token = words(&asked["clientToken"]);
    if token.len() > 64 || words(&asked["startedBy"]).len() > 128 {
        return refuse("InvalidParameterException", "clientToken and startedBy must be shorter.");
    }
    if asked["overrides"].to_string().len() > 8192 {
        return refuse("InvalidParameterException", "Container Overrides length must be at most 8192");
    }
    if let Some((arn, made_of)) = shared.tasks.of_token(&token) {
        if made_of == without_token(&asked) {
            return answer(200, json!({ "tasks": [shared.tasks.shown(&arn)], "failures": [] }).to_string());
        }
        let said = json!({ "__type": "ConflictException", "message": "used", "resourceIds": [arn] });
        return answer(400, said.to_string());
    }
    if starting.spent.contains(&token) {
        return refuse("ConflictException", "used");
    }
    let spot = asked["capacityProviderStrategy"][0]["capacityProvider"] == "FARGATE_SPOT";
    let room = if spot { behaviour.spot_room } else { behaviour.room };
    if room.is_some_and(|room| shared.tasks.alive(Some(spot)) >= room) {
        if behaviour.spends_tokens {
            starting.spent.insert(token);
        }
        let reason = "Capacity is unavailable at this time. Please try again later or in a different availability zone";
        return answer(200, json!({ "tasks": [], "failures": [{ "reason": reason }] }).to_string());
    }
    let made = match shared.moto.ask("ecs", target, &asked).await {
        Ok((200, said)) => said,
        Ok((status, said)) => return answer(status, said.to_string()),
        Err(error) => return answer(502, error.to_string()),
    };
    let task = made["tasks"][0].clone();
    let definition = json!({ "taskDefinition": task["taskDefinitionArn"] });
    let described = shared.moto.ask("ecs", &format!("{ECS}DescribeTaskDefinition"), &definition).await;
    let container = described.map(|(_, said)| said["taskDefinition"]["containerDefinitions"][0].clone());
    let blueprint = Blueprint::read(task, &asked, &container.unwrap_or_default(), spot, behaviour);
    let arn = shared.tasks.start(shared.clone(), blueprint, token, without_token(&asked));
    answer(200, json!({ "tasks": [shared.tasks.shown(&arn)], "failures": [] }).to_string())
}

async fn describe_tasks(shared: &Shared, target: &str, asked: Value) -> Response {
    // moto looks whether the request is right, and whether there is such a cluster.
    match shared.moto.ask("ecs", target, &asked).await {
        Ok((200, _)) => {}
        Ok((status, said)) => return answer(status, said.to_string()),
        Err(error) => return answer(502, error.to_string()),
    }
    let wanted: Vec<String> = asked["tasks"].as_array().into_iter().flatten().map(words).collect();
    if wanted.len() > PAGE {
        return refuse("InvalidParameterException", "Tasks cannot be more than 100.");
    }
    let with_tags = asked["include"].as_array().is_some_and(|include| include.contains(&json!("TAGS")));
    let (mut tasks, mut failures) = (Vec::new(), Vec::new());
    for arn in wanted {
        if shared.tasks.is_seen(&arn) {
            let mut task = shared.tasks.shown(&arn);
            if !with_tags {
                task["tags"] = json!([]);
            }
            tasks.push(task);
        } else {
            failures.push(json!({ "arn": arn, "reason": "MISSING" }));
        }
    }
    answer(200, json!({ "tasks": tasks, "failures": failures }).to_string())
}

async fn list_tasks(shared: &Shared, target: &str, mut asked: Value) -> Response {
    let by_name = !asked["startedBy"].is_null();
    let filters = ["family", "containerInstance", "serviceName", "desiredStatus", "launchType"];
    if by_name && filters.iter().any(|filter| !asked[filter].is_null()) {
        return refuse("InvalidParameterException", "startedBy must be the only filter.");
    }
    let desired = asked["desiredStatus"].as_str().unwrap_or("RUNNING").to_owned();
    let from: usize = asked["nextToken"].as_str().and_then(|token| token.parse().ok()).unwrap_or(0);
    if desired == "STOPPED" && from == 0 {
        shared.looks.fetch_add(1, Ordering::Relaxed);
    }
    let size = asked["maxResults"].as_u64().and_then(|size| usize::try_from(size).ok()).unwrap_or(PAGE).min(PAGE);
    // moto does not know which are to stop.
    asked.as_object_mut().map(|asked| asked.remove("desiredStatus"));
    let listed = match shared.moto.ask("ecs", target, &asked).await {
        Ok((200, said)) => said,
        Ok((status, said)) => return answer(status, said.to_string()),
        Err(error) => return answer(502, error.to_string()),
    };
    let all = listed["taskArns"].as_array().into_iter().flatten().map(words);
    let arns: Vec<String> =
        all.filter(|arn| shared.tasks.is_seen(arn) && shared.tasks.shown(arn)["desiredStatus"] == desired).collect();
    let page: Vec<&String> = arns.iter().skip(from).take(size).collect();
    let next = (from + page.len() < arns.len()).then(|| (from + page.len()).to_string());
    let mut said = json!({ "taskArns": page });
    if let Some(next) = next {
        said["nextToken"] = next.into();
    }
    answer(200, said.to_string())
}

/// moto says the same of a stream that is not there as of a group.
async fn get_log_events(shared: &Shared, asked: Value) -> Response {
    let said = match shared.moto.ask("logs", GET_LOG_EVENTS, &asked).await {
        Ok((200, said)) => return answer(200, said.to_string()),
        Ok((_, said)) => said,
        Err(error) => return answer(502, error.to_string()),
    };
    let group = json!({ "logGroupNamePrefix": asked["logGroupName"] });
    let groups = shared.moto.ask("logs", "Logs_20140328.DescribeLogGroups", &group).await;
    let there = groups.is_ok_and(|(_, said)| said["logGroups"].as_array().is_some_and(|groups| !groups.is_empty()));
    let missing = said["__type"].as_str().is_some_and(|code| code.ends_with("ResourceNotFoundException"));
    if there && missing {
        return refuse("ResourceNotFoundException", "The specified log stream does not exist.");
    }
    answer(400, said.to_string())
}

fn stop_task(shared: &Shared, asked: &Value) -> Response {
    let arn = words(&asked["task"]);
    if !shared.tasks.ask_to_stop(&arn, Why::User(words(&asked["reason"]))) {
        return refuse("InvalidParameterException", "The referenced task was not found.");
    }
    answer(200, json!({ "task": shared.tasks.shown(&arn) }).to_string())
}
