//! Whether a delivery comes from who it says: a check of the raw body in constant time.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, header};

use crate::Kind;

/// Length of a delivery's id in bytes; a longer one is replaced by its hash.
const ID_BYTES_MAX: usize = 128;
/// Length of a header's value that is kept, in bytes.
const HEADER_BYTES_MAX: usize = 1024;

/// Why a delivery is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Forged {
    /// The project has no secret, so nothing can be believed.
    #[error("the project has no webhook secret; set one, and the same at the forge")]
    NoSecret,
    /// Nothing is signed.
    #[error("the delivery is not signed; give the forge's webhook the project's secret")]
    Unsigned,
    /// It is signed with something else.
    #[error("the signature does not fit; the forge's webhook has another secret than the project")]
    Wrong,
}

/// Checks a delivery against a project's secret, on the body as it came. Takes as long for a wrong signature as for a
/// right one.
///
/// # Errors
/// It is not signed, or with another secret.
pub fn verify(kind: Kind, secret: &str, headers: &HeaderMap, body: &[u8]) -> Result<(), Forged> {
    if secret.is_empty() {
        return Err(Forged::NoSecret);
    }
    for name in signatures(kind) {
        if let Some(value) = headers.get(*name) {
            let hex = value.as_bytes();
            return signed(secret, hex.strip_prefix(b"sha256=").unwrap_or(hex), body);
        }
    }
    match token(kind, headers) {
        Some(token) => same_token(secret, &token),
        None => Err(Forged::Unsigned),
    }
}

/// What [`verify`] expects in `X-Paceline-Signature`: `sha256=…`.
pub fn sign(secret: &str, body: &[u8]) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), body);
    format!("sha256={}", hex(tag.as_ref()))
}

/// Headers with an HMAC-SHA-256 of the body in hexadecimal digits. SHA-1 (`X-Hub-Signature` of GitHub) is never looked at.
fn signatures(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::GitHub => &["x-hub-signature-256"],
        Kind::Gitea => &["x-hub-signature-256", "x-forgejo-signature", "x-gitea-signature"],
        Kind::Bitbucket => &["x-hub-signature-256", "x-hub-signature"],
        Kind::GitLab => &[],
        Kind::Generic | Kind::Git => &["x-paceline-signature", "x-hub-signature-256"],
    }
}

/// The secret itself, where that is what is sent.
fn token(kind: Kind, headers: &HeaderMap) -> Option<Vec<u8>> {
    let plain = |name: &str| headers.get(name).map(|value| value.as_bytes().to_vec());
    match kind {
        Kind::GitLab => plain("x-gitlab-token"),
        Kind::Generic | Kind::Git => plain("x-paceline-token").or_else(|| {
            let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
            match value.split_once(' ')? {
                (scheme, token) if scheme.eq_ignore_ascii_case("bearer") => Some(token.trim().as_bytes().to_vec()),
                // `curl -u :secret`: the password is the token.
                (scheme, pair) if scheme.eq_ignore_ascii_case("basic") => {
                    let pair = STANDARD.decode(pair.trim()).ok()?;
                    let colon = pair.iter().position(|byte| *byte == b':')?;
                    Some(pair[colon + 1..].to_vec())
                }
                _ => None,
            }
        }),
        Kind::GitHub | Kind::Gitea | Kind::Bitbucket => None,
    }
}

fn signed(secret: &str, hex: &[u8], body: &[u8]) -> Result<(), Forged> {
    // Something is always computed, so that a malformed signature takes as long as a wrong one.
    let tag = unhex(hex).unwrap_or([0; 32]);
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    hmac::verify(&key, body, &tag).map_err(|_| Forged::Wrong)
}

/// Hashes are compared, so that the length of the secret does not show either.
fn same_token(secret: &str, token: &[u8]) -> Result<(), Forged> {
    let hash = |bytes: &[u8]| digest::digest(&digest::SHA256, bytes);
    let (ours, theirs) = (hash(secret.as_bytes()), hash(token));
    verify_slices_are_equal(ours.as_ref(), theirs.as_ref()).map_err(|_| Forged::Wrong)
}

/// What makes a delivery one and the same however often it is sent: the forge's id, or a hash of the body where the forge
/// gives none. Printable, without spaces and slashes, at most 128 bytes.
pub fn delivery_id(kind: Kind, headers: &HeaderMap, body: &[u8]) -> String {
    let named = |names: &[&str]| names.iter().find_map(|name| headers.get(*name)?.to_str().ok()).map(str::to_owned);
    let id = match kind {
        Kind::GitHub => named(&["x-github-delivery"]),
        Kind::Gitea => named(&["x-forgejo-delivery", "x-gitea-delivery", "x-github-delivery"]),
        // One event may set off another under the same id (a recursive webhook), so the body is part of it.
        Kind::GitLab => named(&["idempotency-key"])
            .or_else(|| Some(format!("{}-{}", named(&["x-gitlab-event-uuid"])?, &hash(body)[..16]))),
        Kind::Bitbucket => named(&["x-request-uuid", "x-request-id"]),
        Kind::Generic | Kind::Git => named(&["x-paceline-delivery", "idempotency-key"]),
    };
    let fits = |id: &String| {
        !id.is_empty() && id.len() <= ID_BYTES_MAX && id.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/')
    };
    match id {
        Some(id) if fits(&id) => id,
        Some(id) => hash(id.as_bytes()),
        None => hash(body),
    }
}

/// The headers that are worth keeping with a delivery, names in lower case. None of them holds a secret.
pub fn kept_headers(headers: &HeaderMap) -> Vec<(String, String)> {
    const NAMES: [&str; 15] = [
        "content-type",
        "user-agent",
        "x-github-event",
        "x-github-delivery",
        "x-gitlab-event",
        "x-gitlab-event-uuid",
        "x-gitea-event",
        "x-gitea-event-type",
        "x-gitea-delivery",
        "x-forgejo-event",
        "x-forgejo-delivery",
        "x-event-key",
        "x-request-uuid",
        "x-request-id",
        "x-paceline-delivery",
    ];
    let kept = NAMES.into_iter().filter_map(|name| {
        let value = headers.get(name)?.to_str().ok()?;
        (value.len() <= HEADER_BYTES_MAX).then(|| (name.to_owned(), value.to_owned()))
    });
    kept.collect()
}

pub(crate) fn hash(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(hex: &[u8]) -> Option<[u8; 32]> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut bytes = [0; 32];
    if hex.len() != 64 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BODY: &[u8] = b"{\"ref\":\"refs/heads/main\"}";

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn every_forge_is_believed_with_its_own_signature_and_not_without() {
        let prefixed = sign("s3cret", BODY);
        let bare = prefixed.trim_start_matches("sha256=");
        for (kind, name, value) in [
            (Kind::GitHub, "x-hub-signature-256", prefixed.as_str()),
            (Kind::Gitea, "x-gitea-signature", bare),
            (Kind::Gitea, "x-forgejo-signature", bare),
            (Kind::Bitbucket, "x-hub-signature", prefixed.as_str()),
            (Kind::GitLab, "x-gitlab-token", "s3cret"),
            (Kind::Generic, "x-paceline-signature", prefixed.as_str()),
            (Kind::Git, "x-paceline-token", "s3cret"),
            (Kind::Git, "authorization", "Bearer s3cret"),
            (Kind::Git, "authorization", "Basic OnMzY3JldA=="),
        ] {
            let good = headers(&[(name, value)]);
            assert_eq!(verify(kind, "s3cret", &good, BODY), Ok(()), "{kind} {name}");
            assert_eq!(verify(kind, "another", &good, BODY), Err(Forged::Wrong), "{kind} {name}");
            assert_eq!(verify(kind, "s3cret", &HeaderMap::new(), BODY), Err(Forged::Unsigned), "{kind} {name}");
            assert_eq!(verify(kind, "", &good, BODY), Err(Forged::NoSecret), "{kind} {name}");
            if !name.ends_with("token") && name != "authorization" {
                assert_eq!(verify(kind, "s3cret", &good, b"{}"), Err(Forged::Wrong), "{kind} {name}");
            }
        }
    }

    #[test]
    fn the_signature_is_the_one_that_github_documents() {
        // The example of GitHub's page on validating deliveries.
        let said = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        assert_eq!(sign("It's a Secret to Everybody", b"Hello, World!"), said);
    }

    #[test]
    fn a_token_is_no_signature_and_sha_1_is_none() {
        let sneaky = headers(&[("x-gitlab-token", "s3cret"), ("x-paceline-token", "s3cret")]);
        assert_eq!(verify(Kind::GitHub, "s3cret", &sneaky, BODY), Err(Forged::Unsigned));
        let old = headers(&[("x-hub-signature", "sha1=757107ea0eb2509fc211221cce984b8a37570b6d")]);
        assert_eq!(verify(Kind::GitHub, "s3cret", &old, BODY), Err(Forged::Unsigned));
        assert_eq!(verify(Kind::Bitbucket, "s3cret", &old, BODY), Err(Forged::Wrong));
    }

    #[test]
    fn a_delivery_has_one_id_however_often_it_comes() {
        let github = headers(&[("x-github-delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958")]);
        assert_eq!(delivery_id(Kind::GitHub, &github, BODY), "72d3162e-cc78-11e3-81ab-4c9367dc0958");
        let none = HeaderMap::new();
        assert_eq!(delivery_id(Kind::Git, &none, BODY), delivery_id(Kind::Git, &none, BODY));
        assert_ne!(delivery_id(Kind::Git, &none, BODY), delivery_id(Kind::Git, &none, b"{}"));
        let recursive = headers(&[("x-gitlab-event-uuid", "13792a34")]);
        assert_ne!(delivery_id(Kind::GitLab, &recursive, BODY), delivery_id(Kind::GitLab, &recursive, b"{}"));
        let hostile = headers(&[("x-github-delivery", "../../x y")]);
        assert_eq!(delivery_id(Kind::GitHub, &hostile, BODY).len(), 64);
    }

    #[test]
    fn no_secret_is_kept_with_a_delivery() {
        let all = headers(&[
            ("x-gitlab-token", "s3cret"),
            ("x-paceline-token", "s3cret"),
            ("authorization", "Bearer s3cret"),
            ("x-gitlab-event", "Push Hook"),
        ]);
        assert_eq!(kept_headers(&all), [("x-gitlab-event".to_owned(), "Push Hook".to_owned())]);
    }

    proptest! {
        #[test]
        fn whatever_a_header_says_only_the_right_signature_is_believed(value in "[ -~]{0,100}", body: Vec<u8>) {
            let headers: HeaderMap = ["x-hub-signature-256", "x-hub-signature", "x-gitea-signature", "x-gitlab-token",
                "x-paceline-signature", "x-paceline-token", "authorization", "x-github-delivery"]
                .into_iter().map(|name| (http::HeaderName::from_static(name), value.parse().unwrap())).collect();
            for kind in [Kind::GitHub, Kind::GitLab, Kind::Gitea, Kind::Bitbucket, Kind::Generic, Kind::Git] {
                prop_assert!(verify(kind, "a secret that is longer than any guess", &headers, &body).is_err());
                let id = delivery_id(kind, &headers, &body);
                prop_assert!(!id.is_empty() && id.len() <= ID_BYTES_MAX && !id.contains('/'));
            }
        }
    }
}
