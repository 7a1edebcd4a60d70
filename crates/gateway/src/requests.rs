//! How many requests are under way: of everybody, and from each address. An open stream is one of them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tonic::Status;

/// Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Requests {
    most: usize,
    most_of_address: usize,
    under_way: Arc<Mutex<UnderWay>>,
}

#[derive(Debug, Default)]
struct UnderWay {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

impl Requests {
    pub fn new(most: usize, most_of_address: usize) -> Self {
        Self { most, most_of_address, under_way: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, UnderWay> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request begins.
    ///
    /// # Errors
    /// When there are too many.
    pub fn begin(&self, address: IpAddr) -> Result<UnderWayRequest, Status> {
        let mut under_way = self.lock();
        if under_way.all >= self.most {
            return Err(Status::unavailable("this gateway has too many requests under way, try again"));
        }
        if under_way.by_address.get(&address).is_some_and(|count| *count >= self.most_of_address) {
            let most = self.most_of_address;
            return Err(Status::resource_exhausted(format!(
                "this address has {most} requests under way, and no more may be"
            )));
        }
        under_way.all += 1;
        *under_way.by_address.entry(address).or_default() += 1;
        drop(under_way);
        Ok(UnderWayRequest { requests: self.clone(), address })
    }
}

/// A request, until this is dropped.
#[derive(Debug)]
pub(crate) struct UnderWayRequest {
    requests: Requests,
    address: IpAddr,
}

impl Drop for UnderWayRequest {
    fn drop(&mut self) {
        let mut under_way = self.requests.lock();
        under_way.all -= 1;
        if let Some(count) = under_way.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                under_way.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_a_share_and_gives_it_back() {
        let address = |last| IpAddr::from([192, 0, 2, last]);
        let requests = Requests::new(3, 2);
        let held = [requests.begin(address(1)).expect("one"), requests.begin(address(1)).expect("two")];
        assert_eq!(requests.begin(address(1)).expect_err("its share").code(), tonic::Code::ResourceExhausted);
        let other = requests.begin(address(2)).expect("three");
        assert_eq!(requests.begin(address(3)).expect_err("all").code(), tonic::Code::Unavailable);
        drop((held, other));
        let under_way = requests.lock();
        assert_eq!((under_way.all, under_way.by_address.len()), (0, 0));
    }
}
