//! The objects: parts, screenshots, recordings. A directory now; anything that [`ObjectStore`] speaks to later.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::stream::BoxStream;
use greenroom_domain::{BotId, TenantId};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, WriteMultipart};
use tokio::io::AsyncReadExt;
use tokio::sync::OnceCell;

use crate::Error;
use crate::error::{chain, without_paths};

/// Where objects are. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Vault {
    directory: PathBuf,
    opened: Arc<OnceCell<Arc<dyn ObjectStore>>>,
    /// How large the object was that could not be stored, until one as large can be.
    refused: Arc<Mutex<Option<usize>>>,
}

/// The action that an error names when an upload cannot be stored.
pub const STORE: &str = "store an object";
/// The action that an error names when the directory cannot be used at all.
pub const OPEN: &str = "open the recordings' place";
/// Bytes that are stored to find out whether storing works. A disk that is full may still have a few blocks.
const TRIAL: usize = 256 << 10;

/// The key of a part.
pub fn part(tenant: TenantId, bot: BotId, attempt: u32, index: u32) -> String {
    // With zeros, so that listings are in order.
    format!("{tenant}/{bot}/parts/{attempt}/{index:06}.webm")
}

/// The key of a screenshot.
pub fn screenshot(tenant: TenantId, bot: BotId, name: &str) -> String {
    format!("{tenant}/{bot}/screenshots/{name}")
}

/// The key of a joined recording.
pub fn recording(tenant: TenantId, bot: BotId) -> String {
    format!("{tenant}/{bot}/recording.webm")
}

impl Vault {
    /// Objects below a directory, which is made when it is first needed.
    pub fn new(directory: PathBuf) -> Self {
        Self { directory, opened: Arc::default(), refused: Arc::default() }
    }

    async fn store(&self) -> Result<&Arc<dyn ObjectStore>, Error> {
        let open = || async {
            let generic =
                |source: std::io::Error| object_store::Error::Generic { store: "local", source: source.into() };
            tokio::fs::create_dir_all(&self.directory).await.map_err(generic)?;
            set_folder_mode(&self.directory).await.map_err(generic)?;
            // What a runner was told is kept has to outlive a power cut: the runner forgets it.
            let store = LocalFileSystem::new_with_prefix(&self.directory)?.with_fsync(true);
            Ok(Arc::new(store) as Arc<dyn ObjectStore>)
        };
        self.opened.get_or_try_init(open).await.map_err(Error::objects(OPEN))
    }

    /// Takes an object from everybody else's sight. The directory is closed to them, so that there is no moment before this.
    async fn hide(&self, key: &str) -> Result<(), Error> {
        let failed = |source: std::io::Error| {
            Error::objects("hide an object")(object_store::Error::Generic { store: "local", source: source.into() })
        };
        let mut path = self.directory.join(key);
        set_mode(&path, FILE).await.map_err(failed)?;
        while path.pop() && path != self.directory {
            set_folder_mode(&path).await.map_err(failed)?;
        }
        Ok(())
    }

    /// Takes from everybody else's sight what an earlier version has left open.
    pub async fn hide_earlier(&self) {
        let directory = self.directory.clone();
        match greenroom_tasks::blocking("recordings access rights", move || close_below(&directory)).await {
            Ok(Ok(())) => {}
            // Nothing was kept yet.
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {}
            Ok(Err(error)) => tracing::error!(%error, "recordings of before cannot be closed to other users"),
            Err(error) => tracing::error!(%error, "cannot correct the modes of earlier recordings"),
        }
    }

    /// Words for clients, who need not know where this is.
    pub fn without_paths(&self, text: &str) -> String {
        without_paths(text, &[&self.directory, &std::env::temp_dir()])
    }

    /// Whether the last object could be stored, as far as anybody tried.
    pub fn stores(&self) -> bool {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// Tries whether an object can be stored where one could not be, or where nobody has tried.
    pub async fn try_again(&self, untried: bool) {
        let refused = *self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if untried || refused.is_some() {
            let content = vec![0; refused.unwrap_or_default().max(TRIAL)];
            // The outcome is noted.
            let _ = self.try_out(&format!("probes/{}", uuid::Uuid::now_v7()), content.into()).await;
        }
    }

    /// Reports once that objects cannot be stored, and once that they can again.
    fn note(&self, size: usize, failed: Option<&Error>) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        match (failed, *refused) {
            (Some(error), None) => {
                *refused = Some(size);
                tracing::error!(error = %chain(error), directory = %self.directory.display(), "recordings cannot be stored");
            }
            (Some(_), Some(before)) => *refused = Some(before.max(size)),
            (None, Some(before)) if size >= before => {
                *refused = None;
                tracing::info!(directory = %self.directory.display(), "recordings can be stored again");
            }
            (None, _) => {}
        }
    }

    /// Stores an object unless its key is taken. Returns whether it was free.
    pub async fn put_new(&self, key: &str, content: Bytes) -> Result<bool, Error> {
        let size = content.len();
        let put = self.put(key, content).await;
        self.note(size, put.as_ref().err());
        put
    }

    async fn put(&self, key: &str, content: Bytes) -> Result<bool, Error> {
        match self.store().await?.put_opts(&Path::from(key), content.into(), PutMode::Create.into()).await {
            Ok(_) => self.hide(key).await.map(|()| true),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
            Err(error) => Err(Error::objects(STORE)(error)),
        }
    }

    /// Stores an object, reads it and removes it again.
    pub async fn try_out(&self, key: &str, content: Bytes) -> Result<(), Error> {
        self.put_new(key, content.clone()).await?;
        let read = self.get(key).await;
        let removed = self.store().await?.delete(&Path::from(key)).await;
        if read? != content {
            let source = std::io::Error::other("what was stored is read otherwise");
            return Err(Error::objects("read an object")(object_store::Error::Generic {
                store: "vault",
                source: source.into(),
            }));
        }
        removed.map_err(Error::objects("remove an object"))
    }

    /// Stores a file's content, in place of what is there.
    pub async fn put_file(&self, key: &str, mut file: tokio::fs::File) -> Result<(), Error> {
        let failed = |error| Error::objects("store a recording")(error);
        let read =
            |source: std::io::Error| failed(object_store::Error::Generic { store: "file", source: source.into() });
        let upload = self.store().await?.put_multipart(&Path::from(key)).await.map_err(failed)?;
        let mut upload = WriteMultipart::new(upload);
        let mut buffer = vec![0; 256 << 10];
        loop {
            let n = file.read(&mut buffer).await.map_err(read)?;
            if n == 0 {
                break;
            }
            upload.wait_for_capacity(4).await.map_err(failed)?;
            upload.write(&buffer[..n]);
        }
        upload.finish().await.map_err(failed)?;
        self.hide(key).await
    }

    /// A whole object; for small ones.
    pub async fn get(&self, key: &str) -> Result<Bytes, Error> {
        let failed = |error| Error::objects("read an object")(error);
        self.store().await?.get(&Path::from(key)).await.map_err(failed)?.bytes().await.map_err(failed)
    }

    /// An object in pieces; none when there is none.
    pub async fn read(&self, key: &str) -> Result<Option<BoxStream<'static, object_store::Result<Bytes>>>, Error> {
        match self.store().await?.get(&Path::from(key)).await {
            Ok(object) => Ok(Some(object.into_stream())),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(Error::objects("read an object")(error)),
        }
    }
}

/// Nobody but the account of this service reads recordings; least of all the one that runs runners.
const FILE: u32 = 0o600;
const FOLDER: u32 = 0o700;

async fn set_mode(path: &std::path::Path, mode: u32) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    tokio::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).await
}

/// Closes a folder to others. One that belongs to somebody else, such as the root of a mounted volume, stays as it is: whoever
/// mounted it decides.
async fn set_folder_mode(path: &std::path::Path) -> std::io::Result<()> {
    match set_mode(path, FOLDER).await {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            static TOLD: std::sync::OnceLock<()> = std::sync::OnceLock::new();
            TOLD.get_or_init(|| {
                tracing::warn!(folder = %path.display(), "folder has another owner; its mode is unchanged");
            });
            Ok(())
        }
        set => set,
    }
}

fn close_below(directory: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mut folders = vec![directory.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            // Of the entry itself: a link leads elsewhere, and what is there is not ours.
            let Ok(found) = entry.metadata() else { continue };
            let mode = if found.is_dir() { FOLDER } else { FILE };
            if !found.is_symlink() && found.permissions().mode() & 0o777 != mode {
                match std::fs::set_permissions(entry.path(), std::fs::Permissions::from_mode(mode)) {
                    // A replica has removed it meanwhile, or it is not ours.
                    Err(error)
                        if matches!(
                            error.kind(),
                            std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied
                        ) =>
                    {
                        continue;
                    }
                    set => set?,
                }
            }
            if found.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn modes(directory: &std::path::Path) -> Vec<(String, u32)> {
        let mode = |path: &std::path::Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
        let (mut found, mut folders) = (vec![(".".to_owned(), mode(directory))], vec![directory.to_owned()]);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("readable") {
                let path = entry.expect("readable").path();
                found.push((path.strip_prefix(directory).expect("below").display().to_string(), mode(&path)));
                if path.is_dir() {
                    folders.push(path);
                }
            }
        }
        found.sort();
        found
    }

    #[tokio::test]
    async fn old_and_new_objects_are_private() {
        let folder = tempfile::tempdir().expect("a folder");
        let directory = folder.path().join("recordings");
        std::fs::create_dir_all(directory.join("old/parts")).expect("made");
        std::fs::write(directory.join("old/parts/000000.webm"), "old").expect("written");
        std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o755)).expect("set");
        std::fs::set_permissions(directory.join("old/parts"), std::fs::Permissions::from_mode(0o755)).expect("set");

        let vault = Vault::new(directory.clone());
        assert!(vault.put_new("new/parts/000000.webm", Bytes::from_static(b"new")).await.expect("stored"));
        let source = folder.path().join("joined");
        std::fs::write(&source, "joined").expect("written");
        let joined = tokio::fs::File::open(&source).await.expect("there");
        vault.put_file("new/recording.webm", joined).await.expect("stored");
        vault.hide_earlier().await;
        for (path, mode) in modes(&directory) {
            let expected = if path.ends_with(".webm") { FILE } else { FOLDER };
            assert_eq!(mode, expected, "{path}: {mode:o}");
        }
    }

    #[tokio::test]
    async fn trying_it_out_leaves_nothing_and_tells_what_is_wrong() {
        let folder = tempfile::tempdir().expect("a folder");
        let vault = Vault::new(folder.path().join("recordings"));
        vault.try_out("probes/one", Bytes::from_static(b"probe")).await.expect("it can be written to");
        assert!(vault.read("probes/one").await.expect("looked").is_none(), "it is removed again");

        let file = folder.path().join("file");
        std::fs::write(&file, "").expect("written");
        let said =
            Vault::new(file.join("below")).try_out("probes/one", Bytes::new()).await.expect_err("it is no folder");
        assert!(said.to_string().contains("recordings"), "{said}");
    }
}
