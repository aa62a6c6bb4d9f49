//! An attempt's log: bytes come in as the step writes them, masked whole lines go to the log file, to the reader of
//! reports, and the last ones into the result. Its memory does not grow with the output.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use model::limits::{LOG_BYTES_MAX, LOG_LINE_BYTES_MAX};
use model::{AttemptNo, AttemptSpec, Bytes, NodeIx, RunId, TAIL_LINES_MAX, Timestamp};

use crate::mask::{Masker, Stream};
use crate::report::Feed;

/// A line of the tail is for a person: the whole of it is in the log file.
const TAIL_LINE_BYTES_MAX: usize = 2048;
/// How far back from its end a cached log is read for its tail.
const REPLAY_BYTES_MAX: u64 = 128 << 10;

/// The clock, as logs and reports tell it.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

/// `<log_dir>/<node>-<attempt>.log`.
pub(crate) fn path(log_dir: &Path, spec: &AttemptSpec) -> PathBuf {
    log_dir.join(format!("{}-{}.log", spec.node.0, spec.attempt))
}

/// `<log_dir>/<node>-<attempt>.<service>.log`.
pub(crate) fn service_path(log_dir: &Path, spec: &AttemptSpec, service: &str) -> PathBuf {
    log_dir.join(format!("{}-{}.{service}.log", spec.node.0, spec.attempt))
}

/// As whom a log is heard while it is written.
#[derive(Clone, Debug)]
pub(crate) struct Voice {
    feed: Feed,
    run: RunId,
    node: NodeIx,
    attempt: AttemptNo,
}

impl Voice {
    pub(crate) fn of(spec: &AttemptSpec, feed: &Feed) -> Voice {
        Voice { feed: feed.clone(), run: spec.run.clone(), node: spec.node, attempt: spec.attempt }
    }

    /// A line that is heard and stands in no log.
    pub(crate) fn say(&self, text: String) {
        self.line(now(), text);
    }

    fn line(&self, at: Timestamp, text: String) {
        self.feed.line(&self.run, self.node, self.attempt, at, text);
    }
}

/// A log while it is written: an attempt's, or a service's that nobody hears.
#[derive(Debug)]
pub(crate) struct Log {
    voice: Option<Voice>,
    masker: Arc<Masker>,
    stream: Stream,
    masked: Vec<u8>,
    line: Vec<u8>,
    /// The last byte was `\r`: if no `\n` follows, what comes next is written over the line.
    returned: bool,
    file: Option<BufWriter<File>>,
    tail: VecDeque<String>,
    /// Lines that are heard once they stand in the file: whoever hears of one may read it there.
    unheard: Vec<(Timestamp, String)>,
    written: u64,
    dropped: u64,
    /// All that came in, kept or not.
    printed: u64,
    trouble: Option<String>,
}

/// What is left of a log when it ended.
#[derive(Debug, Default)]
pub(crate) struct Logged {
    pub(crate) tail: Vec<String>,
    pub(crate) bytes: u64,
    /// The file could not be written to its end.
    pub(crate) trouble: Option<String>,
}

impl Log {
    /// Makes the file; where that fails the attempt goes on and the result says that the log is missing.
    pub(crate) fn create(path: &Path, voice: Option<Voice>, masker: Arc<Masker>) -> Log {
        let made = path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| {
            // A log of the same name may be a link into the store: it is replaced, never written into.
            let _ = std::fs::remove_file(path);
            File::create_new(path)
        });
        let (file, trouble) = match made {
            Ok(file) => (Some(BufWriter::with_capacity(LOG_LINE_BYTES_MAX, file)), None),
            Err(error) => (None, Some(format!("the log {} cannot be made: {error}", path.display()))),
        };
        Log {
            voice,
            masker,
            stream: Stream::default(),
            masked: Vec::new(),
            line: Vec::new(),
            returned: false,
            file,
            tail: VecDeque::new(),
            unheard: Vec::new(),
            written: 0,
            dropped: 0,
            printed: 0,
            trouble,
        }
    }

    /// Bytes that came in.
    pub(crate) fn printed(&self) -> u64 {
        self.printed
    }

    /// Takes output in.
    pub(crate) fn output(&mut self, bytes: &[u8]) {
        self.printed = self.printed.saturating_add(bytes.len() as u64);
        let mut masked = std::mem::take(&mut self.masked);
        self.stream.push(&self.masker, bytes, &mut masked);
        self.lines(&masked);
        masked.clear();
        self.masked = masked;
        self.flush();
    }

    /// Writes what is left and closes the file.
    pub(crate) fn finish(mut self) -> Logged {
        let mut masked = std::mem::take(&mut self.masked);
        self.stream.finish(&self.masker, &mut masked);
        self.lines(&masked);
        if !self.line.is_empty() {
            self.end_line();
        }
        if self.dropped > 0 {
            let text =
                format!("… {} more were not kept: a log is at most {}", Bytes(self.dropped), Bytes(LOG_BYTES_MAX));
            self.keep(text);
        }
        self.flush();
        Logged { tail: self.tail.into(), bytes: self.written, trouble: self.trouble }
    }

    fn lines(&mut self, mut bytes: &[u8]) {
        while let Some(&first) = bytes.first() {
            if self.returned && first != b'\n' {
                self.line.clear();
            }
            self.returned = false;
            let room = LOG_LINE_BYTES_MAX - self.line.len();
            let reach = &bytes[..bytes.len().min(room)];
            match reach.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
                Some(at) => {
                    self.line.extend_from_slice(&bytes[..at]);
                    match bytes[at] {
                        b'\n' => self.end_line(),
                        _ => self.returned = true,
                    }
                    bytes = &bytes[at + 1..];
                }
                None => {
                    self.line.extend_from_slice(reach);
                    bytes = &bytes[reach.len()..];
                    if self.line.len() == LOG_LINE_BYTES_MAX {
                        self.cut_line();
                    }
                }
            }
        }
    }

    /// Ends a line that is too long before a character that is not whole yet.
    fn cut_line(&mut self) {
        let whole = match std::str::from_utf8(&self.line) {
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            _ => self.line.len(),
        };
        let rest = self.line.split_off(whole);
        self.end_line();
        self.line = rest;
    }

    fn end_line(&mut self) {
        let text = String::from_utf8_lossy(&self.line).into_owned();
        self.line.clear();
        if self.written + text.len() as u64 > LOG_BYTES_MAX || self.dropped > 0 {
            self.dropped += text.len() as u64 + 1;
        } else {
            self.keep(text);
        }
    }

    fn keep(&mut self, text: String) {
        let at = now();
        self.written += text.len() as u64 + 1;
        if let Some(Err(error)) = self.file.as_mut().map(|file| writeln!(file, "{} {text}", at.0 / 1000)) {
            self.give_up(&error);
        }
        push_tail(&mut self.tail, &text);
        if self.voice.is_some() {
            self.unheard.push((at, text));
        }
    }

    fn flush(&mut self) {
        if let Some(Err(error)) = self.file.as_mut().map(Write::flush) {
            self.give_up(&error);
        }
        if let Some(voice) = &self.voice {
            self.unheard.drain(..).for_each(|(at, text)| voice.line(at, text));
        }
    }

    fn give_up(&mut self, error: &io::Error) {
        self.file = None;
        self.trouble = Some(format!("the log is not complete: {error}"));
    }
}

fn push_tail(tail: &mut VecDeque<String>, text: &str) {
    if tail.len() == TAIL_LINES_MAX {
        tail.pop_front();
    }
    let mut end = text.len().min(TAIL_LINE_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    tail.push_back(if end < text.len() { format!("{}…", &text[..end]) } else { text.to_string() });
}

/// Reads the last lines of a finished log file and reports them as if they had just been written.
pub(crate) fn replay(file: &Path, spec: &AttemptSpec, feed: &Feed) -> io::Result<Logged> {
    let mut file = File::open(file)?;
    let length = file.metadata()?.len();
    let from = length.saturating_sub(REPLAY_BYTES_MAX);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(REPLAY_BYTES_MAX).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().skip(usize::from(from > 0)).collect();
    let at = now();
    let mut tail = VecDeque::new();
    for line in &lines[lines.len().saturating_sub(TAIL_LINES_MAX)..] {
        let text = line.split_once(' ').map_or(*line, |(_, text)| text);
        push_tail(&mut tail, text);
        feed.line(&spec.run, spec.node, spec.attempt, at, text.to_string());
    }
    Ok(Logged { tail: tail.into(), bytes: length, trouble: None })
}
