//! The caller of a public method, in the metadata of a call from the gateway to the service that serves the method.

use greenroom_domain::TenantId;
use prost::Message as _;
use tonic::metadata::{BinaryMetadataValue, MetadataMap};
use tonic::{Request, Status};

use crate::proto::internal::v1::Caller;

const NAME: &str = "greenroom-caller-bin";

/// Adds the caller, whose key was checked.
pub fn set_caller(metadata: &mut MetadataMap, caller: &Caller) {
    metadata.insert_bin(NAME, BinaryMetadataValue::from_bytes(&caller.encode_to_vec()));
}

/// Returns a request of a service that acts for a tenant by itself, with no more rights than its bots need.
pub fn on_behalf_of<T>(tenant: TenantId, message: T) -> Request<T> {
    let mut request = Request::new(message);
    set_caller(request.metadata_mut(), &Caller { tenant_id: tenant.to_string(), ..Caller::default() });
    request
}

/// Returns the caller.
///
/// # Errors
/// UNAUTHENTICATED when the call did not come through a gateway.
pub fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    let bytes = request.metadata().get_bin(NAME).and_then(|caller| caller.to_bytes().ok());
    let caller = bytes.and_then(|bytes| Caller::decode(bytes).ok());
    caller.ok_or_else(|| Status::unauthenticated("the call has no caller: it did not come through a gateway"))
}

/// Returns the caller of a method that is for operators.
///
/// # Errors
/// PERMISSION_DENIED when the key is not an operator's; else as [`caller`].
pub fn operator<T>(request: &Request<T>) -> Result<Caller, Status> {
    let caller = caller(request)?;
    if caller.operator { Ok(caller) } else { Err(Status::permission_denied("this needs an operator's key")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_is_read_back() {
        let expected =
            Caller { tenant_id: "t".to_owned(), key_id: "k".to_owned(), operator: true, ..Caller::default() };
        let mut request = Request::new(());
        assert!(caller(&request).is_err());
        set_caller(request.metadata_mut(), &expected);
        assert_eq!(caller(&request).expect("a caller"), expected);
        assert_eq!(operator(&request).expect("an operator"), expected);
        set_caller(request.metadata_mut(), &Caller::default());
        assert_eq!(operator(&request).expect_err("a tenant").code(), tonic::Code::PermissionDenied);
    }
}
