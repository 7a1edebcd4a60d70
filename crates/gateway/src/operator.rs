use tonic::Status;

use crate::keys::Client;

/// Proof that a caller has shown an operator's key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operator(());

impl Operator {
    /// Refuses the keys of tenants.
    pub fn new(client: &Client) -> Result<Self, Status> {
        if client.caller.operator {
            Ok(Self(()))
        } else {
            Err(Status::permission_denied("this needs an operator's key"))
        }
    }
}
