//! From a place in a scalar's decoded text back to the bytes of the file it came from.

use std::ops::Range;

use model::Span;

/// How a scalar is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// `text`.
    Plain,
    /// `'text'`.
    Single,
    /// `"text"`.
    Double,
    /// `|`.
    Literal,
    /// `>`.
    Folded,
}

/// Maps byte offsets of a scalar's decoded text to spans of the file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SpanMap {
    whole: Span,
    pieces: Vec<Piece>,
}

/// A stretch of decoded text and the stretch of the file it came from. Of equal length: byte for byte.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Piece {
    text: (u32, u32),
    file: (u32, u32),
}

impl SpanMap {
    /// A map that knows only the whole.
    pub(crate) fn whole_only(whole: Span) -> Self {
        SpanMap { whole, pieces: Vec::new() }
    }

    /// A map for text that stands in the file byte for byte.
    pub(crate) fn exact(whole: Span) -> Self {
        let length = whole.end.saturating_sub(whole.start);
        SpanMap { whole, pieces: vec![Piece { text: (0, length), file: (whole.start, whole.end) }] }
    }

    /// The map of a scalar that stands at `whole` of `file_text` (quotes and block header included) and decodes to
    /// `text`. Where the walk does not arrive at `text`, the rest maps to the whole scalar: never to a wrong place.
    pub(crate) fn of_scalar(file_text: &str, whole: Span, style: Style, text: &str) -> Self {
        let Some(source) = file_text.get(whole.start as usize..whole.end as usize) else {
            return Self::whole_only(whole);
        };
        if source == text {
            return Self::exact(whole);
        }
        let mut walk = Walk { source, text, s: 0, t: 0, base: whole.start, pieces: Vec::new() };
        match style {
            Style::Plain => walk.flow(style, source.len()),
            Style::Single | Style::Double => {
                walk.s = 1;
                walk.flow(style, source.len().saturating_sub(1));
            }
            Style::Literal | Style::Folded => {
                // The parser's span begins behind the first line's indent, and behind blank lines before it.
                let start = block_start(file_text, whole.start as usize, text);
                walk.source = &file_text[start..whole.end as usize];
                walk.base = start as u32;
                walk.block(style);
            }
        }
        SpanMap { whole, pieces: walk.pieces }
    }

    /// The span of a range of the decoded text.
    pub(crate) fn span(&self, range: Range<usize>) -> Span {
        let last = range.end.saturating_sub(1).max(range.start);
        match (self.place(range.start), self.place(last)) {
            (Some((start, _)), Some((last_start, last_end))) => {
                let end = if range.is_empty() { last_start } else { last_end };
                Span { file: self.whole.file, start, end: end.max(start) }
            }
            _ if !self.pieces.is_empty() && range.start >= self.text_end() => self.end(),
            _ => self.whole,
        }
    }

    /// The map of the text that begins at `offset` of this one's.
    pub(crate) fn from(&self, offset: usize) -> Self {
        let cut = u32::try_from(offset).unwrap_or(u32::MAX);
        let pieces = self.pieces.iter().filter(|piece| piece.text.1 > cut).map(|piece| {
            let one_to_one = piece.text.1 - piece.text.0 == piece.file.1 - piece.file.0;
            let inside = cut.saturating_sub(piece.text.0);
            let file_start = if one_to_one { piece.file.0 + inside } else { piece.file.0 };
            Piece { text: (piece.text.0.saturating_sub(cut), piece.text.1 - cut), file: (file_start, piece.file.1) }
        });
        SpanMap { whole: self.whole, pieces: pieces.collect() }
    }

    /// The empty span behind the last mapped byte: where something is missing at the end.
    fn end(&self) -> Span {
        let at = self.pieces.last().map_or(self.whole.end, |piece| piece.file.1);
        Span { file: self.whole.file, start: at, end: at }
    }

    fn text_end(&self) -> usize {
        self.pieces.last().map_or(0, |piece| piece.text.1 as usize)
    }

    /// The bytes of the file that one byte of the text came from.
    fn place(&self, offset: usize) -> Option<(u32, u32)> {
        let offset = u32::try_from(offset).ok()?;
        let after = self.pieces.partition_point(|piece| piece.text.0 <= offset);
        let piece = self.pieces.get(after.checked_sub(1)?)?;
        if offset >= piece.text.1 {
            return None;
        }
        if piece.text.1 - piece.text.0 == piece.file.1 - piece.file.0 {
            let at = piece.file.0 + (offset - piece.text.0);
            return Some((at, at + 1));
        }
        Some(piece.file)
    }
}

/// Two positions, in the file's bytes and in the decoded text, that move together.
struct Walk<'a> {
    source: &'a str,
    text: &'a str,
    s: usize,
    t: usize,
    base: u32,
    pieces: Vec<Piece>,
}

impl Walk<'_> {
    /// Takes `source` bytes of the file for `text` bytes of the text, if the text has that many.
    fn take(&mut self, source: usize, text: usize) -> bool {
        if self.t + text > self.text.len() || self.s + source > self.source.len() {
            return false;
        }
        if text > 0 {
            let one_to_one = source == text;
            let (t, s) = (self.t as u32, self.base + self.s as u32);
            let piece = Piece { text: (t, t + text as u32), file: (s, s + source as u32) };
            match self.pieces.last_mut() {
                Some(last) if one_to_one && last.joins(&piece) => {
                    last.text.1 = piece.text.1;
                    last.file.1 = piece.file.1;
                }
                _ => self.pieces.push(piece),
            }
        }
        self.s += source;
        self.t += text;
        true
    }

    /// Plain and quoted scalars: escapes, and line folding.
    fn flow(&mut self, style: Style, end: usize) {
        while self.s < end {
            let rest = &self.source[self.s..end];
            let fold = fold_length(rest);
            let went_on = if fold > 0 {
                let breaks = line_breaks(&rest[..fold]);
                self.take(fold, if breaks == 1 { 1 } else { breaks - 1 })
            } else if style == Style::Double && rest.starts_with('\\') {
                let (source, text) = escape_lengths(rest);
                self.take(source, text)
            } else if style == Style::Single && rest.starts_with("''") {
                self.take(2, 1)
            } else {
                self.same_char()
            };
            if !went_on {
                return;
            }
        }
    }

    /// Literal and folded scalars: lines with a common indent.
    fn block(&mut self, style: Style) {
        let indent = block_indent(self.source, self.text);
        self.skip_indent(indent);
        while self.s < self.source.len() && self.t < self.text.len() {
            let break_length = break_length(&self.source[self.s..]);
            let went_on = if break_length == 0 {
                self.same_char()
            } else if style == Style::Literal {
                let went_on = self.take(break_length, 1);
                self.skip_indent(indent);
                went_on
            } else {
                self.folded_break(indent)
            };
            if !went_on {
                return;
            }
        }
    }

    /// A run of line breaks of a folded scalar: one space, or some of the breaks.
    fn folded_break(&mut self, indent: usize) -> bool {
        let from = self.s;
        let mut to = from;
        loop {
            let length = break_length(&self.source[to..]);
            if length == 0 {
                break;
            }
            to += length;
            to += self.source[to..].bytes().take(indent).take_while(|byte| *byte == b' ').count();
        }
        let rest = &self.text[self.t..];
        let text = if rest.starts_with(' ') { 1 } else { rest.bytes().take_while(|byte| *byte == b'\n').count() };
        self.take(to - from, text)
    }

    fn skip_indent(&mut self, indent: usize) {
        self.s += self.source[self.s..].bytes().take(indent).take_while(|byte| *byte == b' ').count();
    }

    /// One character that stands in both.
    fn same_char(&mut self) -> bool {
        match (self.source[self.s..].chars().next(), self.text[self.t..].chars().next()) {
            (Some(a), Some(b)) if a == b => self.take(a.len_utf8(), a.len_utf8()),
            _ => false,
        }
    }
}

impl Piece {
    fn joins(&self, next: &Piece) -> bool {
        self.text.1 - self.text.0 == self.file.1 - self.file.0
            && self.text.1 == next.text.0
            && self.file.1 == next.file.0
    }
}

/// Length of a line break at the start.
fn break_length(text: &str) -> usize {
    match text.as_bytes() {
        [b'\r', b'\n', ..] => 2,
        [b'\n' | b'\r', ..] => 1,
        _ => 0,
    }
}

/// Length of the white space at the start, if there is a line break in it.
fn fold_length(text: &str) -> usize {
    let length = text.bytes().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n')).count();
    if line_breaks(&text[..length]) > 0 { length } else { 0 }
}

fn line_breaks(text: &str) -> usize {
    text.bytes().filter(|byte| *byte == b'\n').count()
}

/// The start of a block scalar's first line, given a place on its first filled line.
fn block_start(file_text: &str, from: usize, text: &str) -> usize {
    let blank = text.bytes().take_while(|byte| *byte == b'\n').count();
    let mut start = file_text[..from].rfind('\n').map_or(0, |at| at + 1);
    for _ in 0..blank {
        start = file_text[..start.saturating_sub(1)].rfind('\n').map_or(0, |at| at + 1);
    }
    start
}

/// The indent of a block scalar: of its first line with something on it, less the spaces the text begins with there.
fn block_indent(body: &str, text: &str) -> usize {
    let spaces = |line: &str| line.bytes().take_while(|byte| *byte == b' ').count();
    let filled = |line: &&str| !line.trim_end_matches('\r').trim_matches(' ').is_empty();
    let in_file = body.lines().find(filled).map_or(0, spaces);
    let in_text = text.lines().find(filled).map_or(0, spaces);
    in_file.saturating_sub(in_text)
}

/// Bytes in the file and in the text of the escape sequence of a double-quoted scalar at the start.
fn escape_lengths(rest: &str) -> (usize, usize) {
    let hex = |digits: usize| {
        let code = rest.get(2..2 + digits).and_then(|hex| u32::from_str_radix(hex, 16).ok());
        (2 + digits, code.and_then(char::from_u32).map_or(1, char::len_utf8))
    };
    match rest.as_bytes().get(1) {
        Some(b'x') => hex(2),
        Some(b'u') => hex(4),
        Some(b'U') => hex(8),
        Some(b'N' | b'_') => (2, 2),
        Some(b'L' | b'P') => (2, 3),
        // A line continuation: the break and the next line's indent are nothing.
        Some(b'\r' | b'\n') => {
            let breaks = break_length(&rest[1..]);
            let indent = rest[1 + breaks..].bytes().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
            (1 + breaks + indent, 0)
        }
        _ => (2, 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(file: &str, style: Style, text: &str, part: &str) -> String {
        let header =
            if matches!(style, Style::Literal | Style::Folded) { file.find('\n').expect("header") + 1 } else { 0 };
        let first = header + file[header..].len() - file[header..].trim_start().len();
        let whole = Span { file: 0, start: if header > 0 { first as u32 } else { 0 }, end: file.len() as u32 };
        let map = SpanMap::of_scalar(file, whole, style, text);
        let at = text.find(part).expect("part is in the text");
        let span = map.span(at..at + part.len());
        file[span.start as usize..span.end as usize].to_string()
    }

    #[test]
    fn every_style_maps_back_to_the_written_bytes() {
        assert_eq!(shown("a b c", Style::Plain, "a b c", "b"), "b");
        assert_eq!(shown("a\n   b\n\n  c", Style::Plain, "a b\nc", "c"), "c");
        assert_eq!(shown("'it''s ${{ x }}'", Style::Single, "it's ${{ x }}", "x"), "x");
        assert_eq!(shown(r#""a\tb\u00e9\x41 x""#, Style::Double, "a\tb\u{e9}A x", "x"), "x");
        assert_eq!(shown(r#""a\tb""#, Style::Double, "a\tb", "\t"), r"\t");
        assert_eq!(shown("\"a\\\n   b c\"", Style::Double, "ab c", "b c"), "b c");
        assert_eq!(
            shown("|\n    one\n      two\n    three\n", Style::Literal, "one\n  two\nthree\n", "three"),
            "three"
        );
        assert_eq!(shown("|-\r\n  one\r\n  two", Style::Literal, "one\ntwo", "two"), "two");
        assert_eq!(shown(">\n  one\n  two\n\n  three\n", Style::Folded, "one two\nthree\n", "two"), "two");
        assert_eq!(shown(">\n  one\n  two\n\n  three\n", Style::Folded, "one two\nthree\n", "three"), "three");
        assert_eq!(shown("|\n\n  a\n  b\n", Style::Literal, "\na\nb\n", "b"), "b");
        assert_eq!(shown(">\n  one\n    deep\n  three\n", Style::Folded, "one\n  deep\nthree\n", "three"), "three");
    }

    #[test]
    fn what_cannot_be_mapped_is_the_whole() {
        assert_eq!(shown("\"ab\"", Style::Double, "xyz", "z"), "\"ab\"");
    }
}
