//! Which account of the operating system the server runs as, and whether it can reach a folder.
//!
//! PostgreSQL refuses to run as root. A root daemon therefore starts it as another account. The
//! account is looked up with `id`, which knows every name service of the system and needs no C call.

use std::{
    fs,
    os::unix::{fs::MetadataExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::cluster::error::Error;

/// The accounts tried, in this order, when the caller is root.
const CANDIDATES: [&str; 2] = ["postgres", "nobody"];

/// The account that the server's processes run as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Account {
    /// The caller's own: nothing is dropped and nothing changes hands.
    Own,
    /// Another one, because the caller is root.
    Other {
        /// Its user id.
        user_id: u32,
        /// Its main group's id.
        group_id: u32,
    },
}

impl Account {
    /// Chooses the account for a data folder. One that exists keeps the owner it has, because
    /// PostgreSQL refuses to serve a folder that belongs to someone else.
    pub(crate) fn choose(data_dir: &Path) -> Result<Self, Error> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self::Own);
        }
        if let Ok(made) = fs::metadata(data_dir.join("PG_VERSION"))
            && made.uid() != 0
        {
            return Ok(Self::Other { user_id: made.uid(), group_id: made.gid() });
        }
        CANDIDATES
            .iter()
            .find_map(|name| {
                let user_id = id_of("-u", name)?;
                let group_id = id_of("-g", name)?;
                (user_id != 0).then_some(Self::Other { user_id, group_id })
            })
            .ok_or(Error::NoAccount)
    }

    /// Makes the command run as this account. Setting the user as root also clears the caller's
    /// supplementary groups.
    pub(crate) fn dress(self, command: &mut Command) {
        if let Self::Other { user_id, group_id } = self {
            command.uid(user_id).gid(group_id);
        }
    }

    /// Gives the file or folder to this account.
    pub(crate) fn give(self, path: &Path) -> Result<(), Error> {
        let Self::Other { user_id, group_id } = self else { return Ok(()) };
        std::os::unix::fs::chown(path, Some(user_id), Some(group_id))
            .map_err(|source| Error::Folder { path: path.to_owned(), source })
    }

    /// Fails with the name of the first folder on the way to `path` that this account may not enter.
    pub(crate) fn check_can_reach(self, path: &Path) -> Result<(), Error> {
        let Self::Other { user_id, group_id } = self else { return Ok(()) };
        match path.ancestors().skip(1).find(|folder| is_closed_to(folder, user_id, group_id)) {
            Some(closed) => {
                Err(Error::OutOfReach { path: path.to_owned(), closed: closed.to_owned(), user_id })
            }
            None => Ok(()),
        }
    }
}

fn is_closed_to(folder: &Path, user_id: u32, group_id: u32) -> bool {
    let folder = if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder.into() };
    fs::metadata(folder).is_ok_and(|seen| {
        let enter = if seen.uid() == user_id {
            0o100
        } else if seen.gid() == group_id {
            0o010
        } else {
            0o001
        };
        seen.mode() & enter == 0
    })
}

fn id_of(kind: &str, name: &str) -> Option<u32> {
    let output = Command::new("id")
        .args([kind, "--", name])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn names_the_folder_that_is_closed() {
        let root = tempfile::tempdir().unwrap();
        let inner = root.path().join("inner/data");
        fs::create_dir_all(&inner).unwrap();
        let stranger = Account::Other { user_id: 4_000_001, group_id: 4_000_001 };
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o711)).unwrap();
        fs::set_permissions(root.path().join("inner"), fs::Permissions::from_mode(0o700)).unwrap();
        let Err(Error::OutOfReach { closed, .. }) = stranger.check_can_reach(&inner) else {
            panic!("a 0700 folder let a stranger in");
        };
        assert_eq!(closed, root.path().join("inner"));
        fs::set_permissions(root.path().join("inner"), fs::Permissions::from_mode(0o711)).unwrap();
        stranger.check_can_reach(&inner).unwrap();
    }

    #[test]
    fn an_unknown_name_has_no_id() {
        assert_eq!(id_of("-u", "no-such-account-here"), None);
        assert_eq!(id_of("-u", "root"), Some(0));
    }
}
