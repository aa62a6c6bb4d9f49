//! A terminal's text with colours as an SVG picture, for the README.

use std::fmt::Write;

/// Width of a character and height of a line, in pixels, at 13 px of a common monospaced font.
const CELL: (f32, f32) = (7.8, 17.0);
const MARGIN: f32 = 14.0;

/// One look of text.
#[derive(Clone, Copy, Default, PartialEq)]
struct Look {
    bold: bool,
    dim: bool,
    colour: Option<u8>,
}

/// The picture of `text`, which may hold the colour sequences that `pace` writes (SGR); others are left out.
pub fn svg(text: &str) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    let columns = lines.iter().map(|line| plain(line).chars().count()).max().unwrap_or(0);
    let (width, height) = (columns as f32 * CELL.0 + 2.0 * MARGIN, lines.len() as f32 * CELL.1 + 2.0 * MARGIN);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" font-family=\"ui-monospace, Menlo, Consolas, monospace\" font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#16181d\"/>\n"
    );
    let mut look = Look::default();
    for (at, line) in lines.iter().enumerate() {
        let y = MARGIN + (at as f32 + 0.75) * CELL.1;
        let _ = write!(svg, "<text x=\"{MARGIN}\" y=\"{y:.1}\" fill=\"#d6d8dd\" xml:space=\"preserve\">");
        for (span, is) in spans(line, &mut look) {
            svg.push_str(&tspan(&span, is));
        }
        svg.push_str("</text>\n");
    }
    svg.push_str("</svg>\n");
    svg
}

fn plain(line: &str) -> String {
    spans(line, &mut Look::default()).into_iter().map(|(text, _)| text).collect()
}

/// The line cut where its look changes; the look goes on in the next line.
fn spans(line: &str, look: &mut Look) -> Vec<(String, Look)> {
    let mut spans = Vec::new();
    let mut rest = line;
    while let Some(at) = rest.find("\x1b[") {
        spans.push((rest[..at].to_string(), *look));
        rest = &rest[at + 2..];
        let end = rest.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(rest.len());
        if rest[end..].starts_with('m') {
            rest[..end].split(';').for_each(|code| apply(code, look));
        }
        rest = rest.get(end + 1..).unwrap_or("");
    }
    spans.push((rest.to_string(), *look));
    spans.retain(|(text, _)| !text.is_empty());
    spans
}

fn apply(code: &str, look: &mut Look) {
    match code.parse::<u8>().unwrap_or(0) {
        0 => *look = Look::default(),
        1 => look.bold = true,
        2 => look.dim = true,
        22 => (look.bold, look.dim) = (false, false),
        39 => look.colour = None,
        code @ (30..=37 | 90..=97) => look.colour = Some(code % 10),
        _ => {}
    }
}

fn tspan(text: &str, look: Look) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let fill = look.colour.map(|colour| {
        ["#5c6370", "#e06c75", "#98c379", "#e5c07b", "#61afef", "#c678dd", "#56b6c2", "#d6d8dd"][usize::from(colour)]
    });
    let fill = fill.map_or_else(String::new, |fill| format!(" fill=\"{fill}\""));
    let weight = if look.bold { " font-weight=\"bold\"" } else { "" };
    let opacity = if look.dim { " opacity=\"0.6\"" } else { "" };
    match look == Look::default() {
        true => text,
        false => format!("<tspan{fill}{weight}{opacity}>{text}</tspan>"),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn colours_become_spans_and_signs_are_escaped() {
        let svg = super::svg("a \x1b[1;32m<b>\x1b[0m c\x1b[K\nd");
        assert!(svg.contains("a <tspan fill=\"#98c379\" font-weight=\"bold\">&lt;b&gt;</tspan> c</text>"), "{svg}");
    }
}
