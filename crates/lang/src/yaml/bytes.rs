//! Bytes to text: what is not a text file is refused with one clear sentence.

use std::sync::Arc;

use model::Span;
use model::limits::FILE_BYTES_MAX;

use super::codes::{NOT_TEXT, NOT_UTF8, TOO_LARGE};
use crate::diagnostic::Diagnostic;
use crate::report::Sources;

/// Adds a file to the sources. `None`: it is not a text, and `out` says why.
pub(crate) fn text_of(sources: &mut Sources, path: &str, bytes: &[u8], out: &mut Vec<Diagnostic>) -> Option<u16> {
    let refused = |sources: &mut Sources| Span { file: sources.add(path, "".into()), start: 0, end: 0 };
    if bytes.len() > FILE_BYTES_MAX {
        let at = refused(sources);
        let message = format!("`{path}` has {} bytes; a pipeline file has at most {FILE_BYTES_MAX}", bytes.len());
        out.push(Diagnostic::error(&TOO_LARGE, at, message, "").help("move steps into files and `include` them"));
        return None;
    }
    if bytes.starts_with(&[0xFF, 0xFE]) || bytes.starts_with(&[0xFE, 0xFF]) {
        let at = refused(sources);
        let message = format!("`{path}` is UTF-16; a pipeline file is UTF-8");
        out.push(Diagnostic::error(&NOT_UTF8, at, message, "").help("save it as UTF-8"));
        return None;
    }
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    if let Some(at) = bytes.iter().position(|byte| is_binary(*byte)) {
        let span = shown_before(sources, path, bytes, at);
        let message = format!("`{path}` is not a text file: byte {at} is {:#04x}", bytes[at]);
        out.push(Diagnostic::error(&NOT_TEXT, span, message, "here").help("a pipeline file is YAML in UTF-8"));
        return None;
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Some(sources.add(path, Arc::from(text))),
        Err(error) => {
            let at = error.valid_up_to();
            let span = shown_before(sources, path, bytes, at);
            let message = format!("`{path}` is not UTF-8: byte {at} is {:#04x}", bytes[at]);
            out.push(Diagnostic::error(&NOT_UTF8, span, message, "here").help("save it as UTF-8"));
            None
        }
    }
}

/// Control characters that no text file has.
fn is_binary(byte: u8) -> bool {
    (byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r')) || byte == 0x7F
}

/// Adds what is readable up to the fault, so that the excerpt shows the line it is on.
fn shown_before(sources: &mut Sources, path: &str, bytes: &[u8], at: usize) -> Span {
    let readable = String::from_utf8_lossy(&bytes[..at]);
    let file = sources.add(path, Arc::from(format!("{readable}\u{FFFD}")));
    let at = readable.len() as u32;
    Span { file, start: at, end: at + 3 }
}
