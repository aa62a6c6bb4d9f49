//! Questions to an issuer: over HTTPS, bounded in length and time, without redirects.

use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::Agent;
use ureq::http::{self, Request, Uri};
use ureq::tls::{RootCerts, TlsConfig, TlsProvider};

/// Length of an answer of an issuer.
const ANSWER_BYTES_MAX: u64 = 1 << 20;
/// How long an issuer may take for each answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Characters of what it says about a failure that are told on.
const SAID_CHARS_MAX: usize = 200;

pub(super) fn agent() -> Agent {
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .root_certs(RootCerts::PlatformVerifier)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .build();
    let config = Agent::config_builder().tls_config(tls).http_status_as_error(false).max_redirects(0);
    config.timeout_global(Some(ANSWER_WITHIN)).build().into()
}

/// The JSON that it answers with.
pub(super) fn answer<T: DeserializeOwned>(agent: &Agent, request: http::Result<Request<String>>) -> Result<T, String> {
    let request = request.map_err(|error| error.to_string())?;
    check(&request.uri().to_string())?;
    let has_body = !request.body().is_empty();
    let asked = if has_body { agent.run(request) } else { agent.run(request.map(|_| ())) };
    let mut answer = asked.map_err(|error| error.to_string())?;
    let status = answer.status().as_u16();
    let read = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string();
    let text = read.map_err(|error| error.to_string())?;
    if status != 200 {
        let said: Value = serde_json::from_str(&text).unwrap_or_default();
        let why = said["error_description"].as_str().or(said["error"].as_str()).unwrap_or_default();
        let why: String = why.chars().take(SAID_CHARS_MAX).collect();
        return Err(format!("it answers {status} {}", why.escape_debug()));
    }
    serde_json::from_str(&text).map_err(|error| format!("its answer is not as it should be: {error}"))
}

/// Without encryption only to this very machine.
pub(super) fn check(address: &str) -> Result<(), String> {
    let uri: Uri = address.parse().map_err(|_| "it names an address that is none".to_owned())?;
    let loopback = matches!(uri.host(), Some("127.0.0.1" | "localhost" | "[::1]"));
    match uri.scheme_str() {
        Some("https") => Ok(()),
        Some("http") if loopback => Ok(()),
        _ => Err(format!("`{uri}` is not https://")),
    }
}

/// Fields as a form has them.
pub(super) fn form(fields: &[(&str, &str)]) -> String {
    let pairs: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect();
    pairs.join("&")
}

pub(super) fn escaped(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;

    /// What is made of one answer.
    fn answered(text: String) -> Result<Value, String> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}/", listener.local_addr().expect("an address"));
        let serving = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a question");
            let _ = stream.read(&mut [0; 4096]);
            // Who has enough hangs up.
            let _ = stream.write_all(text.as_bytes());
        });
        let answer = answer(&agent(), Request::get(address).body(String::new()));
        serving.join().expect("it served");
        answer
    }

    fn whole(status: &str, body: &str) -> String {
        format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    }

    #[test]
    fn an_answer_that_is_too_long_redirected_or_no_json_is_refused() {
        assert_eq!(answered(whole("200 OK", "{\"a\":1}")), Ok(serde_json::json!({ "a": 1 })));
        let long = format!("\"{}\"", "x".repeat(1 << 20));
        assert!(answered(whole("200 OK", &long)).is_err());
        assert!(answered(whole("200 OK", "<html>")).is_err());
        let elsewhere =
            "HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        assert!(answered(elsewhere.into()).expect_err("refused").contains("302"));
        let said = answered(whole("400 Bad Request", "{\"error_description\":\"no\\u001b such code\"}"));
        assert_eq!(said, Err("it answers 400 no\\u{1b} such code".into()));
    }

    #[test]
    fn nothing_goes_over_the_net_unencrypted() {
        assert!(check("https://id.example.com/x").is_ok() && check("http://127.0.0.1:8/x").is_ok());
        for bad in
            ["http://id.example.com/", "http://127.0.0.1.example.com/", "ftp://x/", "/x", "", "http://127.0.0.1@evil/"]
        {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
