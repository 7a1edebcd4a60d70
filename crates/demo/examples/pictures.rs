//! Takes pictures of the demo's meeting room, for the documentation: `cargo run -p greenroom-demo --example pictures -- DIR`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use greenroom_bot::browser::{Browser, Scratch, Tab};
use greenroom_bot::config::BrowserSettings;
use greenroom_demo::host::Host;
use greenroom_demo::room::Room;
use tokio::time::sleep;

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let to = PathBuf::from(std::env::args().nth(1).ok_or("usage: pictures DIR")?);
    std::fs::create_dir_all(&to)?;
    let settings = BrowserSettings::from_map(&std::env::vars().collect())?;
    let room = Room::open("").await?;
    let browser = Browser::launch(&settings, Scratch::new("guest")?, &[room.network()].into_iter().collect()).await?;
    let guest = browser.tab().await?;

    guest.navigate(&format!("{}-nowhere", room.url())).await?;
    take(&guest, &to, "not-found").await?;
    guest.navigate(&room.url()).await?;
    take(&guest, &to, "lobby").await?;

    let host = Host::start(&room, &settings).await?;
    join(&guest, "Notetaker").await?;
    take(&guest, &to, "waiting").await?;
    take(host.tab(), &to, "knock").await?;
    host.admit().await?;
    let second = browser.tab().await?;
    second.navigate(&room.url()).await?;
    join(&second, "Grace Hopper").await?;
    host.admit().await?;
    let third = browser.tab().await?;
    third.navigate(&room.url()).await?;
    join(&third, "Katherine Johnson").await?;
    sleep(Duration::from_secs(2)).await;
    take(host.tab(), &to, "room").await?;
    take(&guest, &to, "guest").await?;
    host.end().await?;
    take(&guest, &to, "ended").await?;
    host.close().await;
    browser.close().await;
    Ok(())
}

async fn join(tab: &Tab, name: &str) -> Result<(), Failure> {
    sleep(Duration::from_millis(500)).await;
    let script = format!(
        "document.querySelector('#name').value = {name:?}; document.querySelector('[data-greenroom=join]').click(); true"
    );
    tab.ask::<bool>("join", &script).await?;
    sleep(Duration::from_millis(700)).await;
    Ok(())
}

async fn take(tab: &Tab, to: &Path, name: &str) -> Result<(), Failure> {
    sleep(Duration::from_millis(500)).await;
    std::fs::write(to.join(format!("{name}.png")), tab.screenshot_png().await?)?;
    Ok(())
}
