use std::io::{Read as _, Write as _};
use std::net::SocketAddr;

use async_tungstenite::tokio::{ConnectStream, connect_async};
use async_tungstenite::tungstenite::Error;

use super::*;

const PATH: &str = "/0123456789abcdef0123456789abcdef";

async fn come(address: SocketAddr, path: &str) -> Result<WebSocketStream<ConnectStream>, Error> {
    connect_async(format!("ws://{address}{path}")).await.map(|(socket, _)| socket)
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A connection with both its ends: the library's, and the browser's.
async fn connected() -> (WebSocketStream<ConnectStream>, StdUnixStream) {
    let (devtools, browser) = DevTools::pair().unwrap();
    let (listener, address) = listener().await;
    let (library, socket) = tokio::join!(come(address, PATH), accept(listener, PATH));
    tokio::spawn(devtools.forward(socket));
    (library.unwrap(), browser.into())
}

#[tokio::test]
async fn only_the_path_is_let_in_and_the_port_is_closed_then() {
    let (listener, address) = listener().await;
    let accepting = tokio::spawn(accept(listener, PATH));
    let silent = TcpStream::connect(address).await.unwrap();
    for path in ["/", "/json/version", "/0123456789abcdef0123456789abcdee", "/devtools/browser/1"] {
        match come(address, path).await {
            Err(Error::Http(answer)) => assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{path}"),
            other => panic!("{path}: {other:?}"),
        }
    }
    assert!(!accepting.is_finished());
    let mut library = come(address, PATH).await.unwrap();
    let mut ours = accepting.await.unwrap();
    assert!(TcpStream::connect(address).await.is_err(), "the port is still open");
    drop(silent);
    library.send(Message::text("hello")).await.unwrap();
    assert_eq!(ours.next().await.unwrap().unwrap(), Message::text("hello"));
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_any_size_cross_while_the_other_side_does_not_read() {
    const COUNT: usize = 64;
    let text = |n: usize| format!("{{\"id\":{n},\"é\":\"{}\"}}", "x".repeat(n * 16_384));
    let (library, mut browser) = connected().await;
    // The browser says all that it has to say before it reads a word, and more than any buffer on the way holds.
    let browser = std::thread::spawn(move || {
        for n in 0..COUNT {
            browser.write_all(text(n).as_bytes()).unwrap();
            browser.write_all(&[0]).unwrap();
        }
        let mut heard = Vec::new();
        browser.read_to_end(&mut heard).unwrap();
        heard
    });
    let (mut to, mut from) = library.split();
    let sending = async {
        for n in 0..COUNT {
            to.send(Message::text(text(n))).await.unwrap();
        }
    };
    let reading = async {
        for n in 0..COUNT {
            assert_eq!(from.next().await.unwrap().unwrap(), Message::text(text(n)));
        }
    };
    tokio::join!(sending, reading);
    // Everything that was sent arrives before the end.
    to.close(None).await.unwrap();
    let heard = tokio::task::spawn_blocking(|| browser.join().unwrap()).await.unwrap();
    let expected: Vec<u8> = (0..COUNT).flat_map(|n| [text(n).into_bytes(), vec![0]].concat()).collect();
    assert!(heard == expected, "{} of {} bytes", heard.len(), expected.len());
}

#[tokio::test]
async fn the_end_of_the_browser_breaks_the_librarys_connection() {
    let (mut library, mut browser) = connected().await;
    browser.write_all(b"{\"id\":1}\0{\"id\":").unwrap();
    drop(browser);
    assert_eq!(library.next().await.unwrap().unwrap(), Message::text("{\"id\":1}"));
    // Neither the half message nor a close, after which chromiumoxide would wait for ever.
    assert!(matches!(library.next().await, Some(Err(_))));
}

#[tokio::test]
async fn the_end_of_the_library_closes_the_browsers_end() {
    let (library, mut browser) = connected().await;
    drop(library);
    let read = tokio::task::spawn_blocking(move || browser.read(&mut [0; 8])).await.unwrap();
    assert_eq!(read.unwrap(), 0);
}

#[tokio::test]
async fn a_browser_that_ends_before_it_answers_is_noticed() {
    let (mut devtools, browser) = DevTools::pair().unwrap();
    drop(browser);
    assert!(!devtools.answers().await);
}
