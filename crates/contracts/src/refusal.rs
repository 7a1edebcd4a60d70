//! The words of a refusal's parts (`google.rpc.ErrorInfo`), by which a program knows why without reading a sentence.

/// Whose words they are.
pub const DOMAIN: &str = "greenroom.dev";
/// A limit of the tenant's is reached. Parts: `limit` (`daily`, `concurrency`), `value`, `used`, and `retryAt` where it is known.
pub const LIMIT: &str = "LIMIT_REACHED";
/// Another bot has the deduplication key. Part: `botId`.
pub const DUPLICATE: &str = "DUPLICATE";
