//! A good request for each operation over HTTP.

use serde_json::{Value, json};

use crate::world::World;

/// A good request.
#[derive(Default)]
pub struct Call {
    /// Whether it needs an operator's key.
    pub operator: bool,
    /// The variables of its path.
    pub path: Vec<(&'static str, String)>,
    pub query: Vec<(&'static str, String)>,
    pub body: Option<Value>,
}

/// Returns a good request for an operation, with everything made that it needs; none for an operation that is not known here.
pub async fn call(world: &World, id: &str) -> Option<Call> {
    let of_bot = |bot: String| Call { path: vec![("bot_id", bot)], ..Call::default() };
    let recorded = || of_bot(world.recorded.clone());
    let of_operator = |call: Call| Call { operator: true, ..call };
    let pool = || of_operator(Call::default());
    let platform = || ("platform", "simulated".to_owned());
    let provider = || ("provider", "web".to_owned());
    let of_slot = |slot: String| of_operator(Call { path: vec![("slot", slot)], ..Call::default() });
    Some(match id {
        "createBot" => Call { body: Some(World::later()), ..Call::default() },
        "listBots" => {
            Call { query: vec![("pageSize", "2".to_owned()), ("state", "DONE".to_owned())], ..Call::default() }
        }
        "getBot" => recorded(),
        "listTimeline" => Call { query: vec![("pageSize", "3".to_owned())], ..recorded() },
        "updateBot" => Call { body: Some(json!({"displayName": "Ada"})), ..of_bot(world.scheduled().await) },
        "deployBot" | "cancelBot" => of_bot(world.scheduled().await),
        "failBot" => of_operator(of_bot(world.scheduled().await)),
        "restartBot" => of_operator(of_bot(world.live().await.id.id.to_string())),
        "leaveBot" | "getLogs" => of_bot(world.live().await.id.id.to_string()),
        "getRecording" | "getRecordingContent" => recorded(),
        "joinRecording" => of_operator(recorded()),
        "getScreenshot" => Call {
            path: vec![("bot_id", world.recorded.clone()), ("name", world.screenshot().await)],
            ..Call::default()
        },
        "watchEvents" => Call { query: vec![("bot", world.recorded.clone())], ..Call::default() },
        "getPool" | "getSizes" | "getPlatformOrder" | "clearPlatformOrder" => pool(),
        "setPlatformOrder" => Call { body: Some(json!({"platforms": ["simulated"]})), ..pool() },
        "getPlatform" => Call { path: vec![platform()], ..pool() },
        "updatePlatform" => Call { path: vec![platform()], body: Some(json!({"permits": 20})), ..pool() },
        "setProviderLimit" => Call { path: vec![platform(), provider()], body: Some(json!({"limit": 20})), ..pool() },
        "clearProviderLimit" => Call { path: vec![platform(), provider()], ..pool() },
        "listSlots" => Call { query: vec![("pageSize", "3".to_owned()), ("state", "idle".to_owned())], ..pool() },
        "cordonSlot" => of_slot(world.idle_slot().await),
        "uncordonSlot" => of_slot(world.cordon().await),
        "resetSlot" => of_slot(world.break_slot().await),
        "forceFreeSlot" => of_slot(world.break_slot().await),
        "getHistory" => Call { query: vec![platform()], ..pool() },
        _ => return None,
    })
}
