//! Versions by semver.org 2.0.0.

use alloc::string::String;
use core::cmp::Ordering;
use core::fmt;

/// A version; compares by precedence (build metadata is not compared).
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Semver {
    /// First number.
    pub major: u64,
    /// Second number.
    pub minor: u64,
    /// Third number.
    pub patch: u64,
    /// After `-`, dot-separated; empty for a release.
    pub pre: String,
    /// After `+`.
    pub build: String,
}

impl Semver {
    /// Reads `1.2.3`, `1.2.3-rc.1+linux`; also with a `v` before it, because tags are written so.
    ///
    /// # Errors
    /// Why it is not a version: half a sentence, to come after "… is not a version: ".
    pub fn parse(text: &str) -> Result<Semver, &'static str> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let (text, build) = text.split_once('+').map_or((text, None), |(text, build)| (text, Some(build)));
        let (core, pre) = text.split_once('-').map_or((text, None), |(core, pre)| (core, Some(pre)));
        let mut numbers = core.split('.');
        let mut number = || number(numbers.next().ok_or(THREE_NUMBERS)?);
        let (major, minor, patch) = (number()?, number()?, number()?);
        if numbers.next().is_some() {
            return Err(THREE_NUMBERS);
        }
        for part in pre.into_iter().flat_map(|pre| pre.split('.')) {
            identifier(part)?;
            if part.len() > 1 && part.starts_with('0') && part.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err("a number in it starts with 0");
            }
        }
        build.into_iter().flat_map(|build| build.split('.')).try_for_each(identifier)?;
        Ok(Semver { major, minor, patch, pre: pre.unwrap_or("").into(), build: build.unwrap_or("").into() })
    }

    /// The order of releases: `1.0.0-alpha` < `1.0.0-alpha.1` < `1.0.0-beta` < `1.0.0` = `1.0.0+linux`.
    pub fn precedence(&self, other: &Semver) -> Ordering {
        let numbers = |v: &Semver| (v.major, v.minor, v.patch);
        numbers(self).cmp(&numbers(other)).then_with(|| match (self.pre.is_empty(), other.pre.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => pre_release(&self.pre, &other.pre),
        })
    }
}

impl fmt::Display for Semver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)?;
        if !self.pre.is_empty() {
            write!(f, "-{}", self.pre)?;
        }
        if !self.build.is_empty() {
            write!(f, "+{}", self.build)?;
        }
        Ok(())
    }
}

const THREE_NUMBERS: &str = "a version has three numbers, like `1.2.3`";

fn number(text: &str) -> Result<u64, &'static str> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(THREE_NUMBERS);
    }
    if text.len() > 1 && text.starts_with('0') {
        return Err("a number in it starts with 0");
    }
    text.parse().map_err(|_| "a number in it is too large")
}

fn identifier(part: &str) -> Result<(), &'static str> {
    let fine = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if fine { Ok(()) } else { Err("what follows `-` or `+` are letters, digits and `-`, with dots between") }
}

fn pre_release(left: &str, right: &str) -> Ordering {
    let (mut left, mut right) = (left.split('.'), right.split('.'));
    loop {
        let order = match (left.next(), right.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => Ordering::Less,
            (Some(_), None) => Ordering::Greater,
            (Some(left), Some(right)) => identifiers(left, right),
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// Numbers by value and before words. A number may be longer than any integer: without leading zeros the longer one
/// is the larger one.
fn identifiers(left: &str, right: &str) -> Ordering {
    let numeric = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    match (numeric(left), numeric(right)) {
        (true, true) => left.len().cmp(&right.len()).then_with(|| left.cmp(right)),
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
        (false, false) => left.cmp(right),
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn versions_are_ordered_as_semver_org_says() {
        let rising = [
            "0.9.9",
            "1.0.0-1",
            "1.0.0-99999999999999999999999",
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-alpha.beta",
            "1.0.0-beta",
            "1.0.0-beta.2",
            "1.0.0-beta.11",
            "1.0.0-rc.1",
            "1.0.0",
            "1.0.1",
            "1.2.0",
            "1.10.0",
            "v2.0.0",
        ];
        let versions = rising.map(|text| Semver::parse(text).expect(text));
        for (i, left) in versions.iter().enumerate() {
            for (j, right) in versions.iter().enumerate() {
                assert_eq!(left.precedence(right), i.cmp(&j), "{left} {right}");
            }
        }
        let built = Semver::parse("1.0.0+linux.5").expect("version");
        assert_eq!(built.precedence(&versions[10]), Ordering::Equal);
        assert_eq!(Semver::parse("v1.2.3-rc.1+b").expect("version").to_string(), "1.2.3-rc.1+b");
    }

    #[test]
    fn what_is_no_version_is_refused() {
        let bad = [
            "",
            "1",
            "1.2",
            "1.2.3.4",
            "01.2.3",
            "1.2.x",
            "1.2.3-",
            "1.2.3-01",
            "1.2.3-a..b",
            "1.2.3+",
            "1.2.3+a_b",
            "-1.2.3",
            "1.2.99999999999999999999",
            "vv1.2.3",
            " 1.2.3",
        ];
        for text in bad {
            assert!(Semver::parse(text).is_err(), "{text}");
        }
    }
}
