//! One address in front of several replicas, as a Kubernetes service or a load balancer is: it knows connections and nothing
//! of what is said on them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

/// A replica that has not accepted a connection after so long is passed over.
const CONNECT: Duration = Duration::from_millis(500);

/// The address; dropping it closes the door, and whoever is through it stays connected.
#[derive(Debug)]
pub struct Front {
    address: SocketAddr,
    _stop: DropGuard,
}

impl Front {
    /// Begins to pass connections on, in turn, to those that accept them.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn start(replicas: Vec<SocketAddr>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        tokio::spawn(async move {
            let (replicas, turn) = (Arc::<[SocketAddr]>::from(replicas), AtomicUsize::new(0));
            while let Some(Ok((client, _))) = stopped.run_until_cancelled(listener.accept()).await {
                let (replicas, turn) = (replicas.clone(), turn.fetch_add(1, Ordering::Relaxed));
                tokio::spawn(pass_on(client, replicas, turn));
            }
        });
        Ok(Self { address, _stop: stop.drop_guard() })
    }

    /// `http://` and where it is.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// When nobody accepts, the client is hung up on, as it would be without us.
async fn pass_on(mut client: TcpStream, replicas: Arc<[SocketAddr]>, turn: usize) {
    for number in 0..replicas.len() {
        let replica = replicas[(turn + number) % replicas.len()];
        if let Ok(Ok(mut server)) = tokio::time::timeout(CONNECT, TcpStream::connect(replica)).await {
            let _ = (client.set_nodelay(true), server.set_nodelay(true));
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Somebody who says one letter to everybody.
    async fn says(letter: u8) -> (SocketAddr, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let task = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let _ = client.write_all(&[letter]).await;
            }
        });
        (address, task)
    }

    async fn hears(front: &Front) -> Option<u8> {
        TcpStream::connect(front.address).await.expect("a door").read_u8().await.ok()
    }

    #[tokio::test]
    async fn connections_go_to_each_in_turn_and_past_those_who_are_away() {
        let ((one, first), (two, second)) = (says(b'1').await, says(b'2').await);
        let front = Front::start(vec![one, two]).await.expect("a front");
        let mut heard = [hears(&front).await, hears(&front).await];
        heard.sort_unstable();
        assert_eq!(heard, [Some(b'1'), Some(b'2')]);
        first.abort();
        let _ = first.await;
        assert_eq!([hears(&front).await, hears(&front).await], [Some(b'2'); 2]);
        second.abort();
        let _ = second.await;
        assert_eq!(hears(&front).await, None);
    }
}
