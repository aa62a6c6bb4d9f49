//! The file of the tokens: TOML, replaced as a whole, read again when it changed.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::token::{moment, name_problem};
use super::{Rights, Token, instance_problem};

/// Tokens in a file.
pub const TOKENS_MAX: usize = 100_000;
/// Length of the file in bytes: so many tokens with the longest names.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// What the file begins with.
const HEADER: &str = "\
# Tokens of a shared cache. `pace cache token new|ls|revoke` writes this file anew, and a running cache reads it within
# a second. Secrets are not in it: only their SHA-256.
";

/// Why the file of the tokens cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// The file system refuses.
    #[error("cannot {act} the tokens {path}: {source}")]
    Io {
        /// What was tried.
        act: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It says what nobody understands.
    #[error("{path} is no file of tokens: {problem}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and what.
        problem: String,
    },
    /// Everybody on the machine could add a token.
    #[error("{path} may be written by everybody on this machine: `chmod 600` it, and look through its tokens")]
    Writable {
        /// The file.
        path: PathBuf,
    },
    /// There is one of this name, or none.
    #[error("{0}")]
    Name(String),
}

/// All tokens of a cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    tokens: Vec<Token>,
}

/// What tells one state of a file from another; a replaced file has another number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: u64,
    length: u64,
    seconds: i64,
    nanoseconds: i64,
}

impl Stamp {
    /// Of a file as it is now; `None` when there is none.
    pub(super) fn of(path: &Path) -> Option<Stamp> {
        let file = std::fs::metadata(path).ok()?;
        Some(Stamp { inode: file.ino(), length: file.len(), seconds: file.mtime(), nanoseconds: file.mtime_nsec() })
    }
}

impl Tokens {
    /// Reads a file; no file is no tokens.
    ///
    /// # Errors
    /// It cannot be read, everybody may write it, or it says what nobody understands.
    pub fn read(path: &Path) -> Result<Tokens, TokensError> {
        let unreadable = |source| TokensError::Io { act: "read", path: path.to_owned(), source };
        let unclear = |problem| TokensError::Parse { path: path.to_owned(), problem };
        let file = match std::fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Tokens::default()),
            file => file.map_err(unreadable)?,
        };
        if file.mode() & 0o002 != 0 {
            return Err(TokensError::Writable { path: path.to_owned() });
        }
        if file.len() > FILE_BYTES_MAX {
            return Err(unclear(format!("it has {} bytes, and at most {FILE_BYTES_MAX} are read", file.len())));
        }
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        Tokens::parse(&text).map_err(unclear)
    }

    /// Changes a file under a lock, so that two who do it at once lose nothing; it is replaced in one step.
    ///
    /// # Errors
    /// It cannot be read or written, or `change` says no.
    pub fn edit<T>(path: &Path, change: impl FnOnce(&mut Tokens) -> Result<T, TokensError>) -> Result<T, TokensError> {
        let refused = |act| move |source| TokensError::Io { act, path: path.to_owned(), source };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).map_err(refused("make the folder of"))?;
        // The folder itself is the lock: a lock on the file would be lost with the file that is replaced.
        let folder_file = File::open(folder).map_err(refused("open the folder of"))?;
        folder_file.lock().map_err(refused("lock"))?;
        let mut tokens = Tokens::read(path)?;
        let changed = change(&mut tokens)?;
        replace(path, &tokens.to_text()).and_then(|()| folder_file.sync_all()).map_err(refused("write"))?;
        Ok(changed)
    }

    /// Adds a token.
    ///
    /// # Errors
    /// There is one of this name, or there are too many.
    pub fn add(&mut self, token: Token) -> Result<(), TokensError> {
        if let Some(problem) = name_problem(&token.name) {
            return Err(TokensError::Name(problem));
        }
        if self.tokens.iter().any(|known| known.name == token.name) {
            let name = &token.name;
            return Err(TokensError::Name(format!("there is a token `{name}`: revoke it first, or take another name")));
        }
        if self.tokens.len() >= TOKENS_MAX {
            return Err(TokensError::Name(format!(
                "there are {TOKENS_MAX} tokens, and more are not kept: revoke some"
            )));
        }
        self.tokens.push(token);
        Ok(())
    }

    /// Takes a token out.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn revoke(&mut self, name: &str) -> Result<Token, TokensError> {
        match self.tokens.iter().position(|token| token.name == name) {
            Some(at) => Ok(self.tokens.remove(at)),
            None => Err(TokensError::Name(format!("there is no token `{name}`: `pace cache token ls` shows them"))),
        }
    }

    /// All of them, in the order in which they were made.
    pub fn iter(&self) -> impl Iterator<Item = &Token> {
        self.tokens.iter()
    }

    fn parse(text: &str) -> Result<Tokens, String> {
        let file: Rows = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        let mut tokens = Tokens::default();
        for row in file.token {
            let name = row.name.clone();
            let token = row.token().map_err(|problem| format!("token `{name}`: {problem}"))?;
            tokens.add(token).map_err(|error| error.to_string())?;
        }
        Ok(tokens)
    }

    fn to_text(&self) -> String {
        let mut text = HEADER.to_owned();
        for token in &self.tokens {
            let (name, instance) = (&token.name, token.instance.as_deref().unwrap_or("*"));
            let sha256 = hex(&token.sha256);
            // Writing to a string does not fail. Names have nothing in them that TOML would read otherwise.
            let _ = write!(
                text,
                "\n[[token]]\nname = \"{name}\"\nsha256 = \"{sha256}\"\ninstance = {}\ndomain = \"{}\"\nrights = \"{}\"\n\
                 created = \"{}\"\n",
                crate::config::quoted(instance),
                token.scope,
                token.rights.word(),
                moment(token.created),
            );
            if let Some(expires) = token.expires {
                let _ = writeln!(text, "expires = \"{}\"", moment(expires));
            }
        }
        text
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rows {
    #[serde(default)]
    token: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    sha256: String,
    instance: String,
    domain: String,
    rights: String,
    created: String,
    expires: Option<String>,
}

impl Row {
    fn token(self) -> Result<Token, String> {
        let sha256 =
            model::Digest::from_hex(&self.sha256, 0).ok_or("its sha256 is not 64 lower-case hexadecimal digits")?;
        let instance = (self.instance != "*").then_some(self.instance);
        if let Some(problem) = instance.as_deref().and_then(instance_problem) {
            return Err(problem);
        }
        Ok(Token {
            name: self.name,
            sha256: sha256.hash,
            instance,
            scope: self.domain.parse()?,
            rights: self.rights.parse::<Rights>()?,
            created: seconds(&self.created)?,
            expires: self.expires.as_deref().map(seconds).transpose()?,
        })
    }
}

fn seconds(moment: &str) -> Result<u64, String> {
    let time: jiff::Timestamp =
        moment.parse().map_err(|_| format!("`{moment}` is no moment: write `2026-11-21T16:00:00Z`"))?;
    u64::try_from(time.as_second()).map_err(|_| format!("`{moment}` is before 1970"))
}

fn hex(hash: &[u8; 32]) -> String {
    model::Digest { hash: *hash, size: 0 }.hex()
}

/// Whole or not at all, and readable for nobody else.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let _ = std::fs::remove_file(&beside);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::Scope;
    use super::*;

    fn token(name: &str) -> Token {
        Token {
            name: name.into(),
            sha256: [7; 32],
            instance: Some("main".into()),
            scope: Scope::AnyOverlay,
            rights: Rights::Content,
            created: 1_795_276_800,
            expires: Some(1_795_276_900),
        }
    }

    #[test]
    fn a_file_has_what_was_added_and_not_what_was_revoked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sub/tokens.toml");
        Tokens::edit(&path, |tokens| tokens.add(token("a"))).unwrap();
        Tokens::edit(&path, |tokens| tokens.add(Token { instance: None, expires: None, ..token("b") })).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let read: Vec<Token> = Tokens::read(&path).unwrap().iter().cloned().collect();
        assert_eq!(read, [token("a"), Token { instance: None, expires: None, ..token("b") }]);
        Tokens::edit(&path, |tokens| tokens.revoke("a")).unwrap();
        let names: Vec<String> = Tokens::read(&path).unwrap().iter().map(|token| token.name.clone()).collect();
        assert_eq!(names, ["b"]);
        let said = Tokens::edit(&path, |tokens| tokens.revoke("a")).unwrap_err().to_string();
        assert!(said.contains("no token `a`"), "{said}");
        let said = Tokens::edit(&path, |tokens| tokens.add(token("b"))).unwrap_err().to_string();
        assert!(said.contains("there is a token `b`"), "{said}");
    }

    #[test]
    fn many_who_add_at_once_lose_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.toml");
        std::thread::scope(|scope| {
            for n in 0..16 {
                let path = &path;
                scope.spawn(move || Tokens::edit(path, |tokens| tokens.add(token(&format!("t{n}")))).unwrap());
            }
        });
        assert_eq!(Tokens::read(&path).unwrap().iter().count(), 16);
    }

    #[test]
    fn a_file_that_everybody_may_write_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.toml");
        Tokens::edit(&path, |tokens| tokens.add(token("a"))).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        assert!(matches!(Tokens::read(&path), Err(TokensError::Writable { .. })));
    }

    #[test]
    fn what_is_no_token_is_named_with_its_reason() {
        let row = |line: &str| {
            let rows = [
                "name = 'a'",
                "sha256 = '0000000000000000000000000000000000000000000000000000000000000000'",
                "instance = '*'",
                "domain = 'main'",
                "rights = 'read'",
                "created = '2026-11-21T16:00:00Z'",
            ];
            let key = line.split(' ').next().unwrap();
            let kept: Vec<&str> = rows.into_iter().filter(|row| row.split(' ').next() != Some(key)).collect();
            Tokens::parse(&format!("[[token]]\n{}\n{line}\n", kept.join("\n")))
        };
        assert!(row("rights = 'read'").is_ok());
        for (line, reason) in [
            ("sha256 = 'AB'", "64 lower-case"),
            ("domain = 'all'", "no domain"),
            ("rights = 'admin'", "`content`"),
            ("created = 'today'", "no moment"),
            ("name = 'a b'", "no name"),
            ("name = 'anonymous'", "without a token"),
            ("instance = 'a//b'", "write `a/b`"),
            ("secret = 'x'", "unknown field"),
        ] {
            let said = row(line).unwrap_err();
            assert!(said.contains(reason), "{line}: {said}");
        }
    }
}
