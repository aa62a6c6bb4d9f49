//! Source to tokens, each with its exact range. A text that is no token ends the list with what is wrong about it.

use std::ops::Range;

use super::{Fault, codes};

/// A token.
#[derive(Debug)]
pub(super) struct Token {
    pub kind: TokenKind,
    pub range: Range<usize>,
}

/// The kinds of tokens.
#[derive(Debug)]
pub(super) enum TokenKind {
    /// A whole number; up to 2^63, which only fits with a minus before it.
    Int(u64),
    Double(f64),
    Text(String),
    Name(String),
    Sign(&'static str),
    Bad(Box<Fault>),
    End,
}

/// Longer signs first.
const SIGNS: [&str; 23] = [
    "&&", "||", "==", "!=", "<=", ">=", "<", ">", "+", "-", "*", "/", "%", "!", "?", ":", ".", ",", "(", ")", "[", "]",
    "{",
];

/// The tokens of a source; the last is [`TokenKind::End`] or [`TokenKind::Bad`].
pub(super) fn tokens(source: &str) -> Vec<Token> {
    let mut lexer = Lexer { source, at: 0 };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_space();
        let start = lexer.at;
        let kind = lexer.next().unwrap_or_else(|fault| TokenKind::Bad(Box::new(fault)));
        let last = matches!(kind, TokenKind::End | TokenKind::Bad(_));
        tokens.push(Token { kind, range: start..lexer.at });
        if last {
            return tokens;
        }
    }
}

struct Lexer<'a> {
    source: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    fn skip_space(&mut self) {
        self.at +=
            self.rest().bytes().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b'\x0c')).count();
    }

    fn next(&mut self) -> Result<TokenKind, Fault> {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else { return Ok(TokenKind::End) };
        let second = rest[first.len_utf8()..].chars().next();
        match first {
            '"' | '\'' => self.text(false),
            'r' | 'R' if matches!(second, Some('"' | '\'')) => {
                self.at += 1;
                self.text(true)
            }
            'b' | 'B' if matches!(second, Some('"' | '\'')) => Err(self
                .fault(&codes::LITERAL, 2, "bytes have no use in a pipeline", "a bytes literal")
                .help("leave the `b` away to write a text")),
            '`' => self.quoted_name(),
            '0'..='9' => self.number(),
            '.' if second.is_some_and(|c| c.is_ascii_digit()) => self.number(),
            'a'..='z' | 'A'..='Z' | '_' => Ok(self.name()),
            _ => self.sign(first),
        }
    }

    fn fault(&self, code: &'static super::Code, bytes: usize, message: impl Into<String>, label: &str) -> Fault {
        Fault::new(code, self.at..self.at + bytes, message, label)
    }

    fn name(&mut self) -> TokenKind {
        let length = self.rest().bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count();
        let name = self.rest()[..length].to_string();
        self.at += length;
        TokenKind::Name(name)
    }

    /// CEL's way to write a name that is not an identifier: `` steps.`go-test` ``.
    fn quoted_name(&mut self) -> Result<TokenKind, Fault> {
        let Some(length) = self.rest()[1..].find('`') else {
            return Err(self.fault(
                &codes::LITERAL,
                1,
                "this name in backticks is not closed",
                "no second backtick follows",
            ));
        };
        let name = self.rest()[1..1 + length].to_string();
        self.at += length + 2;
        Ok(TokenKind::Name(name))
    }

    fn sign(&mut self, first: char) -> Result<TokenKind, Fault> {
        let rest = self.rest();
        if let Some(fault) = super::foreign::sign(rest, self.at) {
            return Err(fault);
        }
        if let Some(sign) = SIGNS.into_iter().chain(["}"]).find(|sign| rest.starts_with(sign)) {
            self.at += sign.len();
            return Ok(TokenKind::Sign(sign));
        }
        let message = format!("`{}` has no meaning in an expression", first.escape_debug());
        Err(self.fault(&codes::SYNTAX, first.len_utf8(), message, "unexpected character"))
    }

    fn number(&mut self) -> Result<TokenKind, Fault> {
        let rest = self.rest();
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        if let Some(hex) = rest.strip_prefix("0x").or_else(|| rest.strip_prefix("0X")) {
            let length = hex.bytes().take_while(u8::is_ascii_hexdigit).count();
            return self.int(2 + length, u64::from_str_radix(&hex[..length], 16).ok());
        }
        let whole = digits(rest);
        let mut length = whole;
        if rest[length..].starts_with('.') && digits(&rest[length + 1..]) > 0 {
            length += 1 + digits(&rest[length + 1..]);
        }
        if let Some(exponent) = rest[length..].strip_prefix(['e', 'E']) {
            let sign = usize::from(exponent.starts_with(['+', '-']));
            if digits(&exponent[sign..]) > 0 {
                length += 1 + sign + digits(&exponent[sign..]);
            }
        }
        if length == whole {
            return self.int(whole, rest[..whole].parse().ok());
        }
        let number: f64 = rest[..length].parse().unwrap_or(f64::INFINITY);
        if number.is_infinite() {
            return Err(self.fault(&codes::LITERAL, length, "this number does not fit in a double", "too large"));
        }
        self.at += length;
        Ok(TokenKind::Double(number))
    }

    fn int(&mut self, length: usize, number: Option<u64>) -> Result<TokenKind, Fault> {
        let Some(number) = number.filter(|number| *number <= i64::MIN.unsigned_abs()) else {
            return Err(self.fault(
                &codes::LITERAL,
                length,
                "this number does not fit in 64 bits with a sign",
                "too large",
            ));
        };
        if self.rest()[length..].starts_with(['u', 'U']) {
            let message = "there are no unsigned numbers in a pipeline";
            return Err(self
                .fault(&codes::LITERAL, length + 1, message, "an unsigned literal")
                .help("leave the `u` away"));
        }
        self.at += length;
        Ok(TokenKind::Int(number))
    }

    /// A text literal, its quote at the place; on an error the place is the first byte of the literal.
    fn text(&mut self, raw: bool) -> Result<TokenKind, Fault> {
        let rest = self.rest();
        let quote = if rest.starts_with("\"\"\"") || rest.starts_with("'''") { &rest[..3] } else { &rest[..1] };
        let mut text = String::new();
        let mut at = quote.len();
        loop {
            let left = &rest[at..];
            if left.starts_with(quote) {
                self.at += at + quote.len();
                return Ok(TokenKind::Text(text));
            }
            match left.chars().next() {
                Some('\\') if !raw => {
                    let (c, length) = escape(left).ok_or_else(|| {
                        let length = left.chars().take(2).map(char::len_utf8).sum::<usize>();
                        Fault::new(&codes::LITERAL, self.at + at..self.at + at + length, "there is no such escape", "not an escape")
                            .help("escapes are `\\n`, `\\t`, `\\\\`, `\\\"`, `\\'`, `\\x41`, `\\u00e9` and `\\U0001f600`; a backslash itself is `\\\\`")
                            .help("a regular expression is easier to read as a raw text: `r\"\\d+\"`")
                    })?;
                    text.push(c);
                    at += length;
                }
                Some('\r' | '\n') if quote.len() == 1 => {
                    return Err(self.unclosed(quote, "the line ends before it is closed"));
                }
                Some(c) => {
                    text.push(c);
                    at += c.len_utf8();
                }
                None => return Err(self.unclosed(quote, "never closed")),
            }
        }
    }

    fn unclosed(&self, quote: &str, label: &str) -> Fault {
        self.fault(&codes::LITERAL, quote.len(), format!("this text has no closing `{quote}`"), label)
    }
}

/// The character of the escape sequence at the start, and its length in the source.
fn escape(text: &str) -> Option<(char, usize)> {
    let kind = *text.as_bytes().get(1)?;
    let plain = |c| Some((c, 2));
    let hex = |digits: usize| {
        let code = text.get(2..2 + digits).filter(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        Some((char::from_u32(u32::from_str_radix(code, 16).ok()?)?, 2 + digits))
    };
    match kind {
        b'\\' | b'?' | b'"' | b'\'' | b'`' => plain(kind as char),
        b'a' => plain('\x07'),
        b'b' => plain('\x08'),
        b'f' => plain('\x0c'),
        b'n' => plain('\n'),
        b'r' => plain('\r'),
        b't' => plain('\t'),
        b'v' => plain('\x0b'),
        b'x' | b'X' => hex(2),
        b'u' => hex(4),
        b'U' => hex(8),
        b'0'..=b'3' => {
            let octal = text.get(1..4).filter(|octal| octal.bytes().all(|byte| (b'0'..=b'7').contains(&byte)))?;
            Some((char::from_u32(u32::from_str_radix(octal, 8).ok()?)?, 4))
        }
        _ => None,
    }
}
