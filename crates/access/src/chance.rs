//! Chance and sums: ids nobody guesses, and SHA-256 for what is kept of them.

use aws_lc_rs::{digest, rand};

/// Bytes nobody guesses.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // The library ends the process itself when the kernel has no entropy, so there is nobody to tell.
    rand::fill(&mut bytes).expect("the library has random bytes or does not return");
    bytes
}

/// A new id: 16 hexadecimal digits.
pub fn id() -> String {
    hex(&random::<8>())
}

/// SHA-256 of a text in hexadecimal digits.
pub fn sha256(text: &str) -> String {
    hex(digest::digest(&digest::SHA256, text.as_bytes()).as_ref())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

/// The bytes of hexadecimal digits; `None` for anything else.
pub(crate) fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != 2 * N || !text.is_ascii() {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(bytes)
}

/// Whether two texts are the same, in a time that does not tell where they differ.
pub(crate) fn same(a: &str, b: &str) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(a.as_bytes(), b.as_bytes()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_digits_come_back_as_bytes_and_nothing_else_does() {
        let bytes = random::<32>();
        assert_eq!(unhex::<32>(&hex(&bytes)), Some(bytes));
        assert!(unhex::<2>("00f").is_none() && unhex::<2>("00zz").is_none() && unhex::<1>("é").is_none());
        assert_eq!(sha256(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
