//! How large runners are as it is set, and how large they ought to be. Across tenants.

use greenroom_contracts::proto::v1::{GetSizesResponse, ProviderSize, RecommendedSize};
use greenroom_domain::Provider;
use tonic::Status;

use super::{Door, answer};
use crate::config::prefix;
use crate::sizing::{self, Asked, Base, Own, Recommendation, SAMPLE, Sizing};

pub async fn get_sizes(door: &Door) -> Result<GetSizesResponse, Status> {
    let (sizes, now) = (&door.sizes, door.writer.now());
    let recommended = sizes.recommend(door.writer.store().pool(), now).await?;
    let sizing = sizes.sizing();
    Ok(GetSizesResponse {
        providers: recommended.iter().map(|(provider, one)| shown(sizing, provider, one)).collect::<Result<_, _>>()?,
        right_sizing: sizing.right_sizing,
        sample_needed: u32::try_from(SAMPLE).unwrap_or(u32::MAX),
    })
}

fn shown(sizing: &Sizing, provider: &Provider, recommended: &Recommendation) -> Result<ProviderSize, Status> {
    let measured = recommended.sample > 0;
    let set = sizing::choose(sizing, provider, Asked::default(), Own::default(), None)?;
    Ok(ProviderSize {
        provider: provider.to_string(),
        set: Some(answer::resources(set)),
        sample: u32::try_from(recommended.sample).unwrap_or(u32::MAX),
        cpu_millis_p95: measured.then_some(recommended.cpu_millis_p95),
        peak_memory_bytes_p99: measured.then_some(recommended.peak_memory_bytes_p99),
        recommended: recommended
            .base
            .map(|base| RecommendedSize { cpu_millis: base.cpu_millis, memory_mb: base.memory_mb }),
        advice: recommended.base.map(|base| advice(provider, sizing.of(provider), base)).unwrap_or_default(),
    })
}

/// The settings that differ, as they would be.
fn advice(provider: &Provider, set: Base, recommended: Base) -> Vec<String> {
    let prefix = prefix(provider.as_str());
    let mut advice = Vec::new();
    if set.cpu_millis != recommended.cpu_millis {
        advice.push(format!("{prefix}_CPU_MILLIS={}", recommended.cpu_millis));
    }
    if set.memory_mb != recommended.memory_mb {
        advice.push(format!("{prefix}_MEMORY_MB={}", recommended.memory_mb));
    }
    advice
}
