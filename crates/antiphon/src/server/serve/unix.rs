//! The file of a Unix socket: made with its permissions, and removed by whoever made it.
//!
//! A listener owns its [`SocketFile`]. A file that is there already is removed only if it is a socket
//! on which nobody listens; anything else in its place is an error that says what to do.

use std::{
    fs, io,
    os::unix::{
        fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use socket2::{Domain, SockAddr, Socket, Type};

use super::refused::{BACKLOG, Refused};

/// The file of a socket that is listened on. It is removed with the last clone.
#[derive(Debug, Clone)]
pub(super) struct SocketFile(#[expect(dead_code, reason = "a guard")] Arc<Made>);

#[derive(Debug)]
struct Made {
    path: PathBuf,
    /// Device and number of the file, by which it is known.
    identity: (u64, u64),
}

/// A listener on a new file with these permissions.
pub(super) fn bind(path: &Path, mode: u32) -> io::Result<(UnixListener, SocketFile)> {
    let bound = || {
        remove_abandoned(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.bind(&SockAddr::unix(path)?)?;
        let file = SocketFile(Arc::new(Made {
            path: std::path::absolute(path)?,
            identity: identity(&fs::symlink_metadata(path)?),
        }));
        // Nobody can connect before it is listened on.
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        socket.listen(BACKLOG.cast_signed())?;
        Ok((socket.into(), file))
    };
    bound().map_err(|error| Refused::new(path.display(), error, advice).into())
}

/// Removes the socket of a process that has ended without doing so.
fn remove_abandoned(path: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !found.file_type().is_socket() {
        let error = "there is something, and it isn't a socket";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, error));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
        Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
    }
}

/// What to do about an error of a path.
fn advice(error: &io::Error) -> Option<&'static str> {
    match error.kind() {
        io::ErrorKind::AddrInUse => Some("another process listens there: end it first"),
        io::ErrorKind::AlreadyExists => Some("remove it, or take another path"),
        io::ErrorKind::NotFound => Some("its folder must be made first"),
        io::ErrorKind::PermissionDenied => Some(
            "this user must be allowed to write to its folder, and to the socket if there is one",
        ),
        _ => None,
    }
}

fn identity(file: &fs::Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

impl Drop for Made {
    fn drop(&mut self) {
        let is_same = |found: fs::Metadata| identity(&found) == self.identity;
        if !fs::symlink_metadata(&self.path).is_ok_and(is_same) {
            return;
        }
        if let Err(error) = fs::remove_file(&self.path) {
            let path = self.path.display();
            tracing::warn!(%path, %error, "the file of a Unix socket can't be removed");
        }
    }
}
