//! A terminal of its own for a shell in a sandbox, relayed to the user's.
//!
//! The sandbox never gets the user's terminal itself: whoever holds it could push keystrokes into the shell that
//! started `pace` (TIOCSTI), and it could not become the controlling terminal of a second session anyway.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

/// How often the size of the window is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The two ends of a new terminal.
pub struct Relay {
    ours: OwnedFd,
    /// For the sandbox: standard input, output and error.
    pub theirs: OwnedFd,
}

/// The user's terminal passes keys on as they are; dropped, it is as it was.
struct Raw(Termios);

impl Raw {
    fn new() -> std::io::Result<Raw> {
        let before = tcgetattr(std::io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(std::io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Raw(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs no repair.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0);
    }
}

impl Relay {
    /// Opens a terminal of the size of the user's.
    pub fn open() -> std::io::Result<Relay> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let ours = openpt(flags)?;
        grantpt(&ours)?;
        unlockpt(&ours)?;
        let theirs = ioctl_tiocgptpeer(&ours, flags)?;
        tcsetwinsize(&ours, tcgetwinsize(std::io::stdin())?)?;
        Ok(Relay { ours, theirs })
    }

    /// Passes bytes both ways until the shell has closed its end, or `ended` says that it is gone.
    pub fn run(self, mut ended: impl FnMut() -> bool) -> std::io::Result<()> {
        let Relay { ours, theirs } = self;
        drop(theirs);
        let _raw = Raw::new()?;
        let mut ours = File::from(ours);
        let mut buffer = [0u8; 16 << 10];
        let mut keys_end = false;
        loop {
            let (keys, output) = ready(&ours, keys_end)?;
            if keys {
                let read = std::io::stdin().lock().read(&mut buffer)?;
                keys_end = read == 0;
                ours.write_all(&buffer[..read])?;
            }
            if output {
                // The kernel says EIO when nobody has the other end open any more.
                match ours.read(&mut buffer) {
                    Ok(0) | Err(_) => return Ok(()),
                    Ok(read) => {
                        let mut out = std::io::stdout().lock();
                        out.write_all(&buffer[..read])?;
                        out.flush()?;
                    }
                }
            } else if ended() {
                return Ok(());
            }
            follow_size(&ours);
        }
    }
}

/// Whether there are keys to pass in, and output to pass out.
fn ready(ours: &File, keys_end: bool) -> std::io::Result<(bool, bool)> {
    let stdin = std::io::stdin();
    let wanted = if keys_end { PollFlags::empty() } else { PollFlags::IN };
    let mut fds =
        [PollFd::from_borrowed_fd(stdin.as_fd(), wanted), PollFd::from_borrowed_fd(ours.as_fd(), PollFlags::IN)];
    let wait = Timespec { tv_sec: 0, tv_nsec: LOOK_EVERY.subsec_nanos().into() };
    match poll(&mut fds, Some(&wait)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let some = |fd: &PollFd<'_>| fd.revents().intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR);
    Ok((!keys_end && some(&fds[0]), some(&fds[1])))
}

fn follow_size(ours: &File) {
    let (Ok(wanted), Ok(has)) = (tcgetwinsize(std::io::stdin()), tcgetwinsize(ours)) else { return };
    if (wanted.ws_row, wanted.ws_col) != (has.ws_row, has.ws_col) {
        // A size that is not passed on makes lines wrap badly, no more.
        let _ = tcsetwinsize(ours, wanted);
    }
}
