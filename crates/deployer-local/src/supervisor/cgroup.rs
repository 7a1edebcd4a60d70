//! A control group (v2) of a runner's own, where this machine lets us make one: with it nothing of a runner escapes its end,
//! and the kernel counts what it takes and holds it to its memory.
//!
//! It is made below our own group. In most containers and for most users that folder cannot be written: then there is none,
//! and the process table has to do.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use uuid::Uuid;

/// A runner's group. Everything about it is best effort, but for what is asked of it.
#[derive(Debug)]
pub(super) struct Cgroup {
    /// Ours, in which it is.
    own: PathBuf,
    path: PathBuf,
    /// The kernel holds it to its memory.
    limited: bool,
}

impl Cgroup {
    /// Makes one, limited to so much memory (0: to none) where the kernel does that here. None: it cannot be had.
    pub fn make(memory_bytes: u64) -> Option<Self> {
        Self::below(own_folder()?, memory_bytes)
    }

    fn below(own: PathBuf, memory_bytes: u64) -> Option<Self> {
        // Whoever enters it has to come back: a group that ends everything in it must not hold us.
        enter(&own).ok()?;
        let id = Uuid::new_v4().simple().to_string();
        let path = own.join(format!("greenroom-runner-{}", &id[..12]));
        fs::create_dir(&path).ok()?;
        let mut group = Self { own, path, limited: false };
        // Refused where our own group has processes and is not the first of all: then the memory is weighed.
        let _ = fs::write(group.own.join("cgroup.subtree_control"), "+memory");
        if memory_bytes > 0 && group.write("memory.max", &memory_bytes.to_string()).is_ok() {
            group.limited = true;
            // All of it or nothing, as a container ends; and swap is no way around the limit.
            let _ = group.write("memory.oom.group", "1");
            let _ = group.write("memory.swap.max", "0");
        }
        Some(group)
    }

    /// The group of a runner that was started by somebody else. None: it is gone.
    pub fn of(path: &Path) -> Option<Self> {
        members(path)?;
        let limit = fs::read_to_string(path.join("memory.max")).unwrap_or_default();
        Some(Self {
            own: path.parent()?.to_owned(),
            path: path.to_owned(),
            limited: limit.trim().parse::<u64>().is_ok(),
        })
    }

    /// Runs what starts a runner, whose processes are in the group from their first moment on.
    pub fn around<T>(&self, start: impl FnOnce() -> T) -> io::Result<T> {
        enter(&self.path)?;
        let started = start();
        enter(&self.own)?;
        Ok(started)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the kernel holds it to its memory.
    pub fn is_limited(&self) -> bool {
        self.limited
    }

    /// Kills everything in it at once. False: this kernel cannot, or it is gone.
    pub fn kill(&self) -> bool {
        self.write("cgroup.kill", "1").is_ok()
    }

    /// Processor time of everything that was ever in it.
    pub fn cpu(&self) -> Option<Duration> {
        number(&fs::read_to_string(self.path.join("cpu.stat")).ok()?, "usage_usec").map(Duration::from_micros)
    }

    /// Its memory, without what the kernel would give back at once. None: it is not counted here.
    pub fn memory(&self) -> Option<u64> {
        let current: u64 = fs::read_to_string(self.path.join("memory.current")).ok()?.trim().parse().ok()?;
        let stat = fs::read_to_string(self.path.join("memory.stat")).unwrap_or_default();
        Some(current.saturating_sub(number(&stat, "inactive_file").unwrap_or(0)))
    }

    /// Whether the kernel has ended something in it for want of memory.
    pub fn ran_out_of_memory(&self) -> bool {
        let events = fs::read_to_string(self.path.join("memory.events")).unwrap_or_default();
        self.limited && number(&events, "oom_kill").unwrap_or(0) > 0
    }

    fn write(&self, file: &str, value: &str) -> io::Result<()> {
        // Opened and never made: in a group that is gone there is nothing to write to.
        let mut file = fs::File::options().write(true).open(self.path.join(file))?;
        io::Write::write_all(&mut file, value.as_bytes())
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// The numbers of the processes in a group.
pub(crate) fn members(group: &Path) -> Option<Vec<i32>> {
    let text = fs::read_to_string(group.join("cgroup.procs")).ok()?;
    Some(text.lines().filter_map(|line| line.parse().ok()).collect())
}

/// Removes a group that nothing is in any more. What is in use is left.
pub(crate) fn remove(group: &Path) {
    let ours =
        group.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("greenroom-runner-"));
    if ours {
        let _ = fs::remove_dir(group);
    }
}

fn enter(group: &Path) -> io::Result<()> {
    let mut file = fs::File::options().write(true).open(group.join("cgroup.procs"))?;
    io::Write::write_all(&mut file, std::process::id().to_string().as_bytes())
}

fn number(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

/// Where our own group is. None: there is no v2 here.
fn own_folder() -> Option<PathBuf> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    find(&own, &mounts)
}

fn find(own: &str, mounts: &str) -> Option<PathBuf> {
    let own = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    mounts.lines().find_map(|line| {
        // 36 35 98:0 /root /mount/point options - type source options
        let (mount, kind) = line.split_once(" - ")?;
        if kind.split(' ').next() != Some("cgroup2") {
            return None;
        }
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        // What is outside of what is mounted cannot be reached.
        let inside = Path::new(own).strip_prefix(root).ok()?;
        Some(Path::new(point).join(inside))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_group_is_found_where_it_is_mounted() {
        let unified = "25 1 0:23 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
        let hybrid = "30 25 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n31 25 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let below = "25 1 0:23 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        let own = "4:memory:/x\n0::/system.slice/greenroom.service\n";
        let found = |own: &str, mounts: &str| find(own, mounts).map(|path| path.display().to_string());
        assert_eq!(found(own, unified).as_deref(), Some("/sys/fs/cgroup/system.slice/greenroom.service"));
        assert_eq!(found("0::/\n", hybrid).as_deref(), Some("/sys/fs/cgroup/unified/"));
        assert_eq!(found("0::/docker/abc/runner\n", below).as_deref(), Some("/sys/fs/cgroup/runner"));
        assert_eq!(found(own, below), None, "it is not in what is mounted");
        assert_eq!(found("4:memory:/x\n", hybrid), None, "there is no v2");
    }

    #[test]
    fn cgroup_counters_are_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("greenroom-runner-x");
        fs::create_dir(&path).expect("made");
        for (file, text) in [
            ("cpu.stat", "usage_usec 2500000\nuser_usec 1\n"),
            ("memory.current", "1000\n"),
            ("memory.stat", "anon 600\ninactive_file 400\nactive_file 1\n"),
            ("memory.events", "low 0\noom 1\noom_kill 2\n"),
            ("cgroup.procs", "7\n12\n"),
        ] {
            fs::write(path.join(file), text).expect("written");
        }
        let group = Cgroup { own: folder.path().to_owned(), path: path.clone(), limited: true };
        assert_eq!(group.cpu(), Some(Duration::from_millis(2500)));
        assert_eq!(group.memory(), Some(600));
        assert!(group.ran_out_of_memory());
        assert_eq!(members(&path), Some(vec![7, 12]));
        assert!(!group.kill(), "a kernel without it makes no file");
        assert!(!path.join("cgroup.kill").exists());
        // It is no group, and full of files: it stays.
        drop(group);
        assert!(path.exists());
    }
}
