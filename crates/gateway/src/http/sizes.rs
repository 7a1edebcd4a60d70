//! `/v1/pool/sizes`: how large runners are, and how large they ought to be.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use greenroom_contracts::proto::v1::{GetSizesResponse, ProviderSize};
use serde::Serialize;

use super::answer::ResourcesJson;
use super::problem::Problem;
use crate::core::Core;
use crate::pool::Operator;

pub(super) async fn get(State(core): State<Arc<Core>>, _: Operator) -> Result<Json<SizesJson>, Problem> {
    Ok(Json(core.pool.sizes().await?.into()))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SizesJson {
    right_sizing: bool,
    sample_needed: u32,
    providers: Vec<SizeJson>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SizeJson {
    provider: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    set: Option<ResourcesJson>,
    sample: u32,
    /// Of nothing there is nothing to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_millis_p95: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peak_memory_bytes_p99: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recommended: Option<RecommendedJson>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    advice: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RecommendedJson {
    cpu_millis: u32,
    memory_mb: u32,
}

impl From<GetSizesResponse> for SizesJson {
    fn from(sizes: GetSizesResponse) -> Self {
        Self {
            right_sizing: sizes.right_sizing,
            sample_needed: sizes.sample_needed,
            providers: sizes.sizes.into_iter().map(SizeJson::from).collect(),
        }
    }
}

impl From<ProviderSize> for SizeJson {
    fn from(size: ProviderSize) -> Self {
        let seen = size.sample > 0;
        let recommended = size.recommended_cpu_millis.zip(size.recommended_memory_mb);
        Self {
            provider: size.provider,
            set: size.set.map(ResourcesJson::from),
            sample: size.sample,
            cpu_millis_p95: seen.then_some(size.cpu_millis_p95),
            peak_memory_bytes_p99: seen.then_some(size.peak_memory_bytes_p99),
            recommended: recommended.map(|(cpu_millis, memory_mb)| RecommendedJson { cpu_millis, memory_mb }),
            advice: size.advice,
        }
    }
}
