//! Messages to the kernel over netlink, written by hand: we send a dozen, and the libraries for it are large.

use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

const NLMSG_ERROR: u16 = 2;
pub(crate) const REQUEST: u16 = 0x1;
pub(crate) const ACK: u16 = 0x4;
pub(crate) const EXCL: u16 = 0x200;
pub(crate) const CREATE: u16 = 0x400;
pub(crate) const APPEND: u16 = 0x800;
const NESTED: u16 = 0x8000;
const HEAD_BYTES: usize = 16;

/// One message: `nlmsghdr`, the head of its family, attributes.
#[derive(Clone, Debug)]
pub(crate) struct Message(Vec<u8>);

impl Message {
    /// A message with its family's head, which is padded.
    pub(crate) fn new(kind: u16, flags: u16, head: &[u8]) -> Message {
        let mut bytes = vec![0; HEAD_BYTES];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(REQUEST | flags).to_ne_bytes());
        let mut message = Message(bytes);
        message.padded(head);
        message
    }

    /// Attributes without a message around them, for [`Message::join`].
    pub(crate) fn part() -> Message {
        Message(Vec::new())
    }

    /// Adds the attributes of a part.
    pub(crate) fn join(mut self, part: Message) -> Message {
        self.0.extend(part.0);
        self
    }

    /// Adds bytes that are no attribute.
    pub(crate) fn raw(mut self, bytes: &[u8]) -> Message {
        self.padded(bytes);
        self
    }

    /// Adds an attribute.
    pub(crate) fn with(mut self, kind: u16, value: &[u8]) -> Message {
        self.attribute(kind, value);
        self
    }

    /// Adds an attribute that is made of attributes.
    pub(crate) fn nest(mut self, kind: u16, inner: impl FnOnce(Message) -> Message) -> Message {
        let start = self.0.len();
        self.attribute(kind | NESTED, &[]);
        let mut filled = inner(self);
        let length = filled.0.len() - start;
        filled.0[start..start + 2].copy_from_slice(&short(length).to_ne_bytes());
        filled
    }

    /// Adds an attribute that is a text with a zero at its end.
    pub(crate) fn text(self, kind: u16, text: &str) -> Message {
        self.with(kind, &[text.as_bytes(), &[0]].concat())
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.0.extend(short(4 + value.len()).to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.padded(value);
    }

    fn padded(&mut self, bytes: &[u8]) {
        self.0.extend(bytes);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }
}

/// Our messages have a few hundred bytes.
fn short(length: usize) -> u16 {
    u16::try_from(length).unwrap_or(u16::MAX)
}

/// Sends these in one go and waits for the kernel's word on all that ask for it ([`ACK`]).
///
/// # Errors
/// The kernel's first objection.
pub(crate) fn tell(socket: BorrowedFd<'_>, messages: Vec<Message>) -> Result<(), Errno> {
    let mut waiting = 0;
    let mut bytes = Vec::new();
    for (message, number) in messages.into_iter().zip(1u32..) {
        let mut message = message.0;
        let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
        message[..4].copy_from_slice(&length.to_ne_bytes());
        message[8..12].copy_from_slice(&number.to_ne_bytes());
        waiting += usize::from(message[6] & (ACK as u8) != 0);
        bytes.extend(message);
    }
    send(socket, &bytes, SendFlags::empty())?;
    while waiting > 0 {
        // The kernel has answered before it came back from `send`: what is not there will not come.
        let mut answer = [0; 16 << 10];
        let (filled, _) = recv(socket, &mut answer[..], RecvFlags::DONTWAIT)?;
        waiting = waiting.saturating_sub(acknowledged(&answer[..filled])?);
    }
    Ok(())
}

/// Sends a question and returns the kernel's one answer, without its head.
///
/// # Errors
/// The kernel's objection, or an answer that is too short to be one.
pub(crate) fn ask(socket: BorrowedFd<'_>, question: Message) -> Result<Vec<u8>, Errno> {
    let mut message = question.0;
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    message[..4].copy_from_slice(&length.to_ne_bytes());
    send(socket, &message, SendFlags::empty())?;
    let mut answer = vec![0; 16 << 10];
    let (filled, _) = recv(socket, &mut answer[..], RecvFlags::DONTWAIT)?;
    answer.truncate(filled);
    if answer.get(4..6) == Some(&NLMSG_ERROR.to_ne_bytes()) {
        acknowledged(&answer)?;
    }
    answer.get(HEAD_BYTES..).map(<[u8]>::to_vec).ok_or(Errno::PROTO)
}

/// The value of the first attribute of this kind, behind a head of so many bytes.
pub(crate) fn attribute(answer: &[u8], head: usize, wanted: u16) -> Option<&[u8]> {
    let mut rest = answer.get(head..)?;
    while let [a, b, c, d, ..] = *rest {
        let (length, kind) = (usize::from(u16::from_ne_bytes([a, b])), u16::from_ne_bytes([c, d]));
        let value = rest.get(4..length)?;
        if kind == wanted {
            return Some(value);
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
    None
}

/// How many acknowledgements these bytes hold.
fn acknowledged(mut bytes: &[u8]) -> Result<usize, Errno> {
    let mut count = 0;
    while bytes.len() >= HEAD_BYTES + 4 {
        let length = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize;
        if u16::from_ne_bytes([bytes[4], bytes[5]]) == NLMSG_ERROR {
            match i32::from_ne_bytes([bytes[16], bytes[17], bytes[18], bytes[19]]) {
                0 => count += 1,
                code => return Err(Errno::from_raw_os_error(code.saturating_neg())),
            }
        }
        bytes = bytes.get(length.max(HEAD_BYTES).next_multiple_of(4)..).unwrap_or_default();
    }
    if count == 0 { Err(Errno::PROTO) } else { Ok(count) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_nested() {
        let message = Message::new(20, ACK, &[2, 0, 0, 0]).text(1, "ab").nest(4, |m| m.with(1, &[9]));
        assert_eq!(message.0[4..8], [20, 0, 5, 0]);
        assert_eq!(message.0[16..], [2, 0, 0, 0, 7, 0, 1, 0, b'a', b'b', 0, 0, 12, 0, 4, 0x80, 5, 0, 1, 0, 9, 0, 0, 0]);
    }

    #[test]
    fn the_kernels_word_is_understood() {
        let word = |code: i32| {
            [&36u32.to_ne_bytes()[..], &[2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0], &code.to_ne_bytes(), &[0; 16]].concat()
        };
        assert_eq!(acknowledged(&[word(0), word(0)].concat()), Ok(2));
        assert_eq!(acknowledged(&[word(0), word(-17)].concat()), Err(Errno::EXIST));
        assert_eq!(acknowledged(&[0; 40]), Err(Errno::PROTO));
        assert_eq!(acknowledged(&[]), Err(Errno::PROTO));
    }
}
