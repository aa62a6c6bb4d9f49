//! Places to listen: addresses, and sockets in the file system.

use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::config::Listen;

/// A bound place. Dropping it takes its socket out of the file system.
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

/// A connection as it came.
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Listener {
    /// Binds. Must be called within a runtime.
    pub(super) fn bind(listen: &Listen) -> io::Result<Listener> {
        match listen {
            Listen::Tcp(address) => {
                let socket = match address.is_ipv4() {
                    true => tokio::net::TcpSocket::new_v4()?,
                    false => tokio::net::TcpSocket::new_v6()?,
                };
                socket.set_reuseaddr(true)?;
                socket.bind(*address)?;
                // Long enough for a burst of clients that begin at once, as the fleet of a large build does.
                socket.listen(4096).map(Listener::Tcp)
            }
            Listen::Unix(path) => {
                remove_stale(path)?;
                let listener = UnixListener::bind(path)?;
                let file = SocketFile(path.clone());
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
                Ok(Listener::Unix(listener, file))
            }
        }
    }

    /// Where it listens, with the real port.
    pub(super) fn place(&self) -> Listen {
        match self {
            // A bound socket has an address.
            Listener::Tcp(listener) => Listen::Tcp(listener.local_addr().unwrap_or(crate::config::LISTEN_DEFAULT)),
            Listener::Unix(_, file) => Listen::Unix(file.0.clone()),
        }
    }

    /// The next connection, and who it is.
    pub(super) async fn accept(&self) -> io::Result<(Stream, String)> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                let _ = stream.set_nodelay(true);
                Ok((Stream::Tcp(stream), peer.to_string()))
            }
            Listener::Unix(listener, _) => Ok((Stream::Unix(listener.accept().await?.0), "unix".to_owned())),
        }
    }
}

/// A socket that nobody serves any more is in the way of the next one.
fn remove_stale(path: &Path) -> io::Result<()> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    if is_socket && std::os::unix::net::UnixStream::connect(path).is_err() {
        std::fs::remove_file(path)?;
    }
    Ok(())
}

/// Takes a socket out of the file system.
pub(super) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
