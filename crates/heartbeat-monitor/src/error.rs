/// What went wrong; all of it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Pool-manager did not say whom to expect.
    #[error("pool-manager does not say whom to expect: {}", .0.message())]
    Expected(tonic::Status),
    /// Pool-manager's answer cannot be understood.
    #[error("whom to expect cannot be understood")]
    Answer(#[from] greenroom_contracts::BadField),
    /// NATS did not do it.
    #[error("the bus failed")]
    Bus(#[from] greenroom_bus::Error),
}

/// An error with its sources, for a log line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
