//! Sign-in by OpenID Connect: discovery, authorization code with PKCE, ID token.
//!
//! The browser goes to [`Started::url`] and comes back with a code; what must be remembered meanwhile ([`Pending`]) is a value
//! that the caller seals into a cookie, so that any replica can finish what another began.

mod ask;
mod id_token;
mod rules;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use model::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use ureq::Agent;
use ureq::http::Request;

use crate::chance::{random, same};
use ask::{answer, check, form};
pub use rules::{ClientSecret, GroupRule, Identity, OidcConfig};

/// How long a person may take to sign in there.
const PENDING_US: u64 = 10 * 60 * 1_000_000;

/// Why signing in failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OidcError {
    /// The issuer cannot be asked, or answers what it should not.
    #[error("cannot sign in with {issuer}: {why}")]
    Issuer {
        /// The issuer.
        issuer: String,
        /// Why not.
        why: String,
    },
    /// What the browser brought back does not belong to what was begun, or came too late.
    #[error("this sign-in was not begun in this browser, or took longer than 10 minutes; begin again")]
    Stale,
    /// The token is not what it should be.
    #[error("the answer of {issuer} is not to be trusted: {why}")]
    Untrusted {
        /// The issuer.
        issuer: String,
        /// Why not.
        why: String,
    },
}

/// An issuer whose addresses are known.
#[derive(Debug)]
pub struct Provider {
    config: OidcConfig,
    agent: Agent,
    found: Discovered,
}

/// What must be remembered until the browser is back. To be sealed: who has it can finish the sign-in.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Pending {
    state: String,
    nonce: String,
    verifier: String,
    redirect: String,
    at_us: u64,
}

impl std::fmt::Debug for Pending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pending(…)")
    }
}

/// A sign-in that began.
#[derive(Clone, Debug, PartialEq)]
pub struct Started {
    /// Where the browser goes.
    pub url: String,
    /// What is to be remembered.
    pub pending: Pending,
}

#[derive(Debug, Deserialize)]
struct Discovered {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    userinfo_endpoint: Option<String>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Exchanged {
    id_token: String,
    access_token: String,
}

impl Provider {
    /// Asks the issuer for its addresses. Blocks for at most 10 seconds.
    ///
    /// # Errors
    /// It cannot be asked, or is not who it should be.
    pub fn discover(config: OidcConfig) -> Result<Provider, OidcError> {
        let agent = ask::agent();
        let fail = |why: String| OidcError::Issuer { issuer: config.issuer.clone(), why };
        let address = format!("{}/.well-known/openid-configuration", config.issuer.trim_end_matches('/'));
        let found: Discovered = answer(&agent, Request::get(&address).body(String::new())).map_err(fail)?;
        if found.issuer != config.issuer {
            let other: String = found.issuer.chars().take(200).collect();
            return Err(fail(format!("it calls itself `{}`; write it exactly so", other.escape_debug())));
        }
        check(&found.authorization_endpoint).map_err(fail)?;
        Ok(Provider { config, agent, found })
    }

    /// Begins a sign-in; the issuer sends the browser to `redirect` afterwards.
    pub fn start(&self, redirect: &str, now: Timestamp) -> Started {
        let word = || URL_SAFE_NO_PAD.encode(random::<32>());
        let (state, nonce, verifier) = (word(), word(), word());
        let pending = Pending { state, nonce, verifier, redirect: redirect.into(), at_us: now.0 };
        let scopes = ["openid"].into_iter().chain(self.config.scopes.iter().map(String::as_str));
        let query = form(&[
            ("response_type", "code"),
            ("client_id", &self.config.client_id),
            ("redirect_uri", redirect),
            ("scope", &scopes.collect::<Vec<_>>().join(" ")),
            ("state", &pending.state),
            ("nonce", &pending.nonce),
            ("code_challenge", &URL_SAFE_NO_PAD.encode(digest(&SHA256, pending.verifier.as_bytes()))),
            ("code_challenge_method", "S256"),
        ]);
        let sign = if self.found.authorization_endpoint.contains('?') { '&' } else { '?' };
        Started { url: format!("{}{sign}{query}", self.found.authorization_endpoint), pending }
    }

    /// Ends a sign-in with the code that the browser brought back: [`Pending::is_answered_by`] its state. Blocks for at most
    /// 30 seconds.
    ///
    /// # Errors
    /// It took too long, the issuer refuses the code, or its token is not to be trusted.
    pub fn finish(&self, pending: &Pending, state: &str, code: &str, now: Timestamp) -> Result<Identity, OidcError> {
        if !pending.is_answered_by(state, now) {
            return Err(OidcError::Stale);
        }
        let fail = |why: String| OidcError::Issuer { issuer: self.config.issuer.clone(), why };
        let exchanged = self.exchange(pending, code).map_err(fail)?;
        // Fetched each time: issuers change their keys when they like, and few people sign in at the same moment.
        let keys = answer(&self.agent, Request::get(&self.found.jwks_uri).body(String::new())).map_err(fail)?;
        let untrusted = |why: String| OidcError::Untrusted { issuer: self.config.issuer.clone(), why };
        let told = id_token::verified(&exchanged.id_token, &keys, &self.config, &pending.nonce).map_err(untrusted)?;
        let more = self.more(&exchanged.access_token).map_err(fail)?;
        let claims = merged(told, more).map_err(untrusted)?;
        Identity::of_claims(&claims, &self.config).map_err(untrusted)
    }

    fn exchange(&self, pending: &Pending, code: &str) -> Result<Exchanged, String> {
        let OidcConfig { client_id, client_secret: ClientSecret(secret), .. } = &self.config;
        let mut fields = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", &pending.redirect),
            ("code_verifier", &pending.verifier),
        ];
        let mut request =
            Request::post(&self.found.token_endpoint).header("content-type", "application/x-www-form-urlencoded");
        let methods = self.found.token_endpoint_auth_methods_supported.as_deref();
        let by_header = methods.is_none_or(|known| known.iter().any(|method| method == "client_secret_basic"));
        if !secret.is_empty() && by_header {
            let pair = format!("{}:{}", ask::escaped(client_id), ask::escaped(secret));
            request = request.header("authorization", format!("Basic {}", STANDARD.encode(pair)));
        } else {
            fields.push(("client_id", client_id));
            fields.extend((!secret.is_empty()).then_some(("client_secret", secret.as_str())));
        }
        answer(&self.agent, request.body(form(&fields)))
    }

    /// What the issuer says of somebody beside the token: many keep groups and addresses there.
    fn more(&self, access_token: &str) -> Result<Map<String, Value>, String> {
        let Some(address) = &self.found.userinfo_endpoint else { return Ok(Map::new()) };
        let request = Request::get(address).header("authorization", format!("Bearer {access_token}"));
        answer(&self.agent, request.body(String::new()))
    }
}

impl Pending {
    /// Whether a browser with this state comes back from it, and in time.
    pub fn is_answered_by(&self, state: &str, now: Timestamp) -> bool {
        same(&self.state, state) && now.0.saturating_sub(self.at_us) <= PENDING_US
    }
}

/// What the token says goes before; the rest must be of the same person.
fn merged(told: Map<String, Value>, mut more: Map<String, Value>) -> Result<Map<String, Value>, String> {
    if !more.is_empty() && more.get("sub") != told.get("sub") {
        return Err("its user information is of somebody else".into());
    }
    more.extend(told);
    Ok(more)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn provider() -> Provider {
        let found = json!({ "issuer": "https://id.example.com", "authorization_endpoint": "https://id.example.com/auth?tenant=1",
            "token_endpoint": "https://id.example.com/token", "jwks_uri": "https://id.example.com/keys" });
        let config =
            OidcConfig { client_id: "pace & co".into(), scopes: vec!["email".into()], ..OidcConfig::default() };
        Provider { config, agent: ask::agent(), found: serde_json::from_value(found).expect("discovered") }
    }

    #[test]
    fn each_sign_in_has_its_own_state_nonce_and_verifier_and_the_verifier_stays_here() {
        let (one, two) =
            (provider().start("https://ci/back", Timestamp(5)), provider().start("https://ci/back", Timestamp(5)));
        let (a, b) = (&one.pending, &two.pending);
        assert!(a.state != b.state && a.nonce != b.nonce && a.verifier != b.verifier && a.state != a.nonce);
        assert!(
            one.url.starts_with("https://id.example.com/auth?tenant=1&response_type=code&client_id=pace%20%26%20co&")
        );
        assert!(one.url.contains("&code_challenge_method=S256") && one.url.contains("&scope=openid%20email&"));
        assert!(!one.url.contains(&a.verifier) && !format!("{one:?}").contains(&a.verifier));
    }

    #[test]
    fn what_was_not_begun_in_this_browser_or_long_ago_is_refused_before_anybody_is_asked() {
        let provider = provider();
        let (one, two) = (provider.start("x", Timestamp(5)), provider.start("x", Timestamp(5)));
        for (state, at) in [(&two.pending.state, 5), (&String::new(), 5), (&one.pending.state, 6 + PENDING_US)] {
            assert_eq!(provider.finish(&one.pending, state, "code", Timestamp(at)), Err(OidcError::Stale));
        }
        assert!(one.pending.is_answered_by(&one.pending.state, Timestamp(5 + PENDING_US)));
    }

    #[test]
    fn user_information_of_somebody_else_is_refused_and_the_token_goes_before() {
        let map = |value: Value| value.as_object().cloned().expect("an object");
        let told = map(json!({ "sub": "1", "groups": ["a"] }));
        let more = map(json!({ "sub": "1", "groups": ["root"], "email": "a@example.com" }));
        let all = merged(told.clone(), more).expect("the same");
        assert_eq!(Value::Object(all), json!({ "sub": "1", "groups": ["a"], "email": "a@example.com" }));
        assert!(merged(told.clone(), map(json!({ "sub": "2" }))).is_err());
        assert!(merged(told.clone(), map(json!({ "groups": ["root"] }))).is_err());
        assert_eq!(merged(told.clone(), Map::new()), Ok(told));
    }
}
