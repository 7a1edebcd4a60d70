//! The user Postgres runs as: it refuses to be root.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid, User};

use crate::Error;

/// Who runs Postgres.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Account {
    /// Whoever runs us.
    Ours,
    /// Another user, because we are root.
    Other { uid: u32, gid: u32 },
}

impl Account {
    /// `postgres` where there is one, when we are root; else a user who does nothing else. `nobody` runs runners, so it is the
    /// last choice: who it is may read this data.
    pub(crate) fn choose() -> Result<Self, Error> {
        if !Uid::effective().is_root() {
            return Ok(Self::Ours);
        }
        ["postgres", "daemon", "nobody"]
            .into_iter()
            .find_map(|name| User::from_name(name).ok().flatten())
            .map(|user| Self::Other { uid: user.uid.as_raw(), gid: user.gid.as_raw() })
            .ok_or(Error::NoAccount)
    }

    /// As root, data that is there already is served by whom it belongs to: the user who last ran us without root, or
    /// an earlier choice.
    pub(crate) fn for_data(data: &Path) -> Result<Self, Error> {
        match (Self::choose()?, fs::metadata(data)) {
            (Self::Other { .. }, Ok(found)) if found.uid() != 0 => {
                Ok(Self::Other { uid: found.uid(), gid: found.gid() })
            }
            (chosen, _) => Ok(chosen),
        }
    }

    /// The first folder on the way to `path` that this user cannot pass through.
    pub(crate) fn obstacle(self, path: &Path) -> Option<PathBuf> {
        let Self::Other { uid, gid } = self else { return None };
        let mut folders: Vec<&Path> =
            path.ancestors().skip(1).filter(|folder| !folder.as_os_str().is_empty()).collect();
        folders.reverse();
        folders
            .into_iter()
            .find(|folder| !fs::metadata(folder).is_ok_and(|found| passable(&found, uid, gid)))
            .map(Path::to_owned)
    }

    /// Gives the folder to this user.
    pub(crate) fn own(self, path: &Path) -> Result<(), Error> {
        match self {
            Self::Ours => Ok(()),
            Self::Other { uid, gid } => nix::unistd::chown(path, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
                .map_err(|errno| Error::io("give away", path, errno.into())),
        }
    }
}

fn passable(folder: &fs::Metadata, uid: u32, gid: u32) -> bool {
    let execute = if folder.uid() == uid {
        0o100
    } else if folder.gid() == gid {
        0o010
    } else {
        0o001
    };
    folder.mode() & execute != 0
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_private_folder_is_an_obstacle_to_others_only() {
        let dir = crate::scratch().unwrap();
        let private = dir.path().join("private");
        fs::create_dir(&private).unwrap();
        fs::set_permissions(&private, Permissions::from_mode(0o700)).unwrap();
        let inside = private.join("data");

        let stranger = Account::Other { uid: 65_534, gid: 65_534 };
        assert_eq!(stranger.obstacle(&inside), Some(private.clone()));
        assert_eq!(stranger.obstacle(&private), None);
        let owner = fs::metadata(&private).unwrap();
        assert_eq!(Account::Other { uid: owner.uid(), gid: owner.gid() }.obstacle(&inside), None);
        assert_eq!(Account::Ours.obstacle(&inside), None);
    }
}
