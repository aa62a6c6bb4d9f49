//! Scripts: values that a stranger can set are handed over in variables and never become part of the script's text.
//!
//! In `sh` and `bash` the variable is written for the author, in quotes where the script has none, so that the value
//! stays one word. Where the shell would not read it (`'…'`, `<<'EOF'`), or would calculate with it (`$(( ))`), it is
//! an error. The scanner knows quotes, comments, here-documents and substitutions; it does not know `case` patterns
//! inside of `$( )`. What it gets wrong there yields a variable that is not split or not read, never a pasted value.

use std::collections::BTreeMap;

use model::Shell;
use model::expr::{Expr, Template, TemplatePart};

use super::codes::{UNTRUSTED_QUOTED, UNTRUSTED_SHELL};
use crate::diagnostic::Diagnostic;
use crate::expr::{Trust, is_untrusted};

/// The script with variables in place of untrusted values, and the variables.
pub(super) fn hand_over(
    script: Template,
    shell: &Shell,
    trust: &Trust<'_>,
    out: &mut Vec<Diagnostic>,
) -> (Template, BTreeMap<String, Template>) {
    let mut variables = BTreeMap::new();
    let untrusted = |part: &TemplatePart| matches!(part, TemplatePart::Expr(expr) if is_untrusted(expr, trust));
    if !script.parts.iter().any(untrusted) {
        return (script, variables);
    }
    let reads_variables = matches!(shell, Shell::Sh | Shell::Bash);
    let mut scan = Scan::default();
    let mut parts: Vec<TemplatePart> = Vec::with_capacity(script.parts.len());
    for part in script.parts {
        match part {
            TemplatePart::Text(text) => {
                scan.text(&text);
                push_text(&mut parts, text);
            }
            TemplatePart::Expr(expr) if !is_untrusted(&expr, trust) => {
                scan.value();
                parts.push(TemplatePart::Expr(expr));
            }
            TemplatePart::Expr(expr) if !reads_variables => out.push(in_other_language(&expr)),
            TemplatePart::Expr(expr) => {
                let name = format!("PACE_EXPR_{}", variables.len() + 1);
                match scan.reads() {
                    Reads::Bare => push_text(&mut parts, format!("\"${{{name}}}\"")),
                    Reads::Quoted => push_text(&mut parts, format!("${{{name}}}")),
                    Reads::Not(place) => out.push(not_read(&expr, place)),
                }
                scan.value();
                variables.insert(name, Template { parts: vec![TemplatePart::Expr(expr)] });
            }
        }
    }
    (Template { parts }, variables)
}

fn push_text(parts: &mut Vec<TemplatePart>, text: String) {
    match parts.last_mut() {
        Some(TemplatePart::Text(last)) => last.push_str(&text),
        _ => parts.push(TemplatePart::Text(text)),
    }
}

fn in_other_language(expr: &Expr) -> Diagnostic {
    let message = "a stranger can set this value, so it is not pasted into a script";
    Diagnostic::error(&UNTRUSTED_SHELL, expr.span, message, "set from outside")
        .help("put it into the step's `env`, and let the script read the variable")
}

fn not_read(expr: &Expr, place: &str) -> Diagnostic {
    let message = format!("a stranger can set this value, and {place}");
    let help = match place {
        CALCULATES => "put it into `env`, and check that it is a number before calculating with it",
        LITERAL_HEREDOC => "write the word behind `<<` without quotes",
        _ => "use \"…\" in place of '…'",
    };
    Diagnostic::error(&UNTRUSTED_QUOTED, expr.span, message, "set from outside").help(help)
}

const LITERAL_QUOTE: &str = "the shell reads no variables inside of '…'";
const LITERAL_HEREDOC: &str = "the shell reads no variables in a here-document whose word is in quotes";
const CALCULATES: &str = "the shell calculates with what stands here";

/// How the shell reads a variable at a place.
enum Reads {
    /// As words of the script: quotes keep the value one word.
    Bare,
    /// As part of a text.
    Quoted,
    /// Not at all, or worse.
    Not(&'static str),
}

/// What the scanner is inside of.
#[derive(Clone, Debug, PartialEq)]
enum Inside {
    /// `'…'`.
    Single,
    /// `$'…'`.
    Escaped,
    /// `"…"`.
    Double,
    /// `# …`.
    Comment,
    /// `` `…` ``.
    Backquote,
    /// `$(…)` or `(…)`.
    Parens,
    /// `${…}`.
    Braces,
    /// `$((…))` or `((…))`, with the number of open parentheses.
    Arithmetic(u32),
    /// Lines up to the word.
    Heredoc { word: String, literal: bool, tabs: bool },
}

/// A scanner of shell text that can be stopped anywhere.
#[derive(Default)]
struct Scan {
    inside: Vec<Inside>,
    /// Here-documents whose lines begin at the next line break.
    waiting: Vec<Inside>,
    /// The line of a here-document so far.
    line: String,
    /// The next character means itself.
    escaped: bool,
    before: Option<char>,
}

impl Scan {
    fn reads(&self) -> Reads {
        match self.inside.last() {
            None | Some(Inside::Parens) => Reads::Bare,
            Some(Inside::Braces) if !self.inside.contains(&Inside::Double) => Reads::Bare,
            Some(Inside::Double | Inside::Comment | Inside::Backquote | Inside::Braces) => Reads::Quoted,
            Some(Inside::Single | Inside::Escaped) => Reads::Not(LITERAL_QUOTE),
            Some(Inside::Arithmetic(_)) => Reads::Not(CALCULATES),
            Some(Inside::Heredoc { literal: false, .. }) => Reads::Quoted,
            Some(Inside::Heredoc { .. }) => Reads::Not(LITERAL_HEREDOC),
        }
    }

    /// A value stands here: letters that end no line and no quote.
    fn value(&mut self) {
        self.line.push('?');
        self.before = Some('?');
        self.escaped = false;
    }

    fn text(&mut self, text: &str) {
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let taken = self.step(c, rest);
            self.before = rest[..taken].chars().next_back();
            rest = &rest[taken..];
        }
    }

    /// Takes at least one character; gives the number of bytes taken.
    fn step(&mut self, c: char, rest: &str) -> usize {
        let one = c.len_utf8();
        if std::mem::take(&mut self.escaped) {
            return one;
        }
        let in_double = self.inside.contains(&Inside::Double);
        match self.inside.last_mut() {
            Some(Inside::Heredoc { .. }) => self.heredoc_char(c),
            Some(Inside::Comment) if c == '\n' => {
                self.inside.pop();
                self.line_break();
            }
            Some(Inside::Comment) => {}
            Some(Inside::Single) if c == '\'' => drop(self.inside.pop()),
            Some(Inside::Single) => {}
            Some(Inside::Escaped) if c == '\'' => drop(self.inside.pop()),
            Some(Inside::Arithmetic(open)) if c == '(' => *open += 1,
            Some(Inside::Arithmetic(open)) if c == ')' => {
                *open -= 1;
                if *open == 0 {
                    self.inside.pop();
                }
            }
            _ if c == '\\' => self.escaped = true,
            Some(Inside::Escaped) => {}
            _ if rest.starts_with('$') => return self.dollar(rest),
            Some(Inside::Double) if c == '"' => drop(self.inside.pop()),
            Some(Inside::Braces) if c == '}' => drop(self.inside.pop()),
            Some(Inside::Backquote) if c == '`' => drop(self.inside.pop()),
            _ if c == '`' => self.inside.push(Inside::Backquote),
            Some(Inside::Double) => {}
            Some(Inside::Braces) if c == '\'' && in_double => {}
            _ if c == '"' => self.inside.push(Inside::Double),
            _ if c == '\'' => self.inside.push(Inside::Single),
            Some(Inside::Braces | Inside::Arithmetic(_)) => {}
            _ => return self.command(c, rest),
        }
        one
    }

    /// `$(`, `$((`, `${`, `$'`, or a plain `$`.
    fn dollar(&mut self, rest: &str) -> usize {
        let in_double = self.inside.last() == Some(&Inside::Double);
        let (inside, taken) = match rest.as_bytes() {
            [_, b'(', b'(', ..] => (Inside::Arithmetic(2), 3),
            [_, b'(', ..] => (Inside::Parens, 2),
            [_, b'{', ..] => (Inside::Braces, 2),
            [_, b'\'', ..] if !in_double => (Inside::Escaped, 2),
            _ => return 1,
        };
        self.inside.push(inside);
        taken
    }

    /// A character of the script itself, outside of all quotes.
    fn command(&mut self, c: char, rest: &str) -> usize {
        match c {
            '#' if self.before.is_none_or(|c| c.is_whitespace() || matches!(c, ';' | '&' | '|' | '(' | ')')) => {
                self.inside.push(Inside::Comment);
            }
            '(' if rest.starts_with("((") => {
                self.inside.push(Inside::Arithmetic(2));
                return 2;
            }
            '(' => self.inside.push(Inside::Parens),
            ')' if self.inside.last() == Some(&Inside::Parens) => drop(self.inside.pop()),
            '<' if rest.starts_with("<<<") => return 3,
            '<' if rest.starts_with("<<") => return self.heredoc(rest),
            '\n' => self.line_break(),
            _ => {}
        }
        c.len_utf8()
    }

    /// `<<word`, `<<-word`, `<< 'word'`.
    fn heredoc(&mut self, rest: &str) -> usize {
        let mut at = 2;
        let tabs = rest[at..].starts_with('-');
        at += usize::from(tabs);
        at += rest[at..].len() - rest[at..].trim_start_matches([' ', '\t']).len();
        let (mut word, mut literal, mut quote) = (String::new(), false, None);
        for c in rest[at..].chars() {
            match (quote, c) {
                (Some(open), _) if c == open => quote = None,
                (None, '\'' | '"') => {
                    quote = Some(c);
                    literal = true;
                }
                (None, '\\') => literal = true,
                (None, ' ' | '\t' | '\n' | '\r' | ';' | '&' | '|' | '<' | '>' | '(' | ')') | (Some(_), '\n') => break,
                _ => word.push(c),
            }
            at += c.len_utf8();
        }
        if !word.is_empty() || literal {
            self.waiting.push(Inside::Heredoc { word, literal, tabs });
        }
        at
    }

    fn line_break(&mut self) {
        // Several here-documents of one line come in their order, so the last one is pushed first.
        self.line.clear();
        while let Some(next) = self.waiting.pop() {
            self.inside.push(next);
        }
    }

    fn heredoc_char(&mut self, c: char) {
        if c != '\n' {
            self.line.push(c);
            return;
        }
        let line = std::mem::take(&mut self.line);
        if let Some(Inside::Heredoc { word, tabs, .. }) = self.inside.last() {
            let line = line.strip_suffix('\r').unwrap_or(&line);
            let line = if *tabs { line.trim_start_matches('\t') } else { line };
            if line == word {
                self.inside.pop();
            }
        }
    }
}
