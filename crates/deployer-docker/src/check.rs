//! `greenroom platforms check`.

use greenroom_deployer::{Finding, Wanted};

use crate::driver::Inner;

pub(crate) async fn check(_inner: &Inner, _wanted: &Wanted) -> Vec<Finding> {
    Vec::new()
}
