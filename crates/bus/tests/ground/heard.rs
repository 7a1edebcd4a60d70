//! Everything that is said on an installation's bus, in the order in which it was said. It listens beside JetStream, so that
//! no command is taken away from whoever has to do it. What is published again is heard again.

use std::sync::{Arc, Mutex};

use futures::StreamExt;
use greenroom_bus::Bus;
use greenroom_contracts::streams::Stream;
use greenroom_contracts::{Envelope, Message};
use uuid::Uuid;

mod until;

pub use until::until;

/// A subject and a body.
type Said = (String, Vec<u8>);

/// What was said so far.
#[derive(Clone, Default)]
pub struct Heard(Arc<Mutex<Vec<Said>>>);

impl Heard {
    /// Hears whatever is said from now on. The streams of the commands that nobody takes in this test are made first: while
    /// somebody listens, the server does not tell at once that there is no stream.
    pub async fn listen(bus: &Bus, commands: &[Stream]) -> Self {
        let heard = Self::default();
        for stream in commands {
            bus.ensure(stream).await.expect("a stream");
        }
        let mut said = bus.listen_lossy(format!("{}.>", bus.installation())).await.expect("a subscription");
        bus.flush().await.expect("NATS is there");
        let keep = heard.clone();
        tokio::spawn(async move {
            while let Some((subject, _, body)) = said.next().await {
                keep.0.lock().expect("no panic").push((subject, body.to_vec()));
            }
        });
        heard
    }

    /// Everything, as it was.
    pub fn raw(&self) -> Vec<Said> {
        self.0.lock().expect("no panic").clone()
    }

    /// Everything of one type.
    pub fn all<T: Message>(&self) -> Vec<Envelope<T>> {
        let said = self.0.lock().expect("no panic");
        let of_type = said.iter().filter(|(_, body)| {
            serde_json::from_slice::<serde_json::Value>(body).is_ok_and(|value| value["type"] == T::TYPE)
        });
        of_type.map(|(_, body)| serde_json::from_slice(body).expect("as agreed")).collect()
    }

    /// Everything of one type about one thing.
    pub fn about<T: Message>(&self, key: Uuid) -> Vec<T> {
        self.all::<T>().into_iter().map(|envelope| envelope.data).filter(|data| data.key() == key).collect()
    }

    /// Waits until so many of a type were said about one thing.
    pub async fn until<T: Message>(&self, key: Uuid, count: usize) -> Vec<T> {
        until(T::TYPE, async || Some(self.about::<T>(key)).filter(|said| said.len() >= count)).await
    }
}
