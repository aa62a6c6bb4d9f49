//! A running action: its timeout, requests to stop it, and the disk it writes to.

use std::fs;
use std::time::{Duration, Instant};

use cache::execution::{Fault, Stop};
use rustix::event::{PollFd, PollFlags, Timespec};
use sandbox::{Child, Exit};

use crate::room::Room;

/// How often requests to stop, clock and disk are looked at. The end of the action itself is noticed at once.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// With less disk left, actions are stopped: the store needs room for what it is told.
const DISK_RESERVE: u64 = 512 << 20;
/// Bytes of one output stream.
const STREAM_BYTES_MAX: u64 = 64 << 20;

/// How an action ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// By itself.
    Exited(Exit),
    /// It was killed at its timeout.
    TimedOut,
    /// It was killed because nobody waits for it any more.
    Stopped,
    /// It was killed because it used too much, of this.
    Over(String),
}

/// Waits for the end of the whole tree.
///
/// # Errors
/// The kernel refuses to wait.
pub(crate) fn supervise(child: &mut Child, timeout: Duration, stop: &Stop, room: &Room) -> Result<End, Fault> {
    let broken = |error: std::io::Error| Fault::Broken(format!("cannot wait for the action: {error}"));
    let until = Instant::now() + timeout;
    let mut cause = None;
    let exit = loop {
        let patience = LOOK_EVERY.min(until.saturating_duration_since(Instant::now()));
        poll(child, if cause.is_some() { LOOK_EVERY } else { patience }).map_err(broken)?;
        if let Some((exit, _)) = child.try_wait().map_err(broken)? {
            break exit;
        }
        if cause.is_none() {
            cause = why_kill(until, stop, room);
        }
        if cause.is_some() {
            child.kill();
        }
    };
    // It may have ended by itself before it could be stopped, but not have obeyed its bounds.
    Ok(cause.or_else(|| too_much(room)).unwrap_or(End::Exited(exit)))
}

fn poll(child: &Child, patience: Duration) -> std::io::Result<()> {
    let pidfd = child.pidfd();
    let timeout = Timespec::try_from(patience).ok();
    match rustix::event::poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], timeout.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

fn why_kill(until: Instant, stop: &Stop, room: &Room) -> Option<End> {
    if stop.is_wanted() {
        return Some(End::Stopped);
    }
    if Instant::now() >= until {
        return Some(End::TimedOut);
    }
    let disk = rustix::fs::statvfs(room.upper()).ok();
    if disk.is_some_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) < DISK_RESERVE) {
        let why =
            format!("less than {} MiB of disk are left on the server; the action was stopped", DISK_RESERVE >> 20);
        return Some(End::Over(why));
    }
    too_much(room)
}

fn too_much(room: &Room) -> Option<End> {
    let sizes = [room.stdout(), room.stderr()].map(|path| fs::symlink_metadata(path).map_or(0, |meta| meta.len()));
    let over = sizes.iter().any(|size| *size > STREAM_BYTES_MAX);
    over.then(|| {
        End::Over(format!("the action printed more than {} MiB; write to a file instead", STREAM_BYTES_MAX >> 20))
    })
}
