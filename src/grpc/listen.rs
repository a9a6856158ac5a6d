//! Where doors are: a Unix socket for those whom its group lets in, and TCP, beyond this machine with TLS.

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use nix::unistd::{Gid, Group, chown};
use tokio::net::{TcpListener, UnixListener, UnixStream};

/// The socket may be used by its owner and its group.
const SOCKET_MODE: u32 = 0o660;

/// Why a door could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody else answers there.
    #[error("another daemon answers at {}; stop it, or let this one listen somewhere else", .0.display())]
    Taken(PathBuf),
    /// What lies there is no socket; it is not ours to remove.
    #[error("{} is there already and is no socket; move it away, or let the daemon listen somewhere else", .0.display())]
    NotASocket(PathBuf),
    /// The group of the setting does not exist.
    #[error("there is no group {0} on this machine; create it, or name another `socket_group`")]
    NoGroup(String),
    /// The socket cannot be given to the group: who is no member may not give it files.
    #[error(
        "giving the socket {} to the group {group}: {source}; the daemon's own user must be in that group (`usermod -aG {group} USER`, \
         then start it anew)", path.display()
    )]
    NotAMember {
        /// The socket.
        path: PathBuf,
        /// The group of the setting.
        group: String,
        /// What the system said.
        source: io::Error,
    },
    /// The address is reachable from other machines.
    #[error(
        "listening at {0} would let other machines in, and without TLS that is refused; give it certificate and key, or listen at 127.0.0.1 or [::1]"
    )]
    NotLoopback(SocketAddr),
    /// The system refused.
    #[error("{doing} {place}: {source}")]
    System {
        /// What was being done.
        doing: &'static str,
        /// Where.
        place: String,
        /// What the system said.
        source: io::Error,
    },
}

fn system(doing: &'static str, place: impl std::fmt::Display) -> impl FnOnce(io::Error) -> Error {
    let place = place.to_string();
    move |source| Error::System {
        doing,
        place,
        source,
    }
}

/// A Unix socket of ours; dropping it takes the file away, if it is still this one.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
    inode: (u64, u64),
}

impl Drop for Socket {
    fn drop(&mut self) {
        if inode(&self.path).is_ok_and(|inode| inode == self.inode) {
            // It is a leftover at worst, which the next start removes.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn inode(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|meta| (meta.dev(), meta.ino()))
}

/// Listens at a Unix socket, 0660 and of `group` where one is named. A socket that nobody answers at is replaced.
///
/// It appears under its name with its rights already set, so that nobody finds it open for a moment.
pub async fn unix(path: &Path, group: Option<&str>) -> Result<(UnixListener, Socket), Error> {
    let gid = group.map(find_group).transpose()?;
    make_way(path).await?;
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(system("making the folder", folder.display()))?;
    let door = path.with_extension(format!("new-{}", std::process::id()));
    let _ = fs::remove_file(&door);
    let listener = UnixListener::bind(&door).map_err(system("listening at", door.display()))?;
    let opened = set_rights(&door, gid).and_then(|()| fs::rename(&door, path));
    if let Err(source) = opened {
        let _ = fs::remove_file(&door);
        return Err(no_rights(path, group, source));
    }
    let inode = inode(path).map_err(system("looking at", path.display()))?;
    Ok((
        listener,
        Socket {
            path: path.to_owned(),
            inode,
        },
    ))
}

fn find_group(name: &str) -> Result<Gid, Error> {
    let found = Group::from_name(name)
        .map_err(|errno| system("looking up the group", name)(errno.into()))?;
    found
        .map(|group| group.gid)
        .ok_or_else(|| Error::NoGroup(name.to_owned()))
}

/// Sees that nobody answers at `path` and that what lies there is a socket, if anything.
async fn make_way(path: &Path) -> Result<(), Error> {
    let there = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(system("looking at", path.display())(error)),
    };
    if !there.file_type().is_socket() {
        return Err(Error::NotASocket(path.to_owned()));
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(system("asking whether anybody answers at", path.display())(
            error,
        )),
        Ok(_) => Err(Error::Taken(path.to_owned())),
    }
}

fn set_rights(path: &Path, group: Option<Gid>) -> io::Result<()> {
    if group.is_some() {
        chown(path, None, group)?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE))
}

fn no_rights(path: &Path, group: Option<&str>, source: io::Error) -> Error {
    match group {
        Some(group) if source.kind() == io::ErrorKind::PermissionDenied => Error::NotAMember {
            path: path.to_owned(),
            group: group.to_owned(),
            source,
        },
        _ => system("setting the rights of", path.display())(source),
    }
}

/// Listens at a TCP address; at one that other machines reach only where there is TLS.
pub async fn tcp(address: SocketAddr, has_tls: bool) -> Result<TcpListener, Error> {
    if !address.ip().is_loopback() && !has_tls {
        return Err(Error::NotLoopback(address));
    }
    TcpListener::bind(address)
        .await
        .map_err(system("listening at", address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_is_for_owner_and_group_and_goes_with_the_daemon() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/imagesetd.sock");
        let (_listener, socket) = unix(&path, None).await.unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o660
        );
        assert!(UnixStream::connect(&path).await.is_ok());
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_socket_that_nobody_answers_at_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("imagesetd.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let (_listener, _socket) = unix(&path, None).await.unwrap();
        assert!(UnixStream::connect(&path).await.is_ok());
    }

    #[tokio::test]
    async fn a_socket_that_is_answered_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("imagesetd.sock");
        let (_listener, _socket) = unix(&path, None).await.unwrap();
        assert!(matches!(unix(&path, None).await, Err(Error::Taken(_))));
        assert!(UnixStream::connect(&path).await.is_ok());
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_never_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("imagesetd.sock");
        fs::write(&path, "precious").unwrap();
        assert!(matches!(unix(&path, None).await, Err(Error::NotASocket(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[tokio::test]
    async fn the_end_of_an_old_daemon_leaves_the_socket_of_a_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("imagesetd.sock");
        let (listener, old) = unix(&path, None).await.unwrap();
        drop(listener);
        let (_listener, _new) = unix(&path, None).await.unwrap();
        drop(old);
        assert!(UnixStream::connect(&path).await.is_ok());
    }

    #[tokio::test]
    async fn other_machines_are_kept_out() {
        let refused = tcp("0.0.0.0:0".parse().unwrap(), false).await.unwrap_err();
        assert!(
            refused
                .to_string()
                .starts_with("listening at 0.0.0.0:0 would let other machines in"),
            "{refused}"
        );
        assert!(tcp("127.0.0.1:0".parse().unwrap(), false).await.is_ok());
    }

    #[test]
    fn a_group_that_the_daemon_is_not_in_is_named_with_the_remedy() {
        let told = |group, errno: nix::errno::Errno| {
            no_rights(Path::new("/run/s"), group, errno.into()).to_string()
        };
        assert_eq!(
            told(Some("ops"), nix::errno::Errno::EPERM),
            "giving the socket /run/s to the group ops: Operation not permitted (os error 1); the daemon's own user must be in that group (`usermod -aG ops USER`, then start it anew)"
        );
        assert_eq!(
            told(Some("ops"), nix::errno::Errno::EROFS),
            "setting the rights of /run/s: Read-only file system (os error 30)"
        );
    }

    #[tokio::test]
    async fn a_group_that_does_not_exist_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let refused = unix(&folder.path().join("s"), Some("no-such-group-here"))
            .await
            .unwrap_err();
        assert_eq!(
            refused.to_string(),
            "there is no group no-such-group-here on this machine; create it, or name another `socket_group`"
        );
    }
}
