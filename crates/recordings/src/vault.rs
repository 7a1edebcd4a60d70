//! The objects: parts, screenshots, recordings. A directory now; anything that [`ObjectStore`] speaks to later.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::BoxStream;
use greenroom_domain::{BotId, TenantId};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, WriteMultipart};
use tokio::io::AsyncReadExt;
use tokio::sync::OnceCell;

use crate::Error;

/// Where objects are. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Vault {
    directory: PathBuf,
    opened: Arc<OnceCell<Arc<dyn ObjectStore>>>,
}

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
        Self { directory, opened: Arc::default() }
    }

    async fn store(&self) -> Result<&Arc<dyn ObjectStore>, Error> {
        let open = || async {
            let generic =
                |source: std::io::Error| object_store::Error::Generic { store: "local", source: source.into() };
            tokio::fs::create_dir_all(&self.directory).await.map_err(generic)?;
            // What a runner was told is kept has to outlive a power cut: the runner forgets it.
            let store = LocalFileSystem::new_with_prefix(&self.directory)?.with_fsync(true);
            Ok(Arc::new(store) as Arc<dyn ObjectStore>)
        };
        self.opened.get_or_try_init(open).await.map_err(Error::objects("open the recordings' place"))
    }

    /// Where an object is, for people.
    pub fn location(&self, key: &str) -> String {
        let path = self.directory.join(key);
        std::path::absolute(&path).unwrap_or(path).display().to_string()
    }

    /// Stores an object unless its key is taken. Returns whether it was free.
    pub async fn put_new(&self, key: &str, content: Bytes) -> Result<bool, Error> {
        match self.store().await?.put_opts(&Path::from(key), content.into(), PutMode::Create.into()).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
            Err(error) => Err(Error::objects("store an object")(error)),
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
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

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
