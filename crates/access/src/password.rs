//! Passwords: argon2id, kept in the PHC form `$argon2id$v=19$m=…,t=…,p=…$salt$sum`.

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use crate::chance::random;

/// Length of a password; longer ones would be work for nothing.
pub const PASSWORD_BYTES_MAX: usize = 1024;
/// Characters of a password at least: NIST SP 800-63B.
pub const PASSWORD_CHARS_MIN: usize = 8;
/// The first choice of OWASP for argon2id: 19 MiB, 2 passes, 1 lane.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// What a kept hash may ask for at most: whoever writes the store must not be able to take all memory.
const MEMORY_KIB_MAX: u32 = 256 * 1024;
const PASSES_MAX: u32 = 16;
const SUM_BYTES: usize = 32;

/// What is kept of a password. Making and checking one takes some 20 ms and 19 MiB: not in an asynchronous task.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    salt: Vec<u8>,
    sum: Vec<u8>,
}

impl PasswordHash {
    /// Of a new password.
    pub fn of(password: &str) -> PasswordHash {
        let salt = random::<16>().to_vec();
        let hash = PasswordHash { memory_kib: MEMORY_KIB, passes: PASSES, lanes: LANES, salt, sum: Vec::new() };
        let sum = hash.sum(password).unwrap_or_default();
        PasswordHash { sum, ..hash }
    }

    /// Reads what was kept; `None` for anything else.
    pub fn read(text: &str) -> Option<PasswordHash> {
        let mut parts = text.strip_prefix("$argon2id$v=19$")?.split('$');
        let mut numbers = parts.next()?.split(',');
        let mut number = |name: &str, max: u32| -> Option<u32> {
            numbers.next()?.strip_prefix(name)?.parse().ok().filter(|number| *number <= max)
        };
        let (memory_kib, passes, lanes) = (number("m=", MEMORY_KIB_MAX)?, number("t=", PASSES_MAX)?, number("p=", 16)?);
        let salt = STANDARD_NO_PAD.decode(parts.next()?).ok()?;
        let sum = STANDARD_NO_PAD.decode(parts.next()?).ok().filter(|sum| sum.len() == SUM_BYTES)?;
        parts.next().is_none().then_some(PasswordHash { memory_kib, passes, lanes, salt, sum })
    }

    /// Whether it is the password's.
    pub fn is_of(&self, password: &str) -> bool {
        password.len() <= PASSWORD_BYTES_MAX
            && self
                .sum(password)
                .is_some_and(|sum| aws_lc_rs::constant_time::verify_slices_are_equal(&sum, &self.sum).is_ok())
    }

    /// Takes as long as [`PasswordHash::is_of`] and is always false: for users that are not there, so that nobody learns which
    /// are.
    pub fn is_nobodys(password: &str) -> bool {
        let nobody =
            PasswordHash { memory_kib: MEMORY_KIB, passes: PASSES, lanes: LANES, salt: vec![0; 16], sum: Vec::new() };
        nobody.is_of(password)
    }

    fn sum(&self, password: &str) -> Option<Vec<u8>> {
        let params = Params::new(self.memory_kib, self.passes, self.lanes, Some(SUM_BYTES)).ok()?;
        let mut sum = vec![0; SUM_BYTES];
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        argon2.hash_password_into(password.as_bytes(), &self.salt, &mut sum).ok()?;
        Some(sum)
    }
}

impl std::fmt::Display for PasswordHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let PasswordHash { memory_kib, passes, lanes, salt, sum } = self;
        let (salt, sum) = (STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(sum));
        write!(f, "$argon2id$v=19$m={memory_kib},t={passes},p={lanes}${salt}${sum}")
    }
}

impl std::fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}

/// Why this cannot be somebody's password, if so.
pub fn password_problem(password: &str, user: &str) -> Option<String> {
    if password.chars().count() < PASSWORD_CHARS_MIN {
        return Some(format!("a password has at least {PASSWORD_CHARS_MIN} characters"));
    }
    if password.len() > PASSWORD_BYTES_MAX {
        return Some(format!("a password has at most {PASSWORD_BYTES_MAX} bytes"));
    }
    let same = password.chars().all(|c| password.starts_with(c));
    let known = ["password", "12345678", "123456789", "1234567890", "qwertyui", "passw0rd", "paceline"];
    let lower = password.to_lowercase();
    (same || known.contains(&lower.as_str()) || lower == user.to_lowercase())
        .then(|| "this password is among the first that anybody tries; take another".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_its_own_and_survives_being_kept() {
        let kept = PasswordHash::of("correct horse").to_string();
        let hash = PasswordHash::read(&kept).expect("it is one");
        assert!(hash.is_of("correct horse") && !hash.is_of("correct horse ") && !hash.is_of(""));
        assert!(kept.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert_ne!(kept, PasswordHash::of("correct horse").to_string(), "each has its own salt");
        assert!(!PasswordHash::is_nobodys("correct horse"));
    }

    #[test]
    fn a_hash_of_the_reference_implementation_is_read() {
        // `echo -n password | argon2 somesalt -id -t 2 -m 16 -p 1 -l 32` of the reference implementation's own tests.
        let kept = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        assert!(PasswordHash::read(kept).expect("it is one").is_of("password"));
    }

    #[test]
    fn what_would_take_all_memory_or_is_no_hash_is_not_read() {
        for text in [
            "",
            "$argon2id$v=19$m=4000000,t=2,p=1$c29tZXNhbHQ$AAAA",
            "$argon2i$v=19$m=1,t=1,p=1$$",
            "$argon2id$v=19$m=1",
        ] {
            assert!(PasswordHash::read(text).is_none(), "{text}");
        }
    }

    #[test]
    fn short_and_common_passwords_are_refused() {
        for bad in ["", "short", "aaaaaaaaaa", "Password", "annasmith", &"x".repeat(1025)] {
            assert!(password_problem(bad, "annasmith").is_some(), "{bad}");
        }
        assert_eq!(password_problem("correct horse", "anna"), None);
    }
}
