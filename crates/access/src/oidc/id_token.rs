//! Whether an ID token is to be trusted: signature, issuer, audience, time, nonce.

use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::{Map, Value};

use super::OidcConfig;
use crate::chance::same;

/// Signatures that are taken: none that a client secret, or nothing at all, could make.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];
/// Seconds that two clocks may differ.
const LEEWAY: u64 = 60;

/// The claims of a token that the issuer made now, for us, for this sign-in; else why not.
pub(super) fn verified(
    token: &str,
    keys: &JwkSet,
    config: &OidcConfig,
    nonce: &str,
) -> Result<Map<String, Value>, String> {
    let header = decode_header(token).map_err(|error| format!("its token cannot be read: {error}"))?;
    if !ALGORITHMS.contains(&header.alg) {
        return Err(format!("its token is signed with {:?}, which proves nothing", header.alg));
    }
    let mut validation = Validation::new(header.alg);
    validation.leeway = LEEWAY;
    validation.validate_nbf = true;
    validation.set_issuer(&[&config.issuer]);
    validation.set_audience(&[&config.client_id]);
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    let key = key(keys, header.kid.as_deref()).ok_or("its token is signed with a key that it does not name")?;
    let key = DecodingKey::from_jwk(key).map_err(|error| format!("its key cannot be used: {error}"))?;
    let claims =
        decode::<Map<String, Value>>(token, &key, &validation).map_err(|error| format!("its token: {error}"))?;
    let claims = claims.claims;
    is_for(&claims, &config.client_id)?;
    match claims.get("nonce").and_then(Value::as_str) {
        Some(known) if same(known, nonce) => Ok(claims),
        _ => Err("its token was made for another sign-in".into()),
    }
}

/// The key of this name; without a name the only one.
fn key<'a>(keys: &'a JwkSet, kid: Option<&str>) -> Option<&'a Jwk> {
    let signs = |key: &&Jwk| !matches!(key.common.public_key_use, Some(PublicKeyUse::Encryption));
    let mut signing = keys.keys.iter().filter(signs);
    match kid {
        Some(kid) => signing.find(|key| key.common.key_id.as_deref() == Some(kid)),
        None => signing.next().filter(|_| signing.next().is_none()),
    }
}

/// Of several audiences, the one that asked must be us.
fn is_for(claims: &Map<String, Value>, client_id: &str) -> Result<(), String> {
    let several = claims.get("aud").and_then(Value::as_array).is_some_and(|all| all.len() > 1);
    match claims.get("azp").map(Value::as_str) {
        None if !several => Ok(()),
        Some(Some(party)) if party == client_id => Ok(()),
        _ => Err("its token was made for another program".into()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::json;

    use super::*;

    /// An issuer's key: private, and as it publishes it.
    fn pair(kid: &str) -> (EncodingKey, JwkSet) {
        let private =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).expect("a key");
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, private.as_ref()).expect("a key");
        let point = pair.public_key().as_ref();
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let key = json!({ "kty": "EC", "crv": "P-256", "kid": kid, "x": text(&point[1..33]), "y": text(&point[33..]) });
        let keys = serde_json::from_value(json!({ "keys": [key] })).expect("keys");
        (EncodingKey::from_ec_der(private.as_ref()), keys)
    }

    fn config() -> OidcConfig {
        OidcConfig { issuer: "https://id.example.com".into(), client_id: "pace".into(), ..OidcConfig::default() }
    }

    fn seconds() -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
    }

    /// A good token with one claim changed; `null` takes it away.
    fn claims(name: &str, value: Value) -> Value {
        let mut all =
            json!({ "iss": "https://id.example.com", "aud": "pace", "sub": "1", "nonce": "n", "exp": seconds() + 300 });
        all[name] = value;
        all.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
        all
    }

    fn signed(key: &EncodingKey, kid: Option<&str>, claims: &Value) -> String {
        encode(&Header { kid: kid.map(str::to_owned), ..Header::new(Algorithm::ES256) }, claims, key).expect("signed")
    }

    #[test]
    fn a_token_is_taken_from_the_issuer_for_us_now_for_this_sign_in_only() {
        let (key, keys) = pair("a");
        let verdict =
            |name: &str, value: Value| verified(&signed(&key, Some("a"), &claims(name, value)), &keys, &config(), "n");
        for good in [("email", json!("a@example.com")), ("aud", json!(["pace"])), ("azp", json!("pace"))] {
            assert_eq!(verdict(good.0, good.1).expect("good")["sub"], "1");
        }
        let bad = [
            ("iss", json!("https://evil.example.com")),
            ("iss", Value::Null),
            ("aud", json!("another")),
            ("aud", json!(["another", "third"])),
            ("aud", json!(["pace", "another"])),
            ("aud", Value::Null),
            ("azp", json!("another")),
            ("azp", json!(["pace"])),
            ("exp", json!(seconds() - LEEWAY - 5)),
            ("exp", Value::Null),
            ("nbf", json!(seconds() + LEEWAY + 60)),
            ("nonce", json!("other")),
            ("nonce", Value::Null),
            ("nonce", json!(["n"])),
            ("sub", Value::Null),
        ];
        for (name, value) in bad {
            assert!(verdict(name, value.clone()).is_err(), "{name}: {value}");
        }
    }

    #[test]
    fn a_signature_of_another_key_is_refused() {
        let ((key, keys), (other, others)) = (pair("a"), pair("a"));
        let good = claims("email", Value::Null);
        assert!(verified(&signed(&key, Some("a"), &good), &keys, &config(), "n").is_ok());
        assert!(verified(&signed(&key, None, &good), &keys, &config(), "n").is_ok(), "the only key");
        assert!(verified(&signed(&other, Some("a"), &good), &keys, &config(), "n").is_err());
        assert!(verified(&signed(&key, Some("b"), &good), &keys, &config(), "n").is_err());
        let both = JwkSet { keys: [keys.keys, others.keys].concat() };
        assert!(verified(&signed(&key, None, &good), &both, &config(), "n").is_err(), "which of both is not said");
    }

    #[test]
    fn a_token_without_signature_or_signed_with_what_everybody_knows_is_refused() {
        let (_, keys) = pair("a");
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let good = claims("email", Value::Null);
        for alg in ["none", "None", "ES256", ""] {
            let token = format!("{}.{}.", part(&json!({ "alg": alg, "kid": "a" })), part(&good));
            assert!(verified(&token, &keys, &config(), "n").is_err(), "{alg}");
        }
        // The public key as the secret of an HMAC, and a set with a symmetric key.
        let known = serde_json::to_vec(&keys.keys[0]).expect("JSON");
        let header = Header { kid: Some("a".into()), ..Header::new(Algorithm::HS256) };
        let token = encode(&header, &good, &EncodingKey::from_secret(&known)).expect("signed");
        assert!(verified(&token, &keys, &config(), "n").is_err());
        let symmetric = json!({ "keys": [{ "kty": "oct", "kid": "a", "k": URL_SAFE_NO_PAD.encode(&known) }] });
        let symmetric = serde_json::from_value(symmetric).expect("keys");
        assert!(verified(&token, &symmetric, &config(), "n").is_err());
        for nonsense in ["", ".", "..", "a.b.c", &"x".repeat(100_000)] {
            assert!(verified(nonsense, &keys, &config(), "n").is_err());
        }
    }
}
