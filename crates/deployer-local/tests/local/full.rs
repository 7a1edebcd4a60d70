//! The disk of `LOCAL_DIR` is full. Only root can make one that is small.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use greenroom_deployer::{Deployer, Error, Observed, Progress};
use greenroom_domain::Exit;
use nix::unistd::Uid;

use crate::stage::{Stage, exit, launch, new_runner, start, until};

/// A small file system, gone with its test.
struct Small(tempfile::TempDir);

impl Small {
    /// None: it cannot be mounted here.
    fn mount() -> Option<Self> {
        let place = tempfile::tempdir().expect("a folder");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=512k,mode=755", "greenroom-test"]).arg(place.path());
        (Uid::effective().is_root() && mount.status().is_ok_and(|status| status.success())).then(|| Self(place))
    }

    /// Fills it to the last byte; the file that does can be removed.
    fn fill(&self) -> std::path::PathBuf {
        let path = self.0.path().join("filler");
        let mut filler = fs::File::create(&path).expect("a file");
        for size in [4096, 1] {
            while match filler.write(&vec![b'x'; size]) {
                Ok(_) => true,
                Err(error) if error.kind() == ErrorKind::StorageFull => false,
                Err(error) => panic!("{error}"),
            } {}
        }
        path
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

fn halves(folder: &Path) -> usize {
    let names = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    names.filter(|name| name.to_string_lossy().starts_with(".exit.json.0")).count()
}

#[tokio::test]
async fn nothing_is_started_on_a_full_disk_and_what_runs_is_stopped_and_its_end_known() {
    let Some(small) = Small::mount() else { return };
    let mut stage = Stage::new();
    stage.config.dir = small.0.path().join("state");
    let driver = stage.driver();
    let polite = start(&driver, "trap 'exit 5' TERM; echo started; while :; do sleep 0.05; done").await;
    let brief = start(&driver, "echo started; while [ ! -e $HOME/end ]; do sleep 0.05; done; exit 6").await;
    for runner in [polite, brief] {
        until("it starts", || stage.log(runner).contains("started")).await;
    }
    let filler = small.fill();
    let refused = driver.ensure(&launch(new_runner(), "exit 0"), &Progress::silent()).await;
    assert!(matches!(&refused, Err(Error::NoCapacity(why)) if why.contains("No space left")), "{refused:?}");

    driver.stop(polite, Duration::from_secs(600)).await.expect("asked");
    assert_eq!(exit(&driver, polite).await, Exit::with_code(5));
    let scratch = stage.record(brief)["scratch"].as_str().expect("a path").to_owned();
    fs::write(Path::new(&scratch).join("end"), "").expect("written");
    assert_eq!(exit(&driver, brief).await, Exit::with_code(6));
    assert_eq!(halves(&stage.folder(brief)), 0);
    for runner in [polite, brief] {
        driver.remove(runner).await.expect("removed");
    }

    fs::remove_file(filler).expect("removed");
    let next = start(&driver, "exit 7").await;
    assert_eq!(exit(&driver, next).await, Exit::with_code(7));
    assert_eq!(driver.inspect(polite).await, Ok(Observed::Gone));
}
