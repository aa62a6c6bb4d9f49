//! A token: a name, what it allows and where, until when; and the secret that proves it.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use super::{ANONYMOUS, Denied, Domain, INSTANCE_BYTES_MAX, Rights};

/// Length of a token's name in bytes: it stands in every record that the token wrote.
pub const NAME_BYTES_MAX: usize = 64;
/// What every secret starts with, so that scanners for leaked secrets find it.
const SECRET_PREFIX: &str = "pace_";

/// What a secret proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its name; stands with every entry it writes.
    pub name: String,
    /// SHA-256 of the secret.
    pub sha256: [u8; 32],
    /// The instance; any when that is `None`.
    pub instance: Option<String>,
    /// Which domains of the instance it is for.
    pub scope: Scope,
    /// What it may do there.
    pub rights: Rights,
    /// When it was made: seconds since 1970-01-01 UTC.
    pub created: u64,
    /// When it ends: seconds since 1970-01-01 UTC; never when that is `None`.
    pub expires: Option<u64>,
}

/// The domains of an instance that a token is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The instance itself and all that is laid over it: for those whose results everybody trusts.
    Main,
    /// Any overlay; of the instance itself it may only read.
    AnyOverlay,
    /// One overlay, `pr/17`. It need not be named: who names the instance works in the overlay.
    Overlay(String),
}

impl Token {
    /// Where its holder works and what it may do when it names `domain`.
    pub(super) fn grant(&self, domain: Domain) -> Result<(Domain, Rights), Denied> {
        if let Some(instance) = self.instance.as_ref().filter(|instance| **instance != domain.instance) {
            let name = &self.name;
            return Err(Denied::Forbidden(format!(
                "token `{name}` is for the instance `{instance}` and not for `{}`: name that instance, or use another token",
                domain.instance
            )));
        }
        match (&self.scope, &domain.overlay) {
            (Scope::Main, _) | (Scope::AnyOverlay, Some(_)) => Ok((domain, self.rights)),
            (Scope::AnyOverlay, None) => Ok((domain, Rights::Read)),
            (Scope::Overlay(mine), None) => Ok((Domain { overlay: Some(mine.clone()), ..domain }, self.rights)),
            (Scope::Overlay(mine), Some(named)) if mine == named => Ok((domain, self.rights)),
            (Scope::Overlay(mine), Some(named)) => Err(Denied::Forbidden(format!(
                "token `{}` is for the overlay `{mine}` and not for `{named}`",
                self.name
            ))),
        }
    }
    /// It may look after the whole store: everything in every instance is its own to write.
    pub(super) fn rules_all(&self) -> bool {
        self.instance.is_none() && self.scope == Scope::Main && self.rights == Rights::Write
    }
    /// Whether it is over at `now`, in seconds since 1970-01-01 UTC.
    pub fn is_expired(&self, now: u64) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Scope, String> {
        let id = |id: &str| {
            let known = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            !id.is_empty() && id.len() < INSTANCE_BYTES_MAX / 2 && id.chars().all(known)
        };
        match (text, text.strip_prefix("pr/")) {
            ("main", _) => Ok(Scope::Main),
            ("pr/*", _) => Ok(Scope::AnyOverlay),
            (_, Some(number)) if id(number) => Ok(Scope::Overlay(text.to_owned())),
            _ => Err(format!("`{text}` is no domain: write `main`, `pr/*` or `pr/17`")),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Scope::Main => "main",
            Scope::AnyOverlay => "pr/*",
            Scope::Overlay(overlay) => overlay,
        })
    }
}

/// Why a token cannot have this name, if so. A space would end it where entries name their writer.
pub fn name_problem(name: &str) -> Option<String> {
    let known = |c: char| c.is_ascii_alphanumeric() || "._-@/".contains(c);
    if name == ANONYMOUS {
        return Some(format!("`{ANONYMOUS}` is the name of those without a token"));
    }
    (name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(known)).then(|| {
        format!("`{}` is no name of a token: write 1 to {NAME_BYTES_MAX} of A-Z a-z 0-9 . _ - @ /", name.escape_debug())
    })
}

/// A moment as files and people have it: `2026-11-21T16:00:00Z`.
pub fn moment(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    time.unwrap_or(jiff::Timestamp::MAX).to_string()
}

/// What the holder of a token shows. It is printed once and kept nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// A new one: 256 bits from the system's source of randomness.
    ///
    /// # Errors
    /// The system has no randomness to give.
    pub fn generate() -> Result<Secret, &'static str> {
        let mut bytes = [0; 32];
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        provider.secure_random.fill(&mut bytes).map_err(|_| "the system gave no random bytes; try again")?;
        Ok(Secret(format!("{SECRET_PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))))
    }
    /// What a caller showed: the value of an `authorization` header, `Bearer …` or `Basic …` with the secret as password.
    /// GitHub's client insists on a JSON web token: of one of those the secret is the last part.
    pub(super) fn shown(authorization: &str) -> Option<Secret> {
        let (scheme, rest) = authorization.trim().split_once(' ')?;
        let rest = rest.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            return Some(Secret(rest.rsplit('.').next().unwrap_or(rest).to_owned()));
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let pair = base64::engine::general_purpose::STANDARD.decode(rest).ok()?;
        let pair = String::from_utf8(pair).ok()?;
        let (user, password) = pair.split_once(':')?;
        Some(Secret(if password.is_empty() { user } else { password }.to_owned()))
    }
    /// What is kept of it.
    pub fn sha256(&self) -> [u8; 32] {
        Sha256::digest(self.0.as_bytes()).into()
    }
    /// The secret itself, to be shown to the one who asked for it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
    /// The secret in the shape that GitHub's cache client takes for `ACTIONS_RUNTIME_TOKEN`.
    pub fn as_json_web_token(&self) -> String {
        let part = |json: &str| URL_SAFE_NO_PAD.encode(json);
        let claims = r#"{"ac":"[{\"Scope\":\"refs/heads/main\",\"Permission\":3}]"}"#;
        format!("{}.{}.{}", part(r#"{"alg":"none","typ":"JWT"}"#), part(claims), self.0)
    }
}

/// Nothing of it: what is debugged is logged.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_from_every_header_that_clients_send_and_shown_in_none() {
        let secret = Secret::generate().unwrap();
        let basic = base64::engine::general_purpose::STANDARD.encode(format!("user:{}", secret.reveal()));
        for header in [
            format!("Bearer {}", secret.reveal()),
            format!("bearer  {}", secret.reveal()),
            format!("Basic {basic}"),
            format!("Bearer {}", secret.as_json_web_token()),
        ] {
            assert_eq!(Secret::shown(&header), Some(secret.clone()), "{header}");
        }
        for header in ["", "Bearer", "Digest x", "Basic !", "Basic bm9jb2xvbg=="] {
            assert_eq!(Secret::shown(header), None, "{header}");
        }
        assert_eq!(format!("{secret:?}"), "Secret(…)");
        assert_ne!(secret, Secret::generate().unwrap());
    }

    #[test]
    fn scopes_read_as_they_are_written() {
        for text in ["main", "pr/*", "pr/17", "pr/gh-17"] {
            assert_eq!(text.parse::<Scope>().unwrap().to_string(), text);
        }
        for text in ["", "pr", "pr/", "pr/1/2", "pr/**", "other", "pr/a b"] {
            assert!(text.parse::<Scope>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_moment_is_written_for_people() {
        assert_eq!(moment(1_795_276_800), "2026-11-21T16:00:00Z");
    }
}
