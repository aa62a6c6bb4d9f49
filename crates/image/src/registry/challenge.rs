//! `WWW-Authenticate`: what a registry wants to know about us, and how we say it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::credentials::Credential;

/// What a registry wants.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

/// Reads the header; `None` for ways that we do not know.
pub(super) fn parse(header: &str) -> Option<Challenge> {
    let (way, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
    if way.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    if !way.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let (mut realm, mut service, mut scope) = (None, None, None);
    let mut rest = rest;
    while let Some((name, after)) = rest.split_once('=') {
        let (value, after) = value(after)?;
        match name.trim_matches([' ', ',']).to_ascii_lowercase().as_str() {
            "realm" => realm = Some(value),
            "service" => service = Some(value),
            "scope" => scope = Some(value),
            _ => {}
        }
        rest = after;
    }
    Some(Challenge::Bearer { realm: realm?, service, scope })
}

/// A quoted text or a word, and what comes after it.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(',').unwrap_or(text.len());
        return Some((text[..end].trim().to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            character => value.push(character),
        }
    }
    None
}

/// The header for a password.
pub(super) fn basic(credential: &Credential) -> Option<String> {
    match credential {
        Credential::Password { user, password } => {
            Some(format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
        }
        Credential::Anonymous | Credential::Identity(_) => None,
    }
}

/// The header for what a token server answered.
pub(super) fn token(answer: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Token {
        #[serde(default)]
        token: String,
        #[serde(default)]
        access_token: String,
    }
    let Token { token, access_token } = serde_json::from_slice(answer).ok()?;
    let token = if token.is_empty() { access_token } else { token };
    let is_one = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    is_one.then(|| format!("Bearer {token}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read_as_registries_write_them() {
        assert_eq!(parse(r#"Basic realm="x""#), Some(Challenge::Basic));
        assert_eq!(parse("basic"), Some(Challenge::Basic));
        let bearer = r#"Bearer realm="https://auth.example.com/token",service="r, \"x\"",scope="repository:a/b:pull""#;
        let expected = Challenge::Bearer {
            realm: "https://auth.example.com/token".into(),
            service: Some("r, \"x\"".into()),
            scope: Some("repository:a/b:pull".into()),
        };
        assert_eq!(parse(bearer), Some(expected));
        let bare = Challenge::Bearer { realm: "https://a/".into(), service: Some("s".into()), scope: None };
        assert_eq!(parse("Bearer realm=https://a/, service=s"), Some(bare));
        for bad in ["", "Negotiate", "Bearer", r#"Bearer realm="x"#, "Bearer service=s", "Bearer realm"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_token_that_would_break_the_header_is_none() {
        assert_eq!(token(br#"{"token":"abc"}"#).as_deref(), Some("Bearer abc"));
        assert_eq!(token(br#"{"token":"","access_token":"x"}"#).as_deref(), Some("Bearer x"));
        for bad in [&br#"{"token":"a\r\nX: y"}"#[..], b"{}", b"[]", b""] {
            assert_eq!(token(bad), None);
        }
    }
}
