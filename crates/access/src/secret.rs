//! Secrets of a project: for all of it, for an environment, for branches. Written, never read back by people.

use model::{Glob, Record, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{Keys, Micros, SealError};

/// Length of a secret's value.
pub const SECRET_BYTES_MAX: usize = 64 * 1024;
/// Versions of a secret that are kept; the newest is used.
pub const SECRET_VERSIONS_MAX: usize = 5;

/// A secret: one name in one scope.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SecretRecord {
    /// The project.
    pub project: String,
    /// Its name: `REGISTRY_TOKEN`.
    pub name: String,
    /// The environment it is for; empty: any.
    pub environment: String,
    /// A glob of branches it is for; empty: any, and runs without a branch.
    pub branches: String,
    /// Its versions, the newest last.
    pub versions: Vec<SecretVersion>,
}

/// A value of a secret.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SecretVersion {
    /// Counted from 1.
    pub number: u32,
    /// The value, sealed.
    pub sealed: String,
    /// When it was written.
    pub at_us: Micros,
    /// By whom.
    pub by: String,
}

/// For what a secret is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct For<'a> {
    /// The environment, or empty.
    pub environment: &'a str,
    /// The branch, or empty.
    pub branch: &'a str,
    /// A stranger's pull request: gets none.
    pub fork: bool,
}

impl Record for SecretRecord {
    const KIND: &'static str = "secret";
    fn key(&self) -> String {
        format!("{}:{}:{}:{}", self.project, self.name, self.environment, self.branches)
    }
}

impl SecretRecord {
    /// What all keys of a project's secrets begin with.
    pub fn prefix(project: &str) -> String {
        format!("{project}:")
    }

    /// Adds a value; the oldest goes when there are too many.
    ///
    /// # Errors
    /// As [`Keys::seal`].
    pub fn put(&mut self, keys: &Keys, value: &[u8], by: &str, now: Timestamp) -> Result<u32, SealError> {
        let number = self.versions.last().map_or(1, |last| last.number.saturating_add(1));
        let sealed = keys.seal(&self.context(), value)?;
        self.versions.push(SecretVersion { number, sealed, at_us: now.0, by: by.into() });
        let over = self.versions.len().saturating_sub(SECRET_VERSIONS_MAX);
        self.versions.drain(..over);
        Ok(number)
    }

    /// The newest value.
    ///
    /// # Errors
    /// As [`Keys::open`].
    pub fn open(&self, keys: &Keys) -> Result<Vec<u8>, SealError> {
        let newest = self.versions.last().ok_or(SealError::Broken)?;
        keys.open(&self.context(), &newest.sealed)
    }

    /// Wraps all versions with the first key. Whether that changed anything.
    ///
    /// # Errors
    /// As [`Keys::open`].
    pub fn rewrap(&mut self, keys: &Keys) -> Result<bool, SealError> {
        let context = self.context();
        let mut changed = false;
        for version in &mut self.versions {
            if let Some(sealed) = keys.rewrap(&context, &version.sealed)? {
                (version.sealed, changed) = (sealed, true);
            }
        }
        Ok(changed)
    }

    fn context(&self) -> String {
        format!("secret/{}", self.key())
    }

    /// How narrow its scope is, if it is one for this.
    fn fits(&self, wanted: &For<'_>) -> Option<u8> {
        let environment = self.environment.is_empty() || self.environment == wanted.environment;
        let branch = self.branches.is_empty()
            || (!wanted.branch.is_empty() && Glob::parse(&self.branches).is_ok_and(|glob| glob.matches(wanted.branch)));
        let narrow = 2 * u8::from(!self.environment.is_empty()) + u8::from(!self.branches.is_empty());
        (environment && branch && !wanted.fork).then_some(narrow)
    }
}

/// The secret of a name for something: the one with the narrowest scope that fits, an environment counting more than a branch.
pub fn choose<'a>(secrets: &'a [SecretRecord], name: &str, wanted: &For<'_>) -> Option<&'a SecretRecord> {
    let fitting = secrets.iter().filter(|secret| secret.name == name);
    fitting
        .filter_map(|secret| Some((secret.fits(wanted)?, secret)))
        .max_by_key(|(narrow, _)| *narrow)
        .map(|(_, secret)| secret)
}

/// Why this cannot be a secret, if so.
pub fn secret_problem(name: &str, environment: &str, branches: &str, value: &[u8]) -> Option<String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || name.len() > 128 || !name.chars().all(word) || name.starts_with(|c: char| c.is_ascii_digit())
    {
        return Some("the name of a secret is 1 to 128 of A-Z a-z 0-9 _ and begins with no digit".into());
    }
    if environment.len() > 64 || !environment.chars().all(|c| word(c) || "-.".contains(c)) {
        return Some("an environment is at most 64 of A-Z a-z 0-9 _ - .".into());
    }
    if !branches.is_empty()
        && let Err(why) = Glob::parse(branches)
    {
        return Some(format!(
            "`{}` is no pattern of branches: {why}",
            branches.chars().take(80).collect::<String>().escape_debug()
        ));
    }
    if branches.starts_with('!') || branches.len() > 256 {
        return Some("a pattern of branches says which, not which not, in at most 256 bytes".into());
    }
    match value.len() {
        0 => Some("the value of a secret is not empty".into()),
        SECRET_BYTES_MAX.. => Some(format!("the value of a secret has less than {SECRET_BYTES_MAX} bytes")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(environment: &str, branches: &str) -> SecretRecord {
        let (project, name) = ("web".into(), "TOKEN".into());
        SecretRecord { project, name, environment: environment.into(), branches: branches.into(), versions: Vec::new() }
    }

    #[test]
    fn the_narrowest_scope_wins_and_forks_get_none() {
        let all = [secret("", ""), secret("", "release/**"), secret("prod", ""), secret("prod", "main")];
        let chosen = |environment, branch, fork| {
            let found = choose(&all, "TOKEN", &For { environment, branch, fork });
            found.map(|secret| (secret.environment.as_str(), secret.branches.as_str()))
        };
        assert_eq!(chosen("", "main", false), Some(("", "")));
        assert_eq!(chosen("", "release/1", false), Some(("", "release/**")));
        assert_eq!(chosen("prod", "release/1", false), Some(("prod", "")));
        assert_eq!(chosen("prod", "main", false), Some(("prod", "main")));
        assert_eq!(chosen("", "", false), Some(("", "")), "a run without a branch");
        assert_eq!(chosen("prod", "main", true), None);
        assert_eq!(choose(&all, "OTHER", &For::default()), None);
        assert_eq!(choose(&all[1..2], "TOKEN", &For::default()), None, "a branch's secret is for that branch");
    }

    #[test]
    fn the_newest_of_a_few_versions_is_used() {
        let keys = Keys::random();
        let mut kept = secret("", "");
        for value in 1..=9u32 {
            let number = kept.put(&keys, value.to_string().as_bytes(), "user:anna", Timestamp(1)).expect("sealed");
            assert_eq!(number, value);
        }
        assert_eq!((kept.open(&keys), kept.versions.len()), (Ok(b"9".to_vec()), SECRET_VERSIONS_MAX));
        let moved = SecretRecord { project: "api".into(), ..kept.clone() };
        assert_eq!(moved.open(&keys), Err(SealError::Broken), "it opens in its own project only");
        assert_eq!(kept.rewrap(&keys), Ok(false));
        let as_kept = serde_json::to_string(&kept).expect("JSON");
        assert_eq!(serde_json::from_str::<SecretRecord>(&as_kept).expect("it comes back"), kept);
    }

    #[test]
    fn names_and_patterns_are_checked() {
        assert_eq!(secret_problem("TOKEN", "prod", "release/**", b"x"), None);
        let long = vec![0; SECRET_BYTES_MAX];
        for (name, environment, branches, value) in [
            ("", "", "", &b"x"[..]),
            ("1X", "", "", b"x"),
            ("A:B", "", "", b"x"),
            ("A", "a:b", "", b"x"),
            ("A", "", "[", b"x"),
            ("A", "", "!main", b"x"),
            ("A", "", "", b""),
            ("A", "", "", &long),
        ] {
            assert!(secret_problem(name, environment, branches, value).is_some(), "{name} {environment} {branches}");
        }
    }
}
