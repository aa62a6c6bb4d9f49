//! The terminal: whole lines, a live block that is redrawn in place, colours by the usual rules, closed pipes survived.

use std::io::{IsTerminal, Write};

use crate::cli::{Color, Output};

/// Where output goes and in which form.
pub struct Screen {
    /// The form.
    pub output: Output,
    /// Whether standard output shows colours.
    pub color: bool,
    error_color: bool,
    unicode: bool,
    /// Lines of the live block that stand on the terminal now.
    drawn: usize,
    /// Standard output was closed by its reader; the work goes on without it.
    closed: bool,
}

/// Width of lines that nobody wraps.
const WIDTH_UNCUT: usize = 2000;
/// Width when there is no terminal to ask.
const WIDTH_DEFAULT: usize = 100;

impl Screen {
    /// Decides form and colours from the flags, the terminal and the environment.
    pub fn new(output: Option<Output>, color: Color) -> Screen {
        let terminal = std::io::stdout().is_terminal();
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let output = output.unwrap_or(if terminal && !dumb { Output::Human } else { Output::Plain });
        Screen {
            output,
            color: output != Output::Json && wants_color(color, terminal && !dumb),
            error_color: wants_color(color, std::io::stderr().is_terminal() && !dumb),
            unicode: speaks_unicode(),
            drawn: 0,
            closed: false,
        }
    }

    /// How `view` should write.
    pub fn style(&self) -> view::ansi::Style {
        view::ansi::Style { color: self.color, unicode: self.unicode }
    }

    /// A live block can be drawn.
    pub fn is_live(&self) -> bool {
        self.output == Output::Human && std::io::stdout().is_terminal()
    }

    /// Columns and rows.
    pub fn size(&self) -> (usize, usize) {
        match rustix::termios::tcgetwinsize(std::io::stdout()) {
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
            _ => (std::env::var("COLUMNS").ok().and_then(|c| c.parse().ok()).unwrap_or(WIDTH_DEFAULT), 24),
        }
    }

    /// Columns that a line of text may take: those of the terminal; in a pipe or a file nothing need be cut.
    pub fn width_of_text(&self) -> usize {
        if self.is_live() { self.size().0 } else { WIDTH_UNCUT }
    }

    /// Prints text that ends where it ends: a line break is added if it has none.
    pub fn text(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        let mut out = self.erase();
        out.push_str(text);
        if !text.ends_with('\n') {
            out.push('\n');
        }
        self.write(&out);
    }

    /// Replaces the live block. Each line is at most as wide as the terminal.
    pub fn draw(&mut self, frame: &[String]) {
        let mut out = self.erase();
        for line in frame {
            out.push_str(line);
            out.push_str("\x1b[K\n");
        }
        self.write(&out);
        self.drawn = frame.len();
    }

    /// Leaves the live block where it is and goes on below it.
    pub fn keep(&mut self) {
        self.drawn = 0;
    }

    /// Takes the live block away.
    pub fn clear(&mut self) {
        let out = self.erase();
        self.write(&out);
    }

    /// An error with what to do next, on standard error.
    pub fn error(&mut self, message: &str, help: Option<&str>) {
        self.clear();
        self.complain("error", "31", message);
        if let Some(help) = help {
            self.complain("help", "36", help);
        }
    }

    /// Something a person should know, on standard error.
    pub fn warning(&mut self, message: &str) {
        self.clear();
        self.complain("warning", "33", message);
    }

    /// Text for standard error: diagnostics.
    pub fn diagnostics(&mut self, text: &str) {
        self.clear();
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }

    /// Whether diagnostics on standard error may have colours.
    pub fn error_color(&self) -> bool {
        self.error_color
    }

    fn complain(&mut self, word: &str, colour: &str, message: &str) {
        let mut err = std::io::stderr().lock();
        // Nobody is left to hear about a closed standard error.
        let _ = match self.error_color {
            true => writeln!(err, "\x1b[1;{colour}m{word}\x1b[0m: {message}"),
            false => writeln!(err, "{word}: {message}"),
        };
    }

    fn erase(&mut self) -> String {
        match std::mem::take(&mut self.drawn) {
            0 => String::new(),
            // To the first column too: a terminal that echoed `^C` has left it.
            lines => format!("\r\x1b[{lines}A\x1b[J"),
        }
    }

    fn write(&mut self, text: &str) {
        if self.closed || text.is_empty() {
            return;
        }
        let mut out = std::io::stdout().lock();
        self.closed = out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err();
    }
}

fn wants_color(color: Color, terminal: bool) -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    match color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto if set("NO_COLOR") => false,
        Color::Auto if std::env::var_os("CLICOLOR_FORCE").is_some_and(|v| !v.is_empty() && v != "0") => true,
        Color::Auto => terminal,
    }
}

fn speaks_unicode() -> bool {
    let locale =
        ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(|name| std::env::var(name).ok().filter(|v| !v.is_empty()));
    // No locale at all is the rule in containers, where terminals speak UTF-8 all the same.
    locale.is_none_or(|locale| {
        let locale = locale.to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8") || locale == "c" || locale == "posix"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echoed_key_does_not_shift_the_tree() {
        let mut screen = Screen::new(Some(Output::Human), Color::Never);
        screen.drawn = 3;
        assert_eq!(screen.erase(), "\r\x1b[3A\x1b[J");
        assert_eq!(screen.erase(), "");
    }
}
