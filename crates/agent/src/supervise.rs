//! A running command: its output is read, its timeouts and stop requests are held, and its process tree is gone at the
//! end.

use std::io::{self, PipeReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use model::limits::CANCEL_GRACE;
use model::{AttemptEnd, AttemptSpec, Cause, LimitHit};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};
use sandbox::cgroup::Group;
use sandbox::{Child, Exit, Usage};

use crate::limits::LimitWatch;
use crate::log::Log;
use crate::report::Feed;
use crate::run::lock;

/// One read; what a pipe holds.
const CHUNK_BYTES: usize = 64 << 10;
/// How soon to look again whether a slow reader of reports caught up.
const READER_NAP: Duration = Duration::from_millis(10);
/// What stands in a pipe when its last writer is gone; a writer that is not gone (without a sandbox) gets no more.
const DRAIN_BYTES_MAX: usize = 1 << 20;

const RUNNING: u8 = 0;
const STOP: u8 = 1;
const FORCE: u8 = 2;

/// The handle by which an attempt is stopped from another thread.
#[derive(Debug)]
pub(crate) struct Stopper {
    wanted: AtomicU8,
    /// Readable once a stop is wanted, so that the attempt's thread can wait for it and for output at once.
    event: OwnedFd,
    /// The group of the attempt while it runs, so that its limits can be changed.
    group: Mutex<Option<Arc<Group>>>,
}

impl Stopper {
    pub(crate) fn new() -> io::Result<Stopper> {
        let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Stopper { wanted: AtomicU8::new(RUNNING), event, group: Mutex::default() })
    }
    pub(crate) fn stop(&self, force: bool) {
        self.wanted.fetch_max(if force { FORCE } else { STOP }, Ordering::SeqCst);
        // It fails only when the counter is full, and then it is readable already.
        let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
    }
    pub(crate) fn is_stopped(&self) -> bool {
        self.wanted.load(Ordering::SeqCst) != RUNNING
    }
    pub(crate) fn hold(&self, group: Option<Arc<Group>>) {
        *lock(&self.group) = group;
    }
    /// Its group is about to go.
    pub(crate) fn release(&self) {
        self.hold(None);
    }
    pub(crate) fn group(&self) -> Option<Arc<Group>> {
        lock(&self.group).clone()
    }
    fn is_forced(&self) -> bool {
        self.wanted.load(Ordering::SeqCst) == FORCE
    }
    fn seen(&self) {
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.event, &mut count);
    }
}

/// Why a command was told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Cancelled,
    TimedOut,
    Idle,
    Over(LimitHit),
}

/// Reads all output and waits for the end of the whole tree.
///
/// # Errors
/// The kernel refuses to poll or to wait; the tree is killed then.
pub(crate) fn supervise(
    child: &mut Child,
    mut output: PipeReader,
    spec: &AttemptSpec,
    stopper: &Stopper,
    feed: &Feed,
    log: &mut Log,
    limits: &mut LimitWatch,
) -> io::Result<(AttemptEnd, Usage)> {
    rustix::io::ioctl_fionbio(&output, true)?;
    limits.follow(child.pid());
    let mut watch = Watch::new(spec);
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut open = true;
    let (exit, usage) = loop {
        let reading = open && feed.has_room();
        let nap = if open && !reading { READER_NAP } else { Duration::MAX };
        let now = Instant::now();
        let nap = nap.min(limits.due().saturating_duration_since(now));
        let ready = wait(child, stopper, reading.then_some(&output), watch.patience(now).min(nap))?;
        if open && !reading {
            // Waiting for our reader is not the step's silence.
            watch.heard(Instant::now());
        }
        if ready.output {
            match output.read(&mut chunk) {
                Ok(0) => open = false,
                Ok(length) => {
                    log.output(&chunk[..length]);
                    watch.heard(Instant::now());
                }
                Err(error) if is_passing(&error) => {}
                Err(error) => return Err(error),
            }
        }
        if ready.ended
            && let Some(end) = child.try_wait()?
        {
            break end;
        }
        if ready.stop {
            stopper.seen();
        }
        let now = Instant::now();
        if let Some(limit) = limits.look(log.printed(), now) {
            watch.over(limit);
        }
        watch.enforce(child, stopper, now);
    };
    drain(&mut output, &mut chunk, log)?;
    Ok((watch.verdict(exit, spec), usage))
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

fn drain(output: &mut PipeReader, chunk: &mut [u8], log: &mut Log) -> io::Result<()> {
    let mut drained = 0;
    while drained < DRAIN_BYTES_MAX {
        match output.read(chunk) {
            Ok(0) => break,
            Ok(length) => {
                drained += length;
                log.output(&chunk[..length]);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What a wait was ended by; none of it: by time.
struct Ready {
    ended: bool,
    stop: bool,
    output: bool,
}

fn wait(child: &Child, stopper: &Stopper, output: Option<&PipeReader>, patience: Duration) -> io::Result<Ready> {
    let pidfd = child.pidfd();
    let mut polled = vec![PollFd::new(&pidfd, PollFlags::IN), PollFd::new(&stopper.event, PollFlags::IN)];
    let as_fd = output.map(AsFd::as_fd);
    polled.extend(as_fd.as_ref().map(|fd| PollFd::new(fd, PollFlags::IN)));
    let timeout = Timespec::try_from(patience.min(Duration::from_secs(3600))).ok();
    match rustix::event::poll(&mut polled, timeout.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    let ready = |at: usize| polled.get(at).is_some_and(|fd| !fd.revents().is_empty());
    Ok(Ready { ended: ready(0), stop: ready(1), output: ready(2) })
}

/// The clocks of one attempt.
struct Watch {
    total_at: Instant,
    idle: Option<Duration>,
    heard: Instant,
    told: Option<Told>,
    kill_at: Option<Instant>,
    killed: bool,
}

impl Watch {
    fn new(spec: &AttemptSpec) -> Watch {
        let now = Instant::now();
        Watch {
            total_at: now + spec.timeout_total.min(model::limits::DURATION_MAX),
            idle: spec.timeout_idle,
            heard: now,
            told: None,
            kill_at: None,
            killed: false,
        }
    }

    fn heard(&mut self, now: Instant) {
        self.heard = now;
    }

    /// It went over a limit: it is not asked to end but killed, since every moment more is over it too.
    fn over(&mut self, limit: LimitHit) {
        if self.told.is_none() {
            self.told = Some(Told::Over(limit));
            self.kill_at = Some(self.heard);
        }
    }

    /// How long nothing needs to be done.
    fn patience(&self, now: Instant) -> Duration {
        if self.killed {
            return Duration::MAX;
        }
        let next = match (self.kill_at, self.told) {
            (Some(at), _) => at,
            (None, _) => self.idle.map_or(self.total_at, |idle| self.total_at.min(self.heard + idle)),
        };
        // A moment more, so that the deadline has passed for certain when the wait ends.
        next.saturating_duration_since(now) + Duration::from_millis(1)
    }

    fn enforce(&mut self, child: &Child, stopper: &Stopper, now: Instant) {
        if self.told.is_none() {
            self.told = self.reason(stopper, now);
            if self.told.is_some() {
                child.terminate();
                self.kill_at = Some(now + CANCEL_GRACE);
            }
        }
        let late = self.kill_at.is_some_and(|at| at <= now);
        if !self.killed && (late || stopper.is_forced()) {
            child.kill();
            self.killed = true;
        }
    }

    fn reason(&self, stopper: &Stopper, now: Instant) -> Option<Told> {
        if stopper.is_stopped() {
            Some(Told::Cancelled)
        } else if now >= self.total_at {
            Some(Told::TimedOut)
        } else if self.idle.is_some_and(|idle| now >= self.heard + idle) {
            Some(Told::Idle)
        } else {
            None
        }
    }

    fn verdict(&self, exit: Exit, spec: &AttemptSpec) -> AttemptEnd {
        match (self.told, exit) {
            (Some(Told::Cancelled), _) => AttemptEnd::Cancelled,
            (Some(Told::TimedOut), _) => AttemptEnd::Failed(Cause::TimedOut(spec.timeout_total)),
            (Some(Told::Over(limit)), _) => AttemptEnd::Failed(Cause::Limit(limit)),
            (Some(Told::Idle), _) => AttemptEnd::Failed(Cause::Idle(self.idle.unwrap_or_default())),
            (None, Exit::Code(0)) => AttemptEnd::Succeeded,
            (None, Exit::Code(code)) => AttemptEnd::Failed(Cause::Exit(code)),
            (None, Exit::Signal(signal)) => AttemptEnd::Failed(Cause::Signal(signal)),
        }
    }
}
