//! A session of somebody who signed in with a browser. The cookie has a secret, the store its SHA-256.

use aws_lc_rs::hmac;
use model::{Record, Timestamp};
use serde::{Deserialize, Serialize};

use crate::chance::{hex, id, random, same, sha256};
use crate::{DAY_US, Micros, User};

/// Name of the cookie.
pub const COOKIE: &str = "pace_session";
/// A session nobody uses ends after this.
const IDLE_US: u64 = 14 * DAY_US;
/// A session ends after this, used or not.
const AGE_US: u64 = 60 * DAY_US;
/// After this much use the cookie gets a new secret, so that one that was stolen dies soon.
const ROTATE_US: u64 = DAY_US;
/// A secret that was replaced is good for so long still: a page asks for several things at once.
const GRACE_US: u64 = 60 * 1_000_000;

/// What is kept of a session.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Session {
    /// SHA-256 of the cookie.
    pub sha256: String,
    /// Whose.
    pub user: String,
    /// When its user signed in.
    pub signed_in_us: Micros,
    /// When the cookie got this secret.
    pub since_us: Micros,
    /// From where, for its user to recognise: the program's name, cut.
    pub agent: String,
    /// Stays the same when the cookie gets a new secret; forms are bound to it.
    pub family: String,
    /// When a new secret replaced this one; 0: never.
    pub replaced_us: Micros,
}

impl Record for Session {
    const KIND: &'static str = "session";
    fn key(&self) -> String {
        self.sha256.clone()
    }
}

/// A cookie's secret. Not printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Cookie(String);

impl Cookie {
    /// What a browser sent; `None` for what cannot be one.
    pub fn read(text: &str) -> Option<Cookie> {
        (text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())).then(|| Cookie(text.into()))
    }

    /// Key of the record.
    pub fn key(&self) -> String {
        sha256(&self.0)
    }

    /// The value of `Set-Cookie`. `secure`: only over HTTPS.
    pub fn header(&self, secure: bool) -> String {
        let secure = if secure { "; Secure" } else { "" };
        format!("{COOKIE}={}; Path=/; Max-Age={}; HttpOnly; SameSite=Lax{secure}", self.0, IDLE_US / 1_000_000)
    }

    /// The value of `Set-Cookie` that removes it.
    pub fn removal() -> String {
        format!("{COOKIE}=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax")
    }
}

impl std::fmt::Debug for Cookie {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cookie(…)")
    }
}

impl Session {
    /// A new session of somebody who just proved who it is.
    pub fn begin(user: &str, agent: &str, now: Timestamp) -> (Session, Cookie) {
        let cookie = Cookie(hex(&random::<32>()));
        let session = Session {
            sha256: cookie.key(),
            user: user.into(),
            signed_in_us: now.0,
            since_us: now.0,
            agent: agent.chars().take(120).collect(),
            family: id(),
            replaced_us: 0,
        };
        (session, cookie)
    }

    /// Whether it counts for this user.
    pub fn is_good_for(&self, user: &User, now: Timestamp) -> bool {
        self.user == user.name && !user.disabled && self.signed_in_us >= user.sessions_since_us && !self.is_over(now)
    }

    /// Whether it is over, whoever asks.
    pub fn is_over(&self, now: Timestamp) -> bool {
        let (idle, age) = (now.0.saturating_sub(self.since_us), now.0.saturating_sub(self.signed_in_us));
        let replaced = self.replaced_us != 0 && now.0.saturating_sub(self.replaced_us) >= GRACE_US;
        idle >= IDLE_US || age >= AGE_US || replaced
    }

    /// The same session with a new secret, once the old one is a day old; and what is kept of the old one.
    pub fn rotated(&self, now: Timestamp) -> Option<(Session, Session, Cookie)> {
        if now.0.saturating_sub(self.since_us) < ROTATE_US || self.replaced_us != 0 {
            return None;
        }
        let (fresh, cookie) = Session::begin(&self.user, &self.agent, now);
        let fresh = Session { signed_in_us: self.signed_in_us, family: self.family.clone(), ..fresh };
        Some((fresh, Session { replaced_us: now.0, ..self.clone() }, cookie))
    }

    /// What a form of this session carries, so that no other site can send it. `key` is the server's.
    pub fn csrf_token(&self, key: &[u8; 32]) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        hex(hmac::sign(&key, format!("form of {}", self.family).as_bytes()).as_ref())
    }
}

/// Whether a form carries what it must, in a time that does not tell how much of it is right.
pub fn is_csrf_token(expected: &str, token: &str) -> bool {
    !expected.is_empty() && same(expected, token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anna() -> User {
        User { name: "anna".into(), ..User::default() }
    }

    #[test]
    fn a_session_ends_when_idle_when_old_and_when_its_user_says_so() {
        let now = Timestamp(100 * DAY_US);
        let (session, _) = Session::begin("anna", "Firefox", now);
        let later = |days: u64| Timestamp(now.0 + days * DAY_US);
        assert!(session.is_good_for(&anna(), later(13)) && !session.is_good_for(&anna(), later(14)));
        let used = Session { since_us: later(59).0, ..session.clone() };
        assert!(used.is_good_for(&anna(), later(59)) && !used.is_good_for(&anna(), later(60)));
        assert!(!session.is_good_for(&User { sessions_since_us: now.0 + 1, ..anna() }, now));
        assert!(!session.is_good_for(&User { disabled: true, ..anna() }, now));
        assert!(!session.is_good_for(&User { name: "bo".into(), ..anna() }, now));
    }

    #[test]
    fn a_used_session_gets_a_new_secret_each_day_and_the_old_one_dies_soon() {
        let (session, cookie) = Session::begin("anna", "", Timestamp(5));
        assert_eq!(session.rotated(Timestamp(5 + ROTATE_US - 1)), None);
        let at = Timestamp(5 + ROTATE_US);
        let (next, old, fresh) = session.rotated(at).expect("it is a day old");
        assert!(fresh != cookie && next.key() != session.key() && next.signed_in_us == 5);
        assert!(!old.is_over(Timestamp(at.0 + GRACE_US - 1)) && old.is_over(Timestamp(at.0 + GRACE_US)));
        assert_eq!(old.rotated(at), None, "once");
        let key = [7; 32];
        assert_eq!(next.csrf_token(&key), session.csrf_token(&key), "a form that is open stays good");
    }

    #[test]
    fn a_form_of_another_session_is_refused() {
        let (one, cookie) = Session::begin("anna", "", Timestamp(5));
        let (two, _) = Session::begin("anna", "", Timestamp(5));
        let key = [7; 32];
        let token = one.csrf_token(&key);
        assert!(is_csrf_token(&token, &token) && !is_csrf_token(&token, &two.csrf_token(&key)));
        assert!(
            !is_csrf_token(&token, &one.csrf_token(&[8; 32])) && !is_csrf_token(&token, "") && !is_csrf_token("", "")
        );
        assert_eq!(Cookie::read(&cookie.0).map(|cookie| cookie.key()), Some(one.key()));
        assert!(Cookie::read("x").is_none() && !format!("{cookie:?}").contains(&cookie.0));
        assert!(cookie.header(true).ends_with("HttpOnly; SameSite=Lax; Secure"));
    }
}
