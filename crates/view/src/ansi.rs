//! Text on its way to a terminal: made harmless, coloured, measured and cut.
//!
//! What a step prints is a stranger's text. Only colours (SGR sequences) may pass; everything that moves the cursor,
//! sets a title, clears the screen, asks the terminal a question or turns the reading direction is taken out or made
//! visible.

use std::fmt::Write;

use unicode_width::UnicodeWidthChar;

/// What the terminal can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// SGR sequences may be written.
    pub color: bool,
    /// Characters outside ASCII may be used for symbols and lines.
    pub unicode: bool,
}

impl Style {
    /// No colours, ASCII symbols: what every terminal and every file can hold.
    pub const PLAIN: Style = Style { color: false, unicode: false };

    pub(crate) fn paint(self, paint: Paint, text: &str) -> String {
        if self.color { format!("\x1b[{}m{text}\x1b[0m", paint.code()) } else { text.to_owned() }
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.paint(Paint::Dim, text)
    }

    /// `fancy` where it can be shown, `ascii` elsewhere.
    pub(crate) fn pick(self, fancy: &'static str, ascii: &'static str) -> &'static str {
        if self.unicode { fancy } else { ascii }
    }

    /// Between the parts of a line.
    pub(crate) fn dot(self) -> &'static str {
        self.pick(" · ", ", ")
    }

    /// Stands for what was cut: one column.
    pub(crate) fn ellipsis(self) -> &'static str {
        self.pick("…", ">")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Paint {
    Bold,
    Dim,
    Red,
    Green,
    Yellow,
    Blue,
}

impl Paint {
    fn code(self) -> u8 {
        match self {
            Paint::Bold => 1,
            Paint::Dim => 2,
            Paint::Red => 31,
            Paint::Green => 32,
            Paint::Yellow => 33,
            Paint::Blue => 34,
        }
    }
}

/// One line made harmless: colours stay if the style has colours (and are switched off at the end), other sequences
/// go, control characters become visible (`^G`, `<202e>`). Tabs stay.
pub fn clean(text: &str, style: Style) -> String {
    let mut out = String::with_capacity(text.len());
    let mut painted = false;
    for piece in pieces(text.strip_suffix('\r').unwrap_or(text)) {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Color(sequence) if style.color => {
                painted = true;
                out.push_str(sequence);
            }
            Piece::Color(_) | Piece::Sequence => {}
            Piece::Control('\t') => out.push('\t'),
            Piece::Control(control) => push_visible(&mut out, control),
        }
    }
    if painted {
        out.push_str("\x1b[0m");
    }
    out
}

/// One line made harmless, without colours.
pub fn strip(text: &str) -> String {
    clean(text, Style::PLAIN)
}

/// Several lines, each made harmless without colours; the line breaks stay.
pub fn strip_lines(text: &str) -> String {
    text.split('\n').map(strip).collect::<Vec<_>>().join("\n")
}

/// Columns that the text takes on a terminal, at most. Colours take none.
pub fn width(text: &str) -> usize {
    pieces(text)
        .map(|piece| match piece {
            Piece::Text(text) => text.chars().map(char_width).sum(),
            Piece::Color(_) | Piece::Sequence => 0,
            Piece::Control(_) => 1,
        })
        .sum()
}

/// The line cut to `columns`, ending in an ellipsis if something is missing, with tabs and control characters as
/// single spaces and colours switched off at the end.
pub fn fit(text: &str, columns: usize, style: Style) -> String {
    let room = if width(text) <= columns { columns } else { columns.saturating_sub(1) };
    let mut cut =
        Cut { out: String::with_capacity(text.len().min(columns * 4)), used: 0, room, marks: 0, painted: false };
    for piece in pieces(text) {
        let whole = match piece {
            Piece::Text(text) => text.chars().all(|c| cut.push(c)),
            Piece::Color(sequence) => cut.paint(sequence),
            Piece::Sequence => true,
            Piece::Control(_) => cut.push(' '),
        };
        if !whole {
            break;
        }
    }
    if room < columns {
        cut.out.push_str(style.ellipsis());
    }
    if cut.painted && !cut.out.ends_with("\x1b[0m") {
        cut.out.push_str("\x1b[0m");
    }
    cut.out
}

/// The text with spaces after it up to `columns`.
pub(crate) fn pad(text: &str, columns: usize) -> String {
    format!("{text}{:1$}", "", columns.saturating_sub(width(text)))
}

/// The longest beginning of `text` that has at most `bytes` bytes.
pub(crate) fn head(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

/// Accents on one letter that are kept when a line is cut: more than any script needs.
const MARKS_MAX: usize = 8;

struct Cut {
    out: String,
    used: usize,
    room: usize,
    marks: usize,
    painted: bool,
}

impl Cut {
    /// `false`: it did not fit any more.
    fn push(&mut self, c: char) -> bool {
        let width = char_width(c);
        if self.used + width > self.room {
            return false;
        }
        self.marks = if width == 0 { self.marks + 1 } else { 0 };
        if self.marks <= MARKS_MAX {
            self.out.push(c);
        }
        self.used += width;
        true
    }

    fn paint(&mut self, sequence: &str) -> bool {
        self.painted = true;
        self.out.push_str(sequence);
        true
    }
}

fn char_width(c: char) -> usize {
    // The emoji selector widens the character before it; counted here, a line is never wider than we say.
    if c == '\u{fe0f}' { 1 } else { c.width().unwrap_or(1) }
}

pub(crate) enum Piece<'a> {
    /// Printable.
    Text(&'a str),
    /// An SGR sequence.
    Color(&'a str),
    /// Any other sequence.
    Sequence,
    /// A character that does something instead of being something.
    Control(char),
}

pub(crate) fn pieces(text: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = text;
    core::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let (piece, length) = match first {
            '\x1b' => escape(rest),
            c if is_control(c) => (Piece::Control(c), c.len_utf8()),
            _ => {
                let end = rest.find(is_control).unwrap_or(rest.len());
                (Piece::Text(&rest[..end]), end)
            }
        };
        rest = &rest[length..];
        Some(piece)
    })
}

/// C0, C1 and DEL; line and paragraph separators; whatever turns the reading direction.
fn is_control(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{061c}')
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

pub(crate) fn push_visible(out: &mut String, c: char) {
    // Writing to a String cannot fail.
    let _ = match c as u32 {
        code @ 0..32 => write!(out, "^{}", char::from(code as u8 + b'@')),
        0x7f => write!(out, "^?"),
        code => write!(out, "<{code:04x}>"),
    };
}

/// Colours of one sequence, in bytes; longer ones are no colours.
const COLOR_BYTES_MAX: usize = 64;

/// The sequence that begins `text` (with ESC) and its length, by ECMA-48.
fn escape(text: &str) -> (Piece<'_>, usize) {
    let bytes = text.as_bytes();
    match bytes.get(1) {
        Some(b'[') => control_sequence(text),
        Some(b']' | b'P' | b'X' | b'^' | b'_') => (Piece::Sequence, string_length(bytes)),
        Some(b' '..=b'/') => {
            let middle = bytes[1..].iter().take_while(|b| (b' '..=b'/').contains(b)).count();
            let last = matches!(bytes.get(1 + middle), Some(b'0'..=b'~'));
            (Piece::Sequence, 1 + middle + usize::from(last))
        }
        Some(b'0'..=b'~') => (Piece::Sequence, 2),
        _ => (Piece::Sequence, 1),
    }
}

fn control_sequence(text: &str) -> (Piece<'_>, usize) {
    let body = &text.as_bytes()[2..];
    let params = body.iter().take_while(|b| (b'0'..=b'?').contains(b)).count();
    let middle = body[params..].iter().take_while(|b| (b' '..=b'/').contains(b)).count();
    let end = 2 + params + middle;
    match body.get(params + middle) {
        // `ESC[>4m` and `ESC[?4m` end in `m` too, and are keyboard settings.
        Some(b'm') if middle == 0 && end < COLOR_BYTES_MAX && body[..params].iter().all(|b| *b <= b';') => {
            (Piece::Color(&text[..=end]), end + 1)
        }
        Some(b'@'..=b'~') => (Piece::Sequence, end + 1),
        _ => (Piece::Sequence, end),
    }
}

/// Titles, links, device strings: to BEL or `ESC \`. One that never ends loses its first two bytes only, so that
/// a step cannot hide the rest of a line.
fn string_length(bytes: &[u8]) -> usize {
    match bytes[2..].iter().position(|b| *b < b' ').map(|at| at + 2) {
        Some(at) if bytes[at] == 0x07 => at + 1,
        Some(at) if bytes[at] == 0x1b && bytes.get(at + 1) == Some(&b'\\') => at + 2,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLOR: Style = Style { color: true, unicode: true };

    #[test]
    fn colours_pass_and_are_switched_off_at_the_end() {
        assert_eq!(clean("\x1b[1;31merror\x1b[0m: x", COLOR), "\x1b[1;31merror\x1b[0m: x\x1b[0m");
        assert_eq!(clean("\x1b[38:2:1:2:3mx", COLOR), "\x1b[38:2:1:2:3mx\x1b[0m");
        assert_eq!(strip("\x1b[1;31merror\x1b[0m: x"), "error: x");
    }

    #[test]
    fn output_cannot_move_the_cursor_set_a_title_or_ask_the_terminal() {
        for hostile in [
            "\x1b[2J",
            "\x1b[1;1H",
            "\x1b[1A",
            "\x1b]0;owned\x07",
            "\x1b]2;owned\x1b\\",
            "\x1bP+q544e\x1b\\",
            "\x1b[6n",
            "\x1b[?1049h",
            "\x1bc",
            "\x1b(0",
            "\x1b[>4;1m",
            "\x1b[!p",
            "\x1b7",
            "\x1b",
            "\x1b[",
            "\x1b[31",
            "\x1b_x\x1b\\",
        ] {
            assert_eq!(clean(&format!("a{hostile}"), COLOR), "a", "{hostile:?}");
        }
        assert_eq!(strip("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\"), "link");
    }

    #[test]
    fn control_characters_become_visible() {
        assert_eq!(strip("a\x07b\x08c\x7fd\u{9b}2Je\u{202e}f\ng\0"), "a^Gb^Hc^?d<009b>2Je<202e>f^Jg^@");
        assert_eq!(strip("a\tb\r"), "a\tb");
    }

    #[test]
    fn an_unfinished_title_cannot_hide_the_rest_of_the_line() {
        assert_eq!(strip("ok\x1b]0;error: real"), "ok0;error: real");
    }

    #[test]
    fn a_line_of_unfinished_sequences_takes_linear_time() {
        let line = "\x1b]".repeat(500_000);
        assert_eq!(strip(&line), "");
        assert_eq!(strip(&"\x1b[".repeat(500_000)), "");
    }

    #[test]
    fn lines_are_cut_by_columns_not_by_bytes() {
        assert_eq!(fit("日本語のテスト", 7, COLOR), "日本語…");
        assert_eq!(fit("日本語", 6, COLOR), "日本語");
        assert_eq!(fit("\x1b[31mabcdef\x1b[0m", 4, COLOR), "\x1b[31mabc…\x1b[0m");
        assert_eq!(fit("abcdef", 4, Style::PLAIN), "abc>");
        assert_eq!(fit("abc", 0, Style::PLAIN), "");
        assert_eq!(fit("a\u{301}\u{301}", 1, COLOR).len(), 5);
        assert!(fit(&format!("a{}", "\u{301}".repeat(10_000)), 9, COLOR).len() < 40);
    }

    proptest::proptest! {
        #[test]
        fn nothing_that_is_cut_is_wider_than_asked(text in "\\PC*|(\x1b|\\[|m|a|\u{fe0f}|❤|日|\x07|;|1)*", columns in 0usize..30) {
            use unicode_width::UnicodeWidthStr;
            let cut = fit(&clean(&text, COLOR), columns, COLOR);
            proptest::prop_assert!(width(&cut) <= columns);
            proptest::prop_assert!(strip(&cut).width() <= columns);
        }

        #[test]
        fn only_colours_are_left_of_any_text(text in "(\x1b|\\[|\\]|m|H|a|\x07|\\\\|\u{9b}|P|;|1|\\?| )*") {
            let shown = clean(&text, COLOR);
            let rest = shown.split('\x1b').skip(1).all(|s| {
                s.strip_prefix('[').and_then(|s| s.split_once('m')).is_some_and(|(p, _)| p.bytes().all(|b| b.is_ascii_digit() || b == b';'))
            });
            proptest::prop_assert!(rest, "{shown:?}");
            proptest::prop_assert!(!shown.contains(['\u{9b}', '\x07']), "{shown:?}");
        }
    }
}
