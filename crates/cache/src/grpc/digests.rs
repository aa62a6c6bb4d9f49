//! Digests as the protocol writes them, and as the store knows them.

use bazel_remote_apis::build::bazel::remote::execution::v2::{self as api, digest_function::Value};
use blobs::{Function, Key};
use tonic::Status;

/// The digest function of a request; left out it is SHA-256, by the length of the hashes.
pub(crate) fn function(value: i32) -> Result<Function, Status> {
    match Value::try_from(value) {
        Ok(Value::Unknown | Value::Sha256) => Ok(Function::Sha256),
        Ok(Value::Blake3) => Ok(Function::Blake3),
        Ok(other) => Err(unknown_function(other.as_str_name())),
        Err(_) => Err(unknown_function(&format!("number {value}"))),
    }
}

/// The number of a digest function.
pub(crate) fn function_value(function: Function) -> i32 {
    match function {
        Function::Sha256 => Value::Sha256.into(),
        Function::Blake3 => Value::Blake3.into(),
    }
}

/// Reads a digest.
pub(crate) fn key(function: Function, hash: &[u8], size: i64) -> Result<Key, Status> {
    let text = std::str::from_utf8(hash).unwrap_or_default();
    u64::try_from(size).ok().and_then(|size| Key::from_hex(function, text, size)).ok_or_else(|| {
        let shown: String = String::from_utf8_lossy(hash).chars().take(100).collect();
        Status::invalid_argument(format!(
            "`{shown}/{size}` is not a digest; expected 64 lower-case hexadecimal digits and a size that is not negative"
        ))
    })
}

/// Reads a digest that has to be there.
pub(crate) fn required(function: Function, digest: Option<&api::Digest>, what: &str) -> Result<Key, Status> {
    let digest = digest.ok_or_else(|| Status::invalid_argument(format!("the request has no {what}")))?;
    key(function, digest.hash.as_bytes(), digest.size_bytes)
}

/// Writes a digest.
pub(crate) fn digest(key: &Key) -> api::Digest {
    api::Digest { hash: key.hex(), size_bytes: i64::try_from(key.size).unwrap_or(i64::MAX) }
}

fn unknown_function(name: &str) -> Status {
    Status::invalid_argument(format!(
        "digest function {name} is not known here; use SHA256 or BLAKE3, as GetCapabilities says"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_lie_below_zero_and_hashes_of_another_length_are_refused() {
        let hex = Function::Sha256.key_of(b"").hex();
        assert!(key(Function::Sha256, hex.as_bytes(), 0).is_ok());
        for (hash, size) in [(hex.as_str(), -1), (&hex[1..], 0), ("", 0), (&hex.to_uppercase(), 0), ("é", 0)] {
            let told = key(Function::Sha256, hash.as_bytes(), size).expect_err("refused");
            assert!(told.message().contains("is not a digest"), "{told}");
        }
        assert!(key(Function::Sha256, &[0xff; 64], 0).is_err());
        assert!(function(Value::Sha1.into()).is_err() && function(77).is_err());
        assert_eq!(function(Value::Blake3.into()).expect("known"), Function::Blake3);
    }
}
