//! What `/proc` says about processes.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A process: its number alone is used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub pid: i32,
    /// When it started, in clock ticks since boot.
    pub started: u64,
}

/// A line of the process table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub identity: Identity,
    pub parent: i32,
    pub group: i32,
    pub session: i32,
    /// Nothing is left of it but its exit status.
    pub dead: bool,
}

/// Which boot of this machine: numbers and start times say nothing about another one.
pub(crate) fn boot() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// The time since boot. It counts sleep, as the wall clock does, and never jumps.
pub(crate) fn uptime() -> io::Result<Duration> {
    #[cfg(target_os = "linux")]
    let clock = nix::time::ClockId::CLOCK_BOOTTIME;
    #[cfg(not(target_os = "linux"))]
    let clock = nix::time::ClockId::CLOCK_MONOTONIC;
    Ok(clock.now()?.into())
}

/// Looks at one process; none: there is none by that number.
pub(crate) fn look(pid: i32) -> io::Result<Option<Entry>> {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => parse(pid, &stat)
            .map(Some)
            .ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat cannot be understood"))),
        // ESRCH: it ended between the opening and the reading.
        Err(error) if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(nix::libc::ESRCH) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn parse(pid: i32, stat: &str) -> Option<Entry> {
    // The name in parentheses may hold anything, also parentheses.
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<i32>().ok();
    Some(Entry {
        identity: Identity { pid, started: fields.get(19)?.parse().ok()? },
        parent: number(1)?,
        group: number(2)?,
        session: number(3)?,
        dead: matches!(*fields.first()?, "Z" | "X" | "x"),
    })
}

impl Identity {
    /// Of a process that is there.
    pub fn of(pid: i32) -> io::Result<Self> {
        look(pid)?.map(|entry| entry.identity).ok_or_else(|| io::Error::other(format!("process {pid} is gone")))
    }

    /// Whether this very process is there and does anything still.
    pub fn lives(self) -> io::Result<bool> {
        Ok(look(self.pid)?.is_some_and(|entry| entry.identity == self && !entry.dead))
    }
}

/// Every process there is.
pub(crate) fn table() -> io::Result<Vec<Entry>> {
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        all.extend(look(pid)?);
    }
    Ok(all)
}

/// The processes of a user, whatever of it they have: real, effective or saved. Without zombies.
pub(crate) fn of_user(uid: u32) -> io::Result<Vec<Entry>> {
    let mut all = table()?;
    all.retain(|entry| !entry.dead && is_of_user(entry.identity.pid, uid));
    Ok(all)
}

fn is_of_user(pid: i32, uid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let users = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
    users.split_whitespace().any(|user| user.parse() == Ok(uid))
}

/// The children of a process, theirs, and so on; zombies among them. It costs what they are, and not what else runs here,
/// unless this kernel does not list children.
pub(crate) fn tree(of: i32) -> io::Result<Vec<Entry>> {
    let mut found: Vec<Entry> = Vec::new();
    let mut parents = vec![of];
    while let Some(parent) = parents.pop() {
        let Some(children) = children(parent)? else { return Ok(descendants(&table()?, of)) };
        for pid in children {
            let known = found.iter().any(|entry| entry.identity.pid == pid);
            if let Some(entry) = look(pid)?.filter(|_| !known && pid != of) {
                found.push(entry);
                parents.push(pid);
            }
        }
    }
    Ok(found)
}

/// The children of all threads of a process. None: this kernel does not list them.
fn children(pid: i32) -> io::Result<Option<Vec<i32>>> {
    let gone =
        |error: &io::Error| error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(nix::libc::ESRCH);
    let threads = match fs::read_dir(format!("/proc/{pid}/task")) {
        Ok(threads) => threads,
        Err(error) if gone(&error) => return Ok(Some(Vec::new())),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for thread in threads {
        let thread = match thread {
            Ok(thread) => thread.path(),
            Err(error) if gone(&error) => break,
            Err(error) => return Err(error),
        };
        match fs::read_to_string(thread.join("children")) {
            Ok(children) => found.extend(children.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok())),
            // Either this thread is gone, or the kernel has no such file.
            Err(error) if gone(&error) => {
                if thread.join("stat").exists() {
                    return Ok(None);
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Some(found))
}

/// The same, from a whole table, of several that are part of the answer.
pub(crate) fn descendants_of(table: &[Entry], roots: Vec<Entry>) -> Vec<Entry> {
    let mut found = roots;
    let mut next = 0;
    while let Some(parent) = found.get(next).map(|entry| entry.identity.pid) {
        for child in table.iter().filter(|entry| entry.parent == parent) {
            if !found.iter().any(|known| known.identity == child.identity) {
                found.push(*child);
            }
        }
        next += 1;
    }
    found
}

/// The same, from a whole table.
fn descendants(table: &[Entry], of: i32) -> Vec<Entry> {
    let mut found: Vec<Entry> = Vec::new();
    let mut parents = vec![of];
    while let Some(parent) = parents.pop() {
        for entry in table.iter().filter(|entry| entry.parent == parent && entry.identity.pid != parent) {
            if !found.contains(entry) {
                found.push(*entry);
                parents.push(entry.identity.pid);
            }
        }
    }
    found
}

/// What a process has in memory that is its own, in bytes, swapped out or not. Zero when it is gone.
pub(crate) fn own_memory(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kib = |name: &str| -> u64 {
        let value = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        value.trim().trim_end_matches(" kB").parse().unwrap_or(0)
    };
    (kib("RssAnon:") + kib("VmSwap:")) * 1024
}

/// What a process has in memory, in bytes, what it shares with others in equal parts. Where the kernel does not tell (it
/// forbids to look, or does not count so), what is its own. Zero when it is gone.
pub(crate) fn proportional_memory(pid: i32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let kib = |name: &str| -> Option<u64> {
        rollup.lines().find_map(|line| line.strip_prefix(name))?.trim().trim_end_matches(" kB").parse().ok()
    };
    match kib("Pss:") {
        Some(pss) => (pss + kib("SwapPss:").unwrap_or(0)) * 1024,
        None => own_memory(pid),
    }
}

/// Processor time of a process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Times {
    /// Its own, of all its threads.
    pub own: Duration,
    /// Of its children that have ended and that it has waited for, theirs among it.
    pub waited_for: Duration,
}

/// The kernel counts in hundredths of a second here, on every machine that Greenroom runs on.
const TICK: Duration = Duration::from_millis(10);

impl Times {
    /// None at all when it is gone.
    pub fn of(pid: i32) -> Self {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        Self::parse(&stat).unwrap_or_default()
    }

    fn parse(stat: &str) -> Option<Self> {
        let (_, rest) = stat.rsplit_once(')')?;
        let mut ticks = rest.split_whitespace().skip(11).map(str::parse::<u32>);
        let mut two = || Some(TICK * (ticks.next()?.ok()?.saturating_add(ticks.next()?.ok()?)));
        Some(Self { own: two()?, waited_for: two()? })
    }

    pub fn all(self) -> Duration {
        self.own + self.waited_for
    }
}

/// Whether a process was started with this in its environment. Nobody who is not ours knows the names of our folders.
pub(crate) fn environment_has(pid: i32, folder: &Path) -> bool {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let folder = folder.as_os_str().as_encoded_bytes();
    !folder.is_empty() && environment.windows(folder.len()).any(|words| words == folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_hold_anything() {
        let stat = "7 (a) b) R 1 5 4 0 -1 4194304 99 0 0 0 0 0 0 0 20 0 1 0 263467 3133440 388";
        let entry = parse(7, stat).expect("a line of the table");
        let identity = Identity { pid: 7, started: 263_467 };
        assert_eq!(entry, Entry { identity, parent: 1, group: 5, session: 4, dead: false });
        assert!(parse(7, "7 (cat) Z 1 5 4 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 1 0 0").expect("a zombie").dead);
        assert_eq!(parse(7, "7 (cat) R 1"), None);
    }

    #[test]
    fn times_are_read_and_what_is_gone_has_none() {
        let stat = "7 (a) b) R 1 5 4 0 -1 4194304 99 0 0 0 120 30 7 3 20 0 1 0 263467 3133440 388";
        let times = Times { own: Duration::from_millis(1500), waited_for: Duration::from_millis(100) };
        assert_eq!(Times::parse(stat), Some(times));
        assert_eq!(times.all(), Duration::from_millis(1600));
        assert_eq!(Times::parse("7 (cat) R 1"), None);
        assert_eq!(Times::of(i32::MAX), Times::default());
    }

    #[test]
    fn we_are_alive_and_somebody_elses_number_is_not_us() {
        let own = Identity::of(i32::try_from(std::process::id()).expect("fits")).expect("we are there");
        assert!(own.lives().expect("readable"));
        assert!(!Identity { started: own.started + 1, ..own }.lives().expect("readable"));
        assert!(is_of_user(own.pid, nix::unistd::Uid::effective().as_raw()) && !is_of_user(own.pid, u32::MAX));
        assert!(own_memory(own.pid) > 0);
        assert!(proportional_memory(own.pid) > 0);
        assert_eq!(proportional_memory(i32::MAX), 0);
        assert!(table().expect("readable").iter().any(|entry| entry.identity == own));
    }

    #[test]
    fn a_tree_is_walked_from_its_root_and_has_nobody_else_in_it() {
        let own = i32::try_from(std::process::id()).expect("fits");
        // The shell has a child, which has one. They end with their input.
        let mut shell = std::process::Command::new("sh")
            .args(["-c", "sh -c 'cat; true'; true"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("a shell");
        let root = i32::try_from(shell.id()).expect("fits");
        let began = std::time::Instant::now();
        let names = || {
            let mut pids: Vec<_> = tree(root).expect("readable").iter().map(|entry| entry.identity.pid).collect();
            pids.sort_unstable();
            pids
        };
        while names().len() < 2 {
            assert!(began.elapsed() < Duration::from_secs(120), "{:?}", names());
            std::thread::sleep(Duration::from_millis(10));
        }
        let mut by_table: Vec<_> =
            descendants(&table().expect("readable"), root).iter().map(|entry| entry.identity.pid).collect();
        by_table.sort_unstable();
        assert_eq!(names(), by_table);
        assert!(tree(own).expect("readable").iter().any(|entry| entry.identity.pid == root), "of any thread of ours");
        drop(shell.stdin.take());
        shell.wait().expect("it ends");
        assert_eq!(tree(root).expect("readable"), []);
    }

    #[test]
    fn descendants_are_found_at_any_depth() {
        let entry =
            |pid, parent| Entry { identity: Identity { pid, started: 1 }, parent, group: 0, session: 0, dead: false };
        let table = [entry(1, 0), entry(2, 1), entry(3, 2), entry(4, 3), entry(5, 1), entry(6, 9)];
        let mut pids: Vec<_> = descendants(&table, 2).iter().map(|entry| entry.identity.pid).collect();
        pids.sort_unstable();
        assert_eq!(pids, [3, 4]);
        assert_eq!(descendants(&table, 9).len(), 1);
        let mut with_roots: Vec<_> =
            descendants_of(&table, vec![table[2], table[5]]).iter().map(|entry| entry.identity.pid).collect();
        with_roots.sort_unstable();
        assert_eq!(with_roots, [3, 4, 6]);
    }
}
