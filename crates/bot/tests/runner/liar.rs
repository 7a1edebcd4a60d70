//! A page that looks for the recorder, replaces what it may use, and says so to its server when it has found something.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub struct Liar {
    address: String,
    found: Arc<Mutex<Vec<String>>>,
    server: JoinHandle<()>,
}

impl Liar {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let found = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&found);
        let server = tokio::spawn(async move {
            while let Ok((mut connection, _)) = listener.accept().await {
                let heard = Arc::clone(&heard);
                tokio::spawn(async move {
                    let mut request = Vec::new();
                    while !request.windows(4).any(|four| four == b"\r\n\r\n") {
                        if connection.read_buf(&mut request).await.unwrap_or(0) == 0 {
                            return;
                        }
                    }
                    let request = String::from_utf8_lossy(&request).into_owned();
                    let path = request.split(' ').nth(1).unwrap_or_default();
                    if let Some(what) = path.strip_prefix("/found/") {
                        heard.lock().unwrap().push(what.to_owned());
                    }
                    let page = include_str!("liar.html");
                    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\ncontent-length:";
                    let _ = connection.write_all(format!("{head} {}\r\n\r\n{page}", page.len()).as_bytes()).await;
                });
            }
        });
        Self { address, found, server }
    }

    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// What the page has found so far.
    pub fn found(&self) -> Vec<String> {
        self.found.lock().unwrap().clone()
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.server.abort();
    }
}
