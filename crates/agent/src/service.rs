//! Services of a step: started before it in its network, asked whether they are ready, and ended with it.

use std::io::{self, PipeReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use model::{Cause, Probe, ServiceSpec};
use sandbox::{Child, Exit, Net, Spec};

use crate::halt::{Halt, trouble};
use crate::log::{Log, Logged};
use crate::supervise::Stopper;

/// Time between two questions whether a service is ready.
const ASK_EVERY: Duration = Duration::from_millis(50);
/// How long one answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// How long a service may take to end when its step has ended.
const STOP_WITHIN: Duration = Duration::from_secs(5);
/// Bytes of an answer by HTTP that are read: the status line.
const STATUS_BYTES_MAX: usize = 256;
/// Lines of a service's log that an error shows.
const LINES_SHOWN: usize = 10;

/// A service that was started. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Service {
    id: String,
    child: Child,
    log: Option<JoinHandle<Logged>>,
}

impl Service {
    /// Starts it; what it prints goes to `log`.
    ///
    /// # Errors
    /// It cannot be executed, or the sandbox cannot be made.
    pub(crate) fn start(id: &str, mut spec: Spec, mut log: Log) -> Result<Service, Halt> {
        let (mut reader, writer) = io::pipe().map_err(|error| trouble(&format!("cannot make a pipe: {error}")))?;
        let errors = writer.try_clone().map_err(|error| trouble(&format!("cannot copy a pipe: {error}")))?;
        (spec.stdout, spec.stderr) = (Some(OwnedFd::from(writer)), Some(OwnedFd::from(errors)));
        let child =
            spec.spawn().map_err(|error| Cause::Service(format!("service `{id}` cannot be started: {error}")))?;
        let thread = std::thread::Builder::new().name(format!("service {id}")).spawn(move || {
            copy(&mut reader, &mut log);
            log.finish()
        });
        let log = Some(thread.map_err(|error| trouble(&format!("cannot start a thread: {error}")))?);
        Ok(Service { id: id.to_string(), child, log })
    }

    /// Waits until it answers.
    ///
    /// # Errors
    /// It ended, it did not answer within its deadline, or the step was stopped meanwhile.
    pub(crate) fn wait_ready(
        &mut self,
        spec: &ServiceSpec,
        net: &Net,
        stopper: &Stopper,
        try_command: impl Fn(&str) -> Result<Child, Halt>,
    ) -> Result<(), Halt> {
        let Some(ready) = &spec.ready else { return Ok(()) };
        let deadline = Instant::now() + ready.within;
        loop {
            if stopper.is_stopped() {
                return Err(Halt::Ends(model::AttemptEnd::Cancelled));
            }
            if let Some(exit) = self.ended()? {
                let said = self.last_words();
                return Err(Cause::Service(format!("service `{}` {exit} before it was ready{said}", self.id)).into());
            }
            let patience = ANSWER_WITHIN.min(deadline.saturating_duration_since(Instant::now()));
            let answers = match &ready.probe {
                _ if patience.is_zero() => false,
                Probe::Tcp(port) => connect(net, *port, patience).is_ok(),
                Probe::Http(place) => asks_http(net, place, patience).unwrap_or(false),
                Probe::Cmd(command) => succeeds(try_command(command)?, deadline, stopper)?,
            };
            if answers {
                return Ok(());
            }
            if Instant::now() >= deadline {
                self.child.kill();
                let (asked, within) = (shown(&ready.probe), model::units::show_duration(ready.within));
                let said = self.last_words();
                let why = format!("service `{}` did not answer {asked} within {within}{said}", self.id);
                return Err(Cause::Service(why).into());
            }
            std::thread::sleep(ASK_EVERY);
        }
    }

    fn ended(&mut self) -> Result<Option<String>, Halt> {
        let ended = self.child.try_wait().map_err(|error| trouble(&format!("lost sight of a service: {error}")))?;
        Ok(ended.map(|(exit, _)| match exit {
            Exit::Code(code) => format!("ended with exit code {code}"),
            Exit::Signal(signal) => format!("was ended by {}", model::attempt::signal_name(signal)),
        }))
    }

    /// The end of its log, for an error. Its processes must have ended, or been killed.
    fn last_words(&mut self) -> String {
        let tail = self.log.take().and_then(|thread| thread.join().ok()).map(|log| log.tail).unwrap_or_default();
        let lines = &tail[tail.len().saturating_sub(LINES_SHOWN)..];
        if lines.is_empty() { "; it printed nothing".into() } else { format!("; it printed:\n{}", lines.join("\n")) }
    }

    /// Asks it to end.
    pub(crate) fn terminate(&self) {
        self.child.terminate();
    }

    /// Ends it, with force when it does not end by itself in time. A note when it had ended before.
    pub(crate) fn stop(mut self, asked: Instant) -> Option<String> {
        let mut killed = false;
        while !matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
            if !killed && asked.elapsed() > STOP_WITHIN {
                self.child.kill();
                killed = true;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        self.log.take().and_then(|thread| thread.join().ok()).and_then(|log| log.trouble)
    }

    /// A sentence when it ended though its step still ran.
    pub(crate) fn early_end(&mut self) -> Option<String> {
        let exit = self.ended().ok().flatten()?;
        Some(format!("service `{}` {exit} while the step ran", self.id))
    }
}

fn copy(reader: &mut PipeReader, log: &mut Log) {
    let mut chunk = vec![0; 32 << 10];
    loop {
        match reader.read(&mut chunk) {
            Ok(0) => return,
            Ok(length) => log.output(&chunk[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

fn shown(probe: &Probe) -> String {
    match probe {
        Probe::Tcp(port) => format!("on TCP port {port}"),
        Probe::Http(place) => format!("`GET {place}` with 2xx"),
        Probe::Cmd(command) => format!("`{command}` with exit code 0"),
    }
}

fn connect(net: &Net, port: u16, patience: Duration) -> io::Result<std::net::TcpStream> {
    let socket = net.tcp_socket()?;
    rustix::net::sockopt::set_socket_timeout(&socket, rustix::net::sockopt::Timeout::Send, Some(patience))?;
    rustix::net::sockopt::set_socket_timeout(&socket, rustix::net::sockopt::Timeout::Recv, Some(patience))?;
    rustix::net::connect(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))?;
    Ok(std::net::TcpStream::from(socket))
}

/// `:port/path`.
fn asks_http(net: &Net, place: &str, patience: Duration) -> io::Result<bool> {
    let (port, path) = place.trim_start_matches(':').split_once('/').unwrap_or((place.trim_start_matches(':'), ""));
    let port = port.parse().map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut stream = connect(net, port, patience)?;
    write!(stream, "GET /{path} HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut status = Vec::new();
    stream.take(STATUS_BYTES_MAX as u64).read_to_end(&mut status).or_else(|error| {
        // What has come by then decides.
        if error.kind() == io::ErrorKind::WouldBlock { Ok(0) } else { Err(error) }
    })?;
    Ok(is_success(&status))
}

/// `HTTP/1.1 204 …`.
fn is_success(status: &[u8]) -> bool {
    let mut words = status.split(|byte| *byte == b' ');
    let version = words.next().unwrap_or_default();
    let code = words.next().unwrap_or_default();
    version.starts_with(b"HTTP/") && code.first() == Some(&b'2') && code.len() >= 3
}

fn succeeds(mut child: Child, deadline: Instant, stopper: &Stopper) -> Result<bool, Halt> {
    loop {
        match child.try_wait() {
            Ok(Some((exit, _))) => return Ok(exit == Exit::Code(0)),
            Ok(None) if Instant::now() < deadline && !stopper.is_stopped() => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Ok(None) => return Ok(false),
            Err(error) => return Err(trouble(&format!("lost sight of a service's check: {error}"))),
        }
    }
}

/// Ends all of them, together.
pub(crate) fn stop_all(mut services: Vec<Service>) -> Vec<String> {
    let early: Vec<String> = services.iter_mut().filter_map(Service::early_end).collect();
    let asked = Instant::now();
    services.iter().for_each(Service::terminate);
    early.into_iter().chain(services.into_iter().filter_map(|service| service.stop(asked))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_2xx_status_is_an_answer() {
        for (status, good) in [
            ("HTTP/1.1 200 OK\r\n", true),
            ("HTTP/1.0 204", true),
            ("HTTP/1.1 500 Oops", false),
            ("HTTP/1.1 2", false),
            ("SSH-2.0-x 200 ", false),
            ("", false),
        ] {
            assert_eq!(is_success(status.as_bytes()), good, "{status}");
        }
    }
}
