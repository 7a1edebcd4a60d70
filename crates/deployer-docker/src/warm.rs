//! Containers that were started ahead.

use std::sync::Arc;

use greenroom_deployer::{Error, Image, Launch};

use crate::driver::Inner;
use crate::engine::Engine;
use crate::fleet::Found;
use crate::pull::Present;

#[derive(Debug, Default)]
pub(crate) struct Warm {}

impl Warm {
    pub async fn tell_again(&self, _inner: &Inner, _found: &Found, _launch: &Launch) -> Result<(), Error> {
        Ok(())
    }

    pub async fn take(
        &self,
        _inner: &Inner,
        _engine: &Arc<Engine>,
        _launch: &Launch,
        _image: &Image,
        _present: &Present,
    ) -> Result<bool, Error> {
        Ok(false)
    }

    pub fn look_after(&self, _inner: &Arc<Inner>) {}
}
