//! Lines of a log as HTML: number, time on demand, text with its colours.

use maud::{Markup, html};
use model::Timestamp;

use super::ansi_html;
use crate::json;

/// One line of a log as the store has it: `<unix milliseconds> <text>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Line<'a> {
    at: Option<Timestamp>,
    text: &'a str,
}

impl Line<'_> {
    /// A line that does not begin with a time is all text.
    fn read(line: &str) -> Line<'_> {
        let parted = line.split_once(' ').and_then(|(ms, text)| Some((ms.parse::<u64>().ok()?, text)));
        match parted {
            Some((ms, text)) => Line { at: Some(Timestamp(ms.saturating_mul(1000))), text },
            None => Line { at: None, text: line },
        }
    }
}

/// Each line of some bytes of a log, the first one with this number. No line's HTML has a line break in it, so that each
/// can be one line of an event stream.
pub fn lines(bytes: &[u8], first: u64) -> Vec<Markup> {
    let text = String::from_utf8_lossy(bytes);
    let text = text.strip_suffix('\n').unwrap_or(&text);
    if text.is_empty() && bytes.is_empty() {
        return Vec::new();
    }
    text.split('\n').zip(first..).map(|(text, number)| line(text, number)).collect()
}

fn line(text: &str, number: u64) -> Markup {
    let Line { at, text } = Line::read(text);
    html! {
        div .l id={ "L" (number) } {
            a .n href={ "#L" (number) } data-n=(number) aria-label={ "Line " (number) } {}
            @if let Some(at) = at { time { (clock(at)) } }
            span { (ansi_html::line(text)) }
        }
    }
}

/// `09:58:02.123`.
fn clock(at: Timestamp) -> String {
    json::iso(at).get(11..23).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_number_its_time_and_its_text() {
        let lines = lines(b"1795255082123 hello\n1795255083000 \n", 7);
        let html: Vec<String> = lines.into_iter().map(Markup::into_string).collect();
        assert_eq!(
            html,
            [
                "<div class=\"l\" id=\"L7\"><a class=\"n\" href=\"#L7\" data-n=\"7\" aria-label=\"Line 7\"></a>\
                 <time>09:58:02.123</time><span>hello</span></div>",
                "<div class=\"l\" id=\"L8\"><a class=\"n\" href=\"#L8\" data-n=\"8\" aria-label=\"Line 8\"></a>\
                 <time>09:58:03.000</time><span></span></div>",
            ]
        );
    }

    #[test]
    fn bytes_that_are_no_text_and_lines_without_a_time_are_shown_as_they_are() {
        let html = |bytes: &[u8]| lines(bytes, 1).into_iter().map(Markup::into_string).collect::<String>();
        assert!(html(b"1795255082123 a\xffb<").contains("<span>a\u{fffd}b&lt;</span>"));
        assert!(html(b"no time").contains("</a><span>no time</span>"));
        assert!(
            html(b"99999999999999999999 x\n18446744073709551615 y\n").contains("<span>99999999999999999999 x</span>")
        );
        assert_eq!(html(b""), "");
    }
}
