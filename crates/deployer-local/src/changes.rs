//! Which runners may have ended, as the file system tells: nobody has to look at all of them all the time.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::thread;

use greenroom_domain::RunnerId;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

/// After this many milliseconds the thread sees that nobody listens any more.
const LOOK_MS: u16 = 1_000;

/// What is told about the folders of a platform's runners.
#[derive(Debug)]
pub(crate) struct Changes(UnboundedReceiver<BTreeSet<RunnerId>>);

impl Changes {
    /// Listens, in a thread of its own. What happened before has to be looked for.
    pub fn of(runners: &Path) -> io::Result<Self> {
        let mut folders = Folders::of(runners)?;
        let (tell, told) = mpsc::unbounded_channel();
        thread::Builder::new().name("local-changes".to_owned()).spawn(move || {
            // It has an end when something was not told; whoever listens sees that, and looks at everything.
            let _ = folders.tell(&tell);
        })?;
        Ok(Self(told))
    }

    /// Waits for the next ones. None: not all is told, so everything has to be looked at, and listened to anew.
    pub async fn next(&mut self) -> Option<BTreeSet<RunnerId>> {
        self.0.recv().await
    }
}

struct Folders {
    told: Inotify,
    runners: PathBuf,
    root: WatchDescriptor,
    followed: HashMap<WatchDescriptor, RunnerId>,
}

impl Folders {
    fn of(runners: &Path) -> io::Result<Self> {
        fs::create_dir_all(runners)?;
        let told = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let root = told.add_watch(runners, AddWatchFlags::IN_CREATE | AddWatchFlags::IN_ONLYDIR)?;
        let mut folders = Self { told, runners: runners.to_owned(), root, followed: HashMap::new() };
        for entry in fs::read_dir(runners)? {
            if let Some(runner) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) {
                folders.follow(runner)?;
            }
        }
        Ok(folders)
    }

    fn follow(&mut self, runner: RunnerId) -> io::Result<()> {
        let flags = AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_ONLYDIR;
        match self.told.add_watch(&self.runners.join(runner.to_string()), flags) {
            Ok(folder) => {
                self.followed.insert(folder, runner);
                Ok(())
            }
            // It is removed already.
            Err(Errno::ENOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Tells until nobody listens, or not all can be told.
    fn tell(&mut self, tell: &UnboundedSender<BTreeSet<RunnerId>>) -> io::Result<()> {
        while !tell.is_closed() {
            match poll(&mut [PollFd::new(self.told.as_fd(), PollFlags::POLLIN)], PollTimeout::from(LOOK_MS)) {
                Ok(0) | Err(Errno::EINTR) => continue,
                Ok(_) => {}
                Err(error) => return Err(error.into()),
            }
            let mut ended = BTreeSet::new();
            match self.told.read_events() {
                Ok(events) => {
                    for event in events {
                        ended.extend(self.hear(&event)?);
                    }
                }
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            if !ended.is_empty() && tell.send(ended).is_err() {
                break;
            }
        }
        Ok(())
    }

    fn hear(&mut self, event: &InotifyEvent) -> io::Result<Option<RunnerId>> {
        if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            return Err(io::Error::other("more happened than could be told"));
        }
        if event.mask.contains(AddWatchFlags::IN_IGNORED) {
            if event.wd == self.root {
                return Err(io::Error::other("the folder is gone"));
            }
            self.followed.remove(&event.wd);
            return Ok(None);
        }
        let name = event.name.as_deref().and_then(|name| name.to_str()).unwrap_or_default();
        if event.wd != self.root {
            return Ok(self.followed.get(&event.wd).copied().filter(|_| name == "exit.json"));
        }
        let Ok(runner) = name.parse() else { return Ok(None) };
        self.follow(runner)?;
        // It may have ended before it was followed.
        Ok(Some(runner))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use greenroom_domain::{Attempt, BotId};

    use super::*;

    #[tokio::test]
    async fn an_end_is_told_and_a_folder_that_is_gone_ends_it() {
        let place = tempfile::tempdir().expect("a folder");
        let runners = place.path().join("runners");
        let new = || RunnerId::of_bot(BotId::generate(), Attempt::FIRST);
        let (before, after) = (new(), new());
        fs::create_dir_all(runners.join(before.to_string())).expect("made");
        let mut changes = Changes::of(&runners).expect("it listens");
        let mut next =
            async || tokio::time::timeout(Duration::from_secs(180), changes.next()).await.expect("it is told");
        let writes = |runner: RunnerId, name: &str| {
            let folder = runners.join(runner.to_string());
            fs::write(folder.join(".half"), "{}").and_then(|()| fs::rename(folder.join(".half"), folder.join(name)))
        };
        writes(before, "usage.json").expect("written");
        writes(before, "exit.json").expect("written");
        assert_eq!(next().await, Some(BTreeSet::from([before])), "and not what it takes");
        fs::create_dir(runners.join(after.to_string())).expect("made");
        assert_eq!(next().await, Some(BTreeSet::from([after])), "it may have ended already");
        writes(after, "exit.json").expect("written");
        assert_eq!(next().await, Some(BTreeSet::from([after])));
        fs::remove_dir_all(&runners).expect("removed");
        assert_eq!(next().await, None);
    }
}
