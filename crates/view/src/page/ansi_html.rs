//! Colours of terminals as classes: `f1` is red text, `b4` a blue ground. No style stands in a page, so the table of colours
//! is part of the style sheet.

use std::fmt::Write;

use maud::{Escaper, Markup, PreEscaped};

use crate::ansi::{Piece, pieces, push_visible};

/// One line of a step's output, harmless, with its colours.
pub fn line(text: &str) -> Markup {
    let mut out = String::with_capacity(text.len() + 16);
    let (mut look, mut open) = (Look::default(), false);
    for piece in pieces(text.strip_suffix('\r').unwrap_or(text)) {
        match piece {
            Piece::Text(text) => {
                begin(&mut out, &mut open, look);
                escape(&mut out, text);
            }
            Piece::Color(sequence) => {
                let before = look;
                look.take(sequence);
                if open && look != before {
                    out.push_str("</span>");
                    open = false;
                }
            }
            Piece::Sequence => {}
            Piece::Control('\t') => out.push('\t'),
            Piece::Control(control) => {
                let mut shown = String::new();
                push_visible(&mut shown, control);
                escape(&mut out, &shown);
            }
        }
    }
    if open {
        out.push_str("</span>");
    }
    PreEscaped(out)
}

fn begin(out: &mut String, open: &mut bool, look: Look) {
    if !*open && look != Look::default() {
        out.push_str("<span class=\"");
        look.classes(out);
        out.push_str("\">");
        *open = true;
    }
}

fn escape(out: &mut String, text: &str) {
    // Writing to a String cannot fail.
    let _ = Escaper::new(out).write_str(text);
}

/// How text looks now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Look {
    front: Option<u8>,
    ground: Option<u8>,
    bold: bool,
    dim: bool,
    italic: bool,
    underlined: bool,
    swapped: bool,
    struck: bool,
}

impl Look {
    /// Takes an SGR sequence over: `ESC [ 1 ; 31 m`, also with colons.
    fn take(&mut self, sequence: &str) {
        let body = sequence.trim_start_matches("\x1b[").trim_end_matches('m');
        let mut numbers = body.split([';', ':']).map(|number| number.parse::<u16>().unwrap_or(0));
        while let Some(number) = numbers.next() {
            match number {
                0 => *self = Look::default(),
                1 => self.bold = true,
                2 => self.dim = true,
                3 => self.italic = true,
                4 => self.underlined = true,
                7 => self.swapped = true,
                9 => self.struck = true,
                21 | 22 => (self.bold, self.dim) = (false, false),
                23 => self.italic = false,
                24 => self.underlined = false,
                27 => self.swapped = false,
                29 => self.struck = false,
                30..=37 => self.front = Some((number - 30) as u8),
                38 => self.front = indexed(&mut numbers),
                39 => self.front = None,
                40..=47 => self.ground = Some((number - 40) as u8),
                48 => self.ground = indexed(&mut numbers),
                49 => self.ground = None,
                90..=97 => self.front = Some((number - 82) as u8),
                100..=107 => self.ground = Some((number - 92) as u8),
                _ => {}
            }
        }
    }

    fn classes(self, out: &mut String) {
        let (front, ground) = if self.swapped { (self.ground, self.front) } else { (self.front, self.ground) };
        // Writing to a String cannot fail.
        let _ = match front {
            Some(color) => write!(out, "f{color} "),
            None if self.swapped => write!(out, "fd "),
            None => Ok(()),
        };
        let _ = match ground {
            Some(color) => write!(out, "b{color} "),
            None if self.swapped => write!(out, "bd "),
            None => Ok(()),
        };
        let flags = [
            (self.bold, "bold "),
            (self.dim, "dim "),
            (self.italic, "ital "),
            (self.underlined, "under "),
            (self.struck, "struck "),
        ];
        flags.iter().filter(|(set, _)| *set).for_each(|(_, name)| out.push_str(name));
        out.truncate(out.trim_end().len());
    }
}

/// What follows 38 or 48: `5;n`, or `2;r;g;b` as the nearest of the 256.
fn indexed(numbers: &mut impl Iterator<Item = u16>) -> Option<u8> {
    match numbers.next()? {
        5 => numbers.next().and_then(|number| u8::try_from(number).ok()),
        2 => {
            let mut level = || Some(((numbers.next()?.min(255)) * 5 + 127) / 255);
            let (red, green, blue) = (level()?, level()?, level()?);
            u8::try_from(16 + 36 * red + 6 * green + blue).ok()
        }
        _ => None,
    }
}

/// The first sixteen, chosen to be read on the dark ground of logs.
const SIXTEEN: [u32; 16] = [
    0x6e_76_81, 0xff_7b_72, 0x5f_c9_6e, 0xe3_b3_41, 0x79_b8_ff, 0xd2_a8_ff, 0x56_d4_dd, 0xc9_d1_d9, 0x8b_94_9e,
    0xff_a1_98, 0x7e_e7_87, 0xf2_cc_60, 0xa5_d6_ff, 0xe2_c5_ff, 0x87_e8_ee, 0xff_ff_ff,
];

/// The part of the style sheet that says what the 256 colours are. Dark ones are lighter as text than as a ground.
pub fn style_sheet() -> String {
    let mut css = String::with_capacity(12 << 10);
    for color in 0..=255u8 {
        let [front, ground] = [readable(rgb(color)), rgb(color)];
        // Writing to a String cannot fail.
        let _ = write!(css, ".log .f{color}{{color:#{front:06x}}}.log .b{color}{{background:#{ground:06x}}}");
    }
    css
}

fn rgb(color: u8) -> u32 {
    let level = |n: u8| if n == 0 { 0 } else { 55 + 40 * u32::from(n) };
    match color {
        0..16 => SIXTEEN[usize::from(color)],
        16..232 => {
            let n = color - 16;
            level(n / 36) << 16 | level(n / 6 % 6) << 8 | level(n % 6)
        }
        _ => (8 + 10 * u32::from(color - 232)) * 0x01_01_01,
    }
}

/// The colour, mixed with white until it is light enough on the ground of logs.
fn readable(color: u32) -> u32 {
    const LIGHT_MIN: u32 = 120;
    let [_, red, green, blue] = color.to_be_bytes().map(u32::from);
    let light = (red * 299 + green * 587 + blue * 114) / 1000;
    if light >= LIGHT_MIN {
        return color;
    }
    let mix = |part: u32| part + (255 - part) * (LIGHT_MIN - light) / (255 - light);
    mix(red) << 16 | mix(green) << 8 | mix(blue)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        line(text).into_string()
    }

    #[test]
    fn colours_become_classes() {
        assert_eq!(shown("\x1b[1;31merror\x1b[0m: x"), "<span class=\"f1 bold\">error</span>: x");
        assert_eq!(
            shown("\x1b[38;5;208mo\x1b[39m\x1b[48:2:255:0:0mr"),
            "<span class=\"f208\">o</span><span class=\"b196\">r</span>"
        );
        assert_eq!(shown("\x1b[92;7mx\x1b[27my"), "<span class=\"fd b10\">x</span><span class=\"f10\">y</span>");
    }

    #[test]
    fn output_cannot_become_html_or_move_anything() {
        assert_eq!(shown("<script>\x1b]0;<b>\x07\x1b[2J&\"\u{202e}x"), "&lt;script&gt;&amp;&quot;&lt;202e&gt;x");
        assert_eq!(shown("\x1b[31m\x07<i>"), "^G<span class=\"f1\">&lt;i&gt;</span>");
    }

    #[test]
    fn strange_colours_are_no_colours() {
        for strange in ["\x1b[38;5;999m", "\x1b[38;9m", "\x1b[38m", "\x1b[38;2;1m", "\x1b[99999999999m", "\x1b[;;;m"] {
            assert_eq!(shown(&format!("{strange}x")), "x", "{strange:?}");
        }
    }

    #[test]
    fn every_colour_is_in_the_style_sheet_and_light_enough() {
        let css = style_sheet();
        assert!(css.contains(".log .f0{") && css.contains(".log .b255{"));
        for color in 0..=255u8 {
            let [_, red, green, blue] = readable(rgb(color)).to_be_bytes().map(u32::from);
            assert!((red * 299 + green * 587 + blue * 114) / 1000 >= 115, "{color}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_printed_only_our_tags_come_out(text in "(\x1b|\\[|m|<|>|&|\"|3|1|8|;|5|a|\u{202e}|\x07)*") {
            let html = shown(&text);
            let bare = html.replace("</span>", "");
            for part in bare.split('<').skip(1) {
                proptest::prop_assert!(part.starts_with("span class=\""), "{html:?}");
            }
            proptest::prop_assert_eq!(html.matches("<span").count(), html.matches("</span>").count());
        }
    }
}
