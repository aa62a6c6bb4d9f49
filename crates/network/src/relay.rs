//! Bytes from one connection to another, both ways, until both ways have ended.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;

use crate::bucket::{Bucket, Grant};
use crate::server_name::FIRST_BYTES_MAX;
use crate::stop::{Stop, Want};

/// More does not make it faster: 64 KiB are 0.3 ms of a 2 Gbit/s line.
const BUFFER_BYTES: usize = 64 << 10;
/// A connection where nothing moves. Databases and queues keep theirs open for long, a step rarely for an hour.
const IDLE_MAX: Duration = Duration::from_secs(3600);

/// What is said about the first bytes that a step sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// They may pass, and all that follow.
    Pass,
    /// They are too few to say.
    More,
    /// The connection ends.
    Refuse,
}

/// Judges the first bytes that a step sends: all of them so far.
pub(crate) type Check<'c> = &'c dyn Fn(&[u8]) -> Said;

/// How a relay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Both sides said that they are done, and all bytes arrived.
    Done,
    /// One side broke off, or nothing moved for [`IDLE_MAX`], or the gate closes: both sides are reset, so that nobody
    /// takes half an answer for a whole one.
    Broken,
    /// The first bytes were refused.
    Refused,
}

/// One connection of a step and its counterpart outside. Neither blocks.
pub(crate) struct Relay<'g> {
    /// Inside.
    pub(crate) step: &'g TcpStream,
    /// Outside.
    pub(crate) host: &'g TcpStream,
    /// Ends it.
    pub(crate) stop: &'g Stop,
    /// Holds it back.
    pub(crate) bucket: Option<&'g Mutex<Bucket>>,
}

/// What went over a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moved {
    /// Bytes to the host.
    pub(crate) sent: u64,
    /// Bytes to the step.
    pub(crate) received: u64,
    /// How it ended.
    pub(crate) ended: Ended,
}

impl Relay<'_> {
    /// Relays: `first` to the host before anything else, and what the step sends only after `check` has said so. What
    /// the host sends is not held: it may speak first.
    pub(crate) fn run(&self, first: Vec<u8>, check: Option<Check<'_>>) -> Moved {
        let mut up = Way::new(self.step, self.host, first, check);
        let mut down = Way::new(self.host, self.step, Vec::new(), None);
        let ended = loop {
            if up.refused {
                break Ended::Refused;
            }
            if up.done && down.done {
                break Ended::Done;
            }
            if !self.wait_and_move(&mut up, &mut down) {
                break Ended::Broken;
            }
        };
        if ended != Ended::Done {
            reset(self.host);
        }
        if ended == Ended::Broken {
            reset(self.step);
        }
        Moved { sent: up.moved, received: down.moved, ended }
    }

    fn wait_and_move(&self, up: &mut Way<'_>, down: &mut Way<'_>) -> bool {
        let now = Instant::now();
        let mut wants: Vec<Want<'_>> = Vec::with_capacity(4);
        let places = [&*up, &*down].map(|way| {
            let mut place = |fd, flags| {
                wants.push((fd, flags));
                wants.len() - 1
            };
            let read = way.wants_read(now).then(|| place(way.from.as_fd(), PollFlags::IN));
            let write = way.wants_write().then(|| place(way.to.as_fd(), PollFlags::OUT));
            (read, write)
        });
        let held = [up.held_until, down.held_until].into_iter().flatten().filter(|until| *until > now).min();
        let timeout = held.map_or(IDLE_MAX, |until| until - now);
        let Ok(ready) = self.stop.wait(&wants, Some(timeout)) else { return false };
        // Nothing in an hour, and nothing was held back.
        if held.is_none() && now.elapsed() >= IDLE_MAX {
            return false;
        }
        let is_ready = |place: Option<usize>| place.is_some_and(|place| ready[place]);
        let [(up_read, up_write), (down_read, down_write)] = places;
        up.go(is_ready(up_read), is_ready(up_write), self.bucket).is_ok()
            && down.go(is_ready(down_read), is_ready(down_write), self.bucket).is_ok()
    }
}

/// Closing it will tell the other side that something broke.
pub(crate) fn reset(stream: &TcpStream) {
    let _ = rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO));
}

/// One direction.
struct Way<'s> {
    from: &'s TcpStream,
    to: &'s TcpStream,
    check: Option<Check<'s>>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    held_until: Option<Instant>,
    moved: u64,
    /// `from` has said that it is done.
    ended: bool,
    /// ... and `to` knows.
    done: bool,
    refused: bool,
}

/// A side broke off.
struct Broken;

impl<'s> Way<'s> {
    fn new(from: &'s TcpStream, to: &'s TcpStream, first: Vec<u8>, check: Option<Check<'s>>) -> Way<'s> {
        let end = first.len();
        let mut buffer = first;
        buffer.resize(BUFFER_BYTES.max(end), 0);
        Way {
            from,
            to,
            check,
            buffer,
            start: 0,
            end,
            held_until: None,
            moved: 0,
            ended: false,
            done: false,
            refused: false,
        }
    }

    fn wants_read(&self, now: Instant) -> bool {
        let room = if self.check.is_some() { self.end < FIRST_BYTES_MAX } else { self.start == self.end };
        room && !self.ended && self.held_until.is_none_or(|until| until <= now)
    }

    fn wants_write(&self) -> bool {
        self.check.is_none() && self.start < self.end
    }

    fn go(&mut self, readable: bool, writable: bool, bucket: Option<&Mutex<Bucket>>) -> Result<(), Broken> {
        if readable {
            self.read(bucket)?;
        }
        if let Some(check) = self.check {
            match check(&self.buffer[..self.end]) {
                Said::More if !self.ended && self.end < FIRST_BYTES_MAX => return Ok(()),
                Said::Refuse => {
                    self.refused = true;
                    return Ok(());
                }
                Said::More | Said::Pass => self.check = None,
            }
        }
        if readable || writable {
            self.write()?;
        }
        if self.ended && self.start == self.end && !self.done {
            let _ = self.to.shutdown(Shutdown::Write);
            self.done = true;
        }
        Ok(())
    }

    fn read(&mut self, bucket: Option<&Mutex<Bucket>>) -> Result<(), Broken> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        let mut room = self.buffer.len() - self.end;
        let lock = |bucket: &'_ Mutex<Bucket>| {
            bucket.lock().unwrap_or_else(PoisonError::into_inner).take(room, Instant::now())
        };
        match bucket.map(lock) {
            Some(Grant::After(wait)) => {
                self.held_until = Some(Instant::now() + wait.min(IDLE_MAX));
                return Ok(());
            }
            Some(Grant::Now(granted)) => room = granted,
            None => {}
        }
        self.held_until = None;
        let (mut from, mut got) = (self.from, 0);
        let result = match from.read(&mut self.buffer[self.end..self.end + room]) {
            Ok(0) => {
                self.ended = true;
                Ok(())
            }
            Ok(bytes) => {
                got = bytes;
                self.end += bytes;
                Ok(())
            }
            Err(error) if is_passing(error.kind()) => Ok(()),
            Err(_) => Err(Broken),
        };
        if let Some(bucket) = bucket {
            bucket.lock().unwrap_or_else(PoisonError::into_inner).give_back(room - got);
        }
        result
    }

    fn write(&mut self) -> Result<(), Broken> {
        let mut to = self.to;
        while self.start < self.end {
            match to.write(&self.buffer[self.start..self.end]) {
                Ok(0) => return Err(Broken),
                Ok(bytes) => {
                    self.start += bytes;
                    self.moved += bytes as u64;
                }
                Err(error) if is_passing(error.kind()) => return Ok(()),
                Err(_) => return Err(Broken),
            }
        }
        Ok(())
    }
}

fn is_passing(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let one = TcpStream::connect(listener.local_addr().expect("bound")).expect("a listener");
        (one, listener.accept().expect("a connection").0)
    }

    /// Runs a relay between two connections, and these on the far ends of it.
    fn scene(
        rate: Option<u64>,
        check: Option<fn(&[u8]) -> Said>,
        program: impl FnOnce(TcpStream) + Send,
        server: impl FnOnce(TcpStream) + Send,
    ) -> Moved {
        let ((far_step, step), (host, far_host)) = (pair(), pair());
        step.set_nonblocking(true).expect("a socket");
        host.set_nonblocking(true).expect("a socket");
        let (_stopper, stop) = Stop::new().expect("a pipe");
        let bucket = rate.map(|rate| Mutex::new(Bucket::new(rate, Instant::now())));
        thread::scope(|scope| {
            scope.spawn(move || program(far_step));
            scope.spawn(move || server(far_host));
            let moved = Relay { step: &step, host: &host, stop: &stop, bucket: bucket.as_ref() }
                .run(Vec::new(), check.as_ref().map(|check| check as Check<'_>));
            drop((step, host));
            moved
        })
    }

    fn all_of(mut stream: &TcpStream) -> Vec<u8> {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("an end");
        bytes
    }

    fn some(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|n| (n * 7 % 251) as u8).collect()
    }

    #[test]
    fn nothing_is_lost_when_one_side_closes_early_and_the_other_talks_on() {
        let moved = scene(
            None,
            None,
            |mut stream| {
                stream.write_all(b"question").expect("open");
                stream.shutdown(Shutdown::Write).expect("open");
                assert_eq!(all_of(&stream), some(3_000_000));
            },
            |mut stream| {
                assert_eq!(all_of(&stream), b"question");
                stream.write_all(&some(3_000_000)).expect("open");
            },
        );
        assert_eq!(moved, Moved { sent: 8, received: 3_000_000, ended: Ended::Done });
    }

    #[test]
    fn both_ways_at_once_do_not_wait_for_each_other() {
        let talk = |mut stream: TcpStream| {
            let mut writer = stream.try_clone().expect("a descriptor");
            let writing = thread::spawn(move || {
                writer.write_all(&some(4_000_000)).expect("open");
                writer.shutdown(Shutdown::Write).expect("open");
            });
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).expect("an end");
            assert!(bytes == some(4_000_000));
            writing.join().expect("written");
        };
        assert_eq!(scene(None, None, talk, talk), Moved { sent: 4_000_000, received: 4_000_000, ended: Ended::Done });
    }

    #[test]
    fn a_server_that_breaks_off_is_not_taken_for_one_that_is_done() {
        let moved = scene(
            None,
            None,
            |mut stream| {
                let mut bytes = Vec::new();
                assert!(stream.read_to_end(&mut bytes).is_err());
            },
            |mut stream| {
                stream.write_all(b"half").expect("open");
                thread::sleep(Duration::from_millis(50)); // the reset must not overtake the bytes
                reset(&stream);
            },
        );
        assert_eq!(moved.ended, Ended::Broken);
    }

    #[test]
    fn what_is_refused_never_reaches_the_server() {
        let moved = scene(
            None,
            Some(|first: &[u8]| if first.len() < 6 { Said::More } else { Said::Refuse }),
            |mut stream| {
                let mut greeting = [0; 5];
                stream.read_exact(&mut greeting).expect("the server speaks first");
                stream.write_all(b"secret").expect("open");
            },
            |mut stream| {
                stream.write_all(b"hello").expect("open");
                let mut bytes = Vec::new();
                let _ = stream.read_to_end(&mut bytes);
                assert_eq!(bytes, b"");
            },
        );
        assert_eq!((moved.sent, moved.ended), (0, Ended::Refused));
    }

    #[test]
    fn bytes_that_say_too_little_pass_at_their_end() {
        let moved = scene(
            None,
            Some(|_: &[u8]| Said::More),
            |mut stream| {
                stream.write_all(b"GE").expect("open");
                stream.shutdown(Shutdown::Write).expect("open");
                assert_eq!(all_of(&stream), b"");
            },
            |stream| assert_eq!(all_of(&stream), b"GE"),
        );
        assert_eq!(moved, Moved { sent: 2, received: 0, ended: Ended::Done });
    }

    #[test]
    fn a_rate_holds_back_and_loses_nothing() {
        let begun = Instant::now();
        let moved = scene(
            Some(1_000_000),
            None,
            |stream| {
                stream.shutdown(Shutdown::Write).expect("open");
                assert!(all_of(&stream) == some(400_000));
            },
            |mut stream| stream.write_all(&some(400_000)).expect("open"),
        );
        assert_eq!(moved.received, 400_000);
        // 100,000 pass at once. A busy machine can only make it slower.
        assert!(begun.elapsed() >= Duration::from_millis(290), "{:?}", begun.elapsed());
    }

    #[test]
    fn a_gate_that_closes_ends_it() {
        let ((_far_step, step), (host, _far_host)) = (pair(), pair());
        let (stopper, stop) = Stop::new().expect("a pipe");
        drop(stopper);
        let relay = Relay { step: &step, host: &host, stop: &stop, bucket: None };
        assert_eq!(relay.run(Vec::new(), None).ended, Ended::Broken);
    }
}
