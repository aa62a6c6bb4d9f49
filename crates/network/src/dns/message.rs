//! Messages of the domain name system (RFC 1035), as little of them as answering one question needs.

use std::net::Ipv4Addr;

/// A question is a few dozen bytes; with all the options that resolvers add it stays below this.
pub(crate) const MESSAGE_BYTES_MAX: usize = 1232;
const HEAD_BYTES: usize = 12;
/// Seconds that an answer may be kept. The address holds as long as the step runs.
const TTL: u32 = 300;
const TYPE_A: u16 = 1;
const CLASS_IN: u16 = 1;

/// A question that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    /// Asked for, in lower case, without a dot at the end. Empty is the root.
    pub(crate) name: String,
    /// Whether an IPv4 address is asked for.
    pub(crate) address: bool,
    id: [u8; 2],
    recursion: bool,
    /// The question's own bytes, which an answer repeats.
    wire: Vec<u8>,
}

/// What a question is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The name has this address.
    Address(Ipv4Addr),
    /// The name is there, but has nothing of the kind asked for.
    Nothing,
    /// There is no such name.
    NoSuchName,
    /// It cannot be said now.
    Failed,
}

/// Reads a question. `None` for what is none: too short, an answer, several questions, a compressed or endless name.
pub(crate) fn read(message: &[u8]) -> Option<Question> {
    let head = message.get(..HEAD_BYTES)?;
    let is_query = head[2] & 0b1111_1000 == 0;
    if !is_query || head[4..6] != [0, 1] || message.len() > MESSAGE_BYTES_MAX {
        return None;
    }
    let (name, end) = read_name(message, HEAD_BYTES)?;
    let kind = message.get(end..end + 4)?;
    let asks = |at: usize, value: u16| kind[at..at + 2] == value.to_be_bytes();
    Some(Question {
        name,
        address: asks(0, TYPE_A) && asks(2, CLASS_IN),
        id: [head[0], head[1]],
        recursion: head[2] & 1 == 1,
        wire: message[HEAD_BYTES..end + 4].to_vec(),
    })
}

fn read_name(message: &[u8], mut at: usize) -> Option<(String, usize)> {
    let mut name = String::new();
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        if length == 0 {
            return Some((name, at));
        }
        // 64 and above is a pointer: a question has nothing before it to point to.
        let label = message.get(at..at + length).filter(|_| length < 64)?;
        if !name.is_empty() {
            name.push('.');
        }
        // What no host's name has becomes a character that no rule fits, and shows up as such among the refusals.
        name.extend(label.iter().map(|&b| {
            let plain = b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
            if plain { char::from(b.to_ascii_lowercase()) } else { '?' }
        }));
        at += length;
        if name.len() > model::host::HOST_NAME_BYTES_MAX {
            return None;
        }
    }
}

/// The bytes of an answer.
pub(crate) fn write(question: &Question, answer: Answer) -> Vec<u8> {
    let code = match answer {
        Answer::Address(_) | Answer::Nothing => 0,
        Answer::Failed => 2,
        Answer::NoSuchName => 3,
    };
    let mut out = Vec::with_capacity(HEAD_BYTES + question.wire.len() + 16);
    out.extend(question.id);
    out.extend([0b1000_0000 | u8::from(question.recursion), 0b1000_0000 | code]);
    out.extend([0, 1, 0, u8::from(matches!(answer, Answer::Address(_))), 0, 0, 0, 0]);
    out.extend(&question.wire);
    if let Answer::Address(address) = answer {
        out.extend([0xc0, HEAD_BYTES as u8]); // the name is the question's
        out.extend(TYPE_A.to_be_bytes());
        out.extend(CLASS_IN.to_be_bytes());
        out.extend(TTL.to_be_bytes());
        out.extend([0, 4]);
        out.extend(address.octets());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn question(name: &str, kind: u8) -> Vec<u8> {
        let mut message = vec![7, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            message.push(label.len() as u8);
            message.extend(label.bytes());
        }
        message.extend([0, 0, kind, 0, 1]);
        message
    }

    #[test]
    fn a_question_is_read_and_answered() {
        let asked = read(&question("Git.Example.com", 1)).expect("a question");
        assert_eq!((asked.name.as_str(), asked.address), ("git.example.com", true));
        let bytes = write(&asked, Answer::Address(Ipv4Addr::new(198, 18, 0, 2)));
        assert_eq!(bytes[..12], [7, 9, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
        assert_eq!(bytes[bytes.len() - 16..], [0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 44, 0, 4, 198, 18, 0, 2]);
    }

    #[test]
    fn other_kinds_and_names_that_are_not_there_have_no_answer() {
        let asked = read(&question("example.com", 28)).expect("a question");
        assert!(!asked.address);
        assert_eq!(write(&asked, Answer::Nothing)[2..8], [0x81, 0x80, 0, 1, 0, 0]);
        assert_eq!(write(&asked, Answer::NoSuchName)[3], 0x83);
        assert_eq!(write(&asked, Answer::Failed)[3], 0x82);
    }

    #[test]
    fn what_is_no_question_is_not_read() {
        let good = question("example.com", 1);
        for cut in 0..good.len() {
            assert_eq!(read(&good[..cut]), None, "cut at {cut}");
        }
        let changed = |at: usize, to: u8| {
            read(&good.iter().enumerate().map(|(n, &b)| if n == at { to } else { b }).collect::<Vec<_>>())
        };
        assert_eq!(changed(2, 0x81), None, "an answer");
        assert_eq!(changed(5, 2), None, "two questions");
        assert_eq!(changed(12, 0xc0), None, "a pointer");
        let endless = question(&["x".repeat(60).as_str(); 5].join("."), 1);
        assert_eq!(read(&endless), None, "a name of 304 bytes");
        assert_eq!(read(&[good, vec![0; MESSAGE_BYTES_MAX]].concat()), None, "too long");
    }

    #[test]
    fn bytes_that_no_name_has_do_not_reach_a_terminal() {
        let asked = read(&question("a\u{1b}[2Jb.com", 1)).expect("a question");
        assert_eq!(asked.name, "a??2jb.com");
    }

    #[test]
    fn no_bytes_at_all_crash_it() {
        let mut seed = 7u64;
        for _ in 0..20_000 {
            let mut bytes = question("a.example.com", 1);
            for _ in 0..4 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let at = (seed >> 33) as usize % bytes.len();
                bytes[at] = (seed >> 24) as u8;
            }
            if let Some(question) = read(&bytes) {
                assert!(write(&question, Answer::Nothing).len() <= MESSAGE_BYTES_MAX);
            }
        }
    }
}
