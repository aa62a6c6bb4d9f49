//! The name server inside of a step: allowed names have an address, other names do not exist.

mod message;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use model::host::host_name;
use rustix::event::PollFlags;

use crate::gate::Inner;
use crate::lookup::NoAddress;
use crate::policy::{LOOPBACK, NOT_LISTED, is_localhost};

pub(crate) use message::{Answer, MESSAGE_BYTES_MAX, Question, read, write};

/// Between two questions on one connection.
const IDLE_MAX: Duration = Duration::from_secs(10);
/// Questions on one connection.
const QUESTIONS_MAX: usize = 1000;

/// What can be answered without asking anybody; `None` when the host has to be asked.
pub(crate) fn at_once(inner: &Inner, question: &Question) -> Option<Answer> {
    let name = question.name.as_str();
    if is_localhost(name) {
        return Some(if question.address { Answer::Address(LOOPBACK) } else { Answer::Nothing });
    }
    // Names of addresses: ours have none, and a program that asks for them out of habit has done nothing to be listed.
    if host_name(name).is_none() || name == "arpa" || name.ends_with(".arpa") {
        return Some(Answer::NoSuchName);
    }
    if !inner.policy.knows(name) {
        inner.refused_name(name, question.address, NOT_LISTED);
        return Some(Answer::NoSuchName);
    }
    if !question.address {
        return Some(Answer::Nothing);
    }
    inner.lookup.remembered(name).map(|found| answer(inner, name, found.map(|_| ())))
}

/// Asks the host whether there is such a name: a program is told the truth when it asks, not when it connects.
pub(crate) fn after_lookup(inner: &Inner, question: &Question) -> Answer {
    answer(inner, &question.name, inner.lookup.addresses(&question.name, &inner.stop).map(|_| ()))
}

fn answer(inner: &Inner, name: &str, found: Result<(), NoAddress>) -> Answer {
    match found {
        Ok(()) => match inner.names().address(name) {
            Some(address) => Answer::Address(address),
            None => {
                inner.refused_name(name, true, "the step has asked for too many names");
                Answer::Failed
            }
        },
        Err(NoAddress::NoSuchName) => Answer::NoSuchName,
        Err(NoAddress::Failed(_) | NoAddress::Stopped) => Answer::Failed,
    }
}

/// Answers one question that came by UDP and needs a look-up.
pub(crate) fn answer_later(inner: &Inner, socket: &UdpSocket, question: &Question, from: SocketAddr) {
    let _ = socket.send_to(&write(question, after_lookup(inner, question)), from);
}

/// Answers the questions of one connection.
pub(crate) fn serve_connection(inner: &Inner, mut stream: TcpStream) {
    for _ in 0..QUESTIONS_MAX {
        let Some(bytes) = read_framed(inner, &mut stream) else { return };
        let Some(question) = read(&bytes) else { return };
        let answer = at_once(inner, &question).unwrap_or_else(|| after_lookup(inner, &question));
        let bytes = write(&question, answer);
        // A few hundred bytes fit into an empty socket's buffer; whoever does not read them loses the connection.
        let framed = [&(bytes.len() as u16).to_be_bytes()[..], &bytes].concat();
        if stream.write(&framed).is_ok_and(|written| written < framed.len()) {
            return;
        }
    }
}

fn read_framed(inner: &Inner, stream: &mut TcpStream) -> Option<Vec<u8>> {
    let length = read_exactly(inner, stream, 2)?;
    let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
    (length <= MESSAGE_BYTES_MAX).then(|| read_exactly(inner, stream, length))?
}

fn read_exactly(inner: &Inner, stream: &mut TcpStream, bytes: usize) -> Option<Vec<u8>> {
    let mut buffer = vec![0; bytes];
    let mut filled = 0;
    while filled < bytes {
        if !inner.stop.ready(&*stream, PollFlags::IN, IDLE_MAX).ok()? {
            return None;
        }
        match stream.read(&mut buffer[filled..]) {
            Ok(0) => return None,
            Ok(more) => filled += more,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return None,
        }
    }
    Some(buffer)
}
