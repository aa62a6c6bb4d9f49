//! The configuration as people write it: a TOML file, and flags that go before it.

use std::io;
use std::path::{Path, PathBuf};

use blobs::Durability;
use model::units::{parse_bytes, parse_duration};
use serde::Deserialize;

use super::{Anonymous, CONNECTIONS_DEFAULT, CONNECTIONS_MAX, Config, DeniedWrites, LISTEN_DEFAULT, Listen, Tls};
use crate::access::{Rights, instance_problem};

/// Length of a configuration in bytes; a longer one is some other file.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file says what nobody understands; `problem` shows the place.
    #[error("{path} is no configuration of a cache: {problem}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and what, with what was meant.
        problem: String,
    },
    /// A value makes no sense.
    #[error("`{key}`: {problem}")]
    Value {
        /// Which one.
        key: &'static str,
        /// Why not, and what would.
        problem: String,
    },
    /// Everybody who reaches the address could write.
    #[error(
        "{listen} is open to others than this machine, and nobody said what they may do: make tokens (`pace cache token \
         new`) and name their file with --tokens, or say --anonymous none|read|content|write"
    )]
    Open {
        /// The address.
        listen: String,
    },
}

/// The configuration as it is written: what is left out is `None`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where it listens: `address:port` or `unix:/path`.
    pub listen: Option<Vec<String>>,
    /// Its folder.
    pub data: Option<PathBuf>,
    /// Bytes on the disk: `200GiB`.
    pub max_size: Option<String>,
    /// What nobody used for so long goes: `30d`.
    pub max_age: Option<String>,
    /// How long a blob stays at least after somebody was told that it is there: `2h`.
    pub lease: Option<String>,
    /// What a write waits for: `group` or `process`.
    pub durable: Option<String>,
    /// Bytes of often read content in memory: `64MiB`.
    pub memory: Option<String>,
    /// Which instances it serves; any when left out.
    pub instances: Option<Vec<String>>,
    /// The file of the tokens.
    pub tokens_file: Option<PathBuf>,
    /// What callers without a token may do: `none`, `read`, `content` or `write`.
    pub anonymous: Option<String>,
    /// What happens to writes that a caller may not do: `refuse` or `drop`.
    pub denied_writes: Option<String>,
    /// Connections at a time.
    pub connections: Option<usize>,
    /// Where each request is written down; `-` is standard output.
    pub log: Option<PathBuf>,
    /// Encryption.
    pub tls: Option<TlsSettings>,
    /// A bucket below this cache.
    pub s3: Option<S3Settings>,
    /// Another cache below this one.
    pub upstream: Option<UpstreamSettings>,
}

/// `[tls]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsSettings {
    /// The certificate and what leads to its root, PEM.
    pub cert: Option<PathBuf>,
    /// Its key, PEM.
    pub key: Option<PathBuf>,
    /// Who must have signed the certificate of every client, PEM.
    pub client_ca: Option<PathBuf>,
}

/// `[upstream]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamSettings {
    /// `grpc://host:port` or `grpcs://host:port`.
    pub url: String,
    /// The variable of the environment that holds the token.
    pub token_env: Option<String>,
    /// What to do there: `read` (the default), `content` or `write`.
    #[serde(default)]
    pub rights: UpstreamRights,
    /// The instance to name there; the one that was asked for when left out.
    pub instance: Option<String>,
    /// Who signed the upstream's certificate, PEM; the system's roots when left out.
    pub ca: Option<PathBuf>,
}

/// What to do at the upstream cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UpstreamRights {
    /// Ask it.
    #[default]
    Read,
    /// Also send it content.
    Content,
    /// Also send it action results.
    Write,
}

impl std::str::FromStr for UpstreamRights {
    type Err = String;

    fn from_str(word: &str) -> Result<UpstreamRights, String> {
        match word {
            "read" => Ok(UpstreamRights::Read),
            "content" => Ok(UpstreamRights::Content),
            "write" => Ok(UpstreamRights::Write),
            other => Err(format!("`{other}` is none of `read`, `content`, `write`")),
        }
    }
}

impl From<UpstreamRights> for Rights {
    fn from(rights: UpstreamRights) -> Rights {
        match rights {
            UpstreamRights::Read => Rights::Read,
            UpstreamRights::Content => Rights::Content,
            UpstreamRights::Write => Rights::Write,
        }
    }
}

/// `[s3]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3Settings {
    /// The bucket.
    pub bucket: String,
    /// `https://…` of a store that is not Amazon's.
    pub endpoint: Option<String>,
    /// Its region.
    pub region: Option<String>,
    /// What every name starts with.
    pub prefix: Option<String>,
    /// The variable of the environment that holds the access key; without it, what the environment offers.
    pub access_key_env: Option<String>,
    /// The variable of the environment that holds the secret key.
    pub secret_key_env: Option<String>,
    /// Plain HTTP is allowed: for a store on this machine.
    #[serde(default)]
    pub allow_http: bool,
}

impl Settings {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or says what nobody understands.
    pub fn read(path: &Path) -> Result<Settings, ConfigError> {
        let unreadable = |source| ConfigError::Read { path: path.to_owned(), source };
        let length = std::fs::metadata(path).map_err(unreadable)?.len();
        if length > FILE_BYTES_MAX {
            let problem = format!("it has {length} bytes, and at most {FILE_BYTES_MAX} are read");
            return Err(ConfigError::Parse { path: path.to_owned(), problem });
        }
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        Settings::parse(&text).map_err(|problem| ConfigError::Parse { path: path.to_owned(), problem })
    }

    fn parse(text: &str) -> Result<Settings, String> {
        toml::from_str(text).map_err(|error| match meant(error.message()) {
            Some(name) => format!("{}\nhelp: did you mean `{name}`?", error.to_string().trim_end()),
            None => error.to_string().trim_end().to_owned(),
        })
    }

    /// These, and where they say nothing the `other` ones.
    pub fn over(self, other: Settings) -> Settings {
        Settings {
            listen: self.listen.or(other.listen),
            data: self.data.or(other.data),
            max_size: self.max_size.or(other.max_size),
            max_age: self.max_age.or(other.max_age),
            lease: self.lease.or(other.lease),
            durable: self.durable.or(other.durable),
            memory: self.memory.or(other.memory),
            instances: self.instances.or(other.instances),
            tokens_file: self.tokens_file.or(other.tokens_file),
            anonymous: self.anonymous.or(other.anonymous),
            denied_writes: self.denied_writes.or(other.denied_writes),
            connections: self.connections.or(other.connections),
            log: self.log.or(other.log),
            tls: match (self.tls, other.tls) {
                (Some(mine), Some(other)) => Some(TlsSettings {
                    cert: mine.cert.or(other.cert),
                    key: mine.key.or(other.key),
                    client_ca: mine.client_ca.or(other.client_ca),
                }),
                (mine, other) => mine.or(other),
            },
            s3: self.s3.or(other.s3),
            upstream: self.upstream.or(other.upstream),
        }
    }

    /// Checks every value and fills in what was left out; `data` is the folder when none is named.
    ///
    /// # Errors
    /// A value makes no sense, or the cache would be open to everybody by mistake.
    pub fn resolve(self, data: &Path) -> Result<Config, ConfigError> {
        let mut store = blobs::Options { age_max: time("max_age", self.max_age)?, ..blobs::Options::default() };
        if let Some(bytes) = size("max_size", self.max_size)? {
            store.bytes_max = bytes;
        }
        if let Some(lease) = time("lease", self.lease)? {
            store.lease = lease;
        }
        if let Some(durability) = durability(self.durable.as_deref())? {
            store.durability = durability;
        }
        if let Some(bytes) = size("memory", self.memory)? {
            store.memory_bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        }
        let config = Config {
            listen: listen(self.listen)?,
            data: self.data.unwrap_or_else(|| data.to_owned()),
            store,
            instances: self.instances.map(instances).transpose()?,
            tls: self.tls.map(tls).transpose()?,
            tokens_file: self.tokens_file,
            anonymous: self.anonymous.as_deref().map(anonymous).transpose()?,
            denied_writes: denied_writes(self.denied_writes.as_deref())?,
            connections_max: connections(self.connections)?,
            log: self.log,
            upstream: self.upstream.map(upstream).transpose()?,
            s3: self.s3,
            execution: None,
            ask: None,
        };
        config.anonymous_rights()?;
        Ok(config)
    }
}

fn wrong(key: &'static str, problem: impl Into<String>) -> ConfigError {
    ConfigError::Value { key, problem: problem.into() }
}

fn size(key: &'static str, text: Option<String>) -> Result<Option<u64>, ConfigError> {
    text.map(|text| parse_bytes(&text).map(|bytes| bytes.0).map_err(|why| wrong(key, format!("`{text}`: {why}"))))
        .transpose()
}

fn time(key: &'static str, text: Option<String>) -> Result<Option<std::time::Duration>, ConfigError> {
    text.map(|text| parse_duration(&text).map_err(|why| wrong(key, format!("`{text}`: {why}")))).transpose()
}

fn durability(word: Option<&str>) -> Result<Option<Durability>, ConfigError> {
    Ok(Some(match word {
        None => return Ok(None),
        Some("group") => Durability::Group,
        Some("process") => Durability::Process,
        Some(other) => return Err(wrong("durable", format!("`{other}` is neither `group` nor `process`"))),
    }))
}

fn listen(places: Option<Vec<String>>) -> Result<Vec<Listen>, ConfigError> {
    match places {
        None => Ok(vec![Listen::Tcp(LISTEN_DEFAULT)]),
        Some(places) if places.is_empty() => Err(wrong("listen", "name at least one place")),
        Some(places) => {
            places.iter().map(|place| place.parse().map_err(|problem: String| wrong("listen", problem))).collect()
        }
    }
}

fn instances(names: Vec<String>) -> Result<std::collections::BTreeSet<String>, ConfigError> {
    names
        .into_iter()
        .map(|name| match instance_problem(&name) {
            None => Ok(name),
            Some(problem) => Err(wrong("instances", problem)),
        })
        .collect()
}

fn tls(settings: TlsSettings) -> Result<Tls, ConfigError> {
    match (settings.cert, settings.key) {
        (Some(cert), Some(key)) => Ok(Tls { cert, key, client_ca: settings.client_ca }),
        (None, _) => Err(wrong("tls", "there is no `cert`: name a PEM file with the certificate (--tls-cert)")),
        (_, None) => Err(wrong("tls", "there is no `key`: name a PEM file with the certificate's key (--tls-key)")),
    }
}

fn anonymous(word: &str) -> Result<Anonymous, ConfigError> {
    match (word, word.parse()) {
        ("none", _) => Ok(Anonymous::None),
        (_, Ok(rights)) => Ok(Anonymous::Rights(rights)),
        (_, Err(_)) => Err(wrong("anonymous", format!("`{word}` is none of `none`, `read`, `content`, `write`"))),
    }
}

fn denied_writes(word: Option<&str>) -> Result<DeniedWrites, ConfigError> {
    match word {
        None | Some("refuse") => Ok(DeniedWrites::Refuse),
        Some("drop") => Ok(DeniedWrites::Drop),
        Some(other) => Err(wrong("denied_writes", format!("`{other}` is neither `refuse` nor `drop`"))),
    }
}

fn connections(number: Option<usize>) -> Result<usize, ConfigError> {
    match number {
        None => Ok(CONNECTIONS_DEFAULT),
        Some(number @ 1..=CONNECTIONS_MAX) => Ok(number),
        Some(number) => Err(wrong("connections", format!("{number} is not between 1 and {CONNECTIONS_MAX}"))),
    }
}

fn upstream(settings: UpstreamSettings) -> Result<UpstreamSettings, ConfigError> {
    let schemes = ["grpc://", "grpcs://", "http://", "https://"];
    match schemes.iter().any(|scheme| settings.url.starts_with(scheme)) {
        true => Ok(settings),
        false => Err(wrong("upstream", format!("`{}` starts with neither `grpc://` nor `grpcs://`", settings.url))),
    }
}

/// The known name that is nearest to an unknown one, taken from the parser's own sentence.
fn meant(message: &str) -> Option<&str> {
    let mut quoted = message.strip_prefix("unknown ")?.split('`').skip(1).step_by(2);
    let written = quoted.next()?;
    quoted.map(|known| (distance(written, known), known)).filter(|(far, _)| *far <= 2).min().map(|(_, known)| known)
}

/// How many letters must be put in, left out or exchanged to make one word of the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.chars().take(64).enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, other) in b.iter().enumerate() {
            let exchanged = diagonal + usize::from(letter != *other);
            diagonal = row[j + 1];
            row[j + 1] = exchanged.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(text: &str) -> Result<Config, String> {
        let settings = Settings::parse(text)?;
        settings.resolve(Path::new("/data")).map_err(|error| error.to_string())
    }

    #[test]
    fn an_empty_file_is_a_cache_for_this_machine() {
        let config = resolved("").unwrap();
        assert_eq!(config.listen, [Listen::Tcp(LISTEN_DEFAULT)]);
        assert_eq!(config.data, Path::new("/data"));
        assert_eq!(config.anonymous_rights().unwrap(), Some(Rights::Write));
    }

    #[test]
    fn what_the_effective_configuration_shows_is_a_configuration_with_the_same_effect() {
        let text = "listen = ['[::1]:1', 'unix:/run/c.sock']\nmax_age = '30d'\ninstances = ['', 'main']\n\
                    tokens_file = '/t'\nanonymous = 'read'\ndenied_writes = 'drop'\nconnections = 7\nlog = '-'\n\
                    durable = 'process'\nmemory = '1MiB'\nmax_size = '1GiB'\nlease = '10m'\n\
                    [tls]\ncert = '/c'\nkey = '/k'\nclient_ca = '/a'\n\
                    [s3]\nbucket = 'b'\nprefix = 'p'\n\
                    [upstream]\nurl = 'grpc://u:1'\nrights = 'content'\ntoken_env = 'T'\n";
        let shown = resolved(text).unwrap().to_string();
        assert_eq!(resolved(&shown).unwrap().to_string(), shown);
        for part in ["unix:/run/c.sock", "\"2592000s\"", "\"drop\"", "7", "\"process\"", "client_ca", "token_env"] {
            assert!(shown.contains(part), "no {part} in\n{shown}");
        }
    }

    #[test]
    fn an_unknown_key_is_shown_in_its_place_with_what_was_meant() {
        let said = resolved("data = '/x'\nlisten_ = ['127.0.0.1:1']\n").unwrap_err();
        assert!(said.contains("line 2, column 1") && said.contains("did you mean `listen`?"), "{said}");
        let said = resolved("[tls]\ncret = '/x'\n").unwrap_err();
        assert!(said.contains("line 2") && said.contains("did you mean `cert`?"), "{said}");
    }

    #[test]
    fn values_that_make_no_sense_are_refused_by_name() {
        for (text, named) in [
            ("max_size = 'much'", "`max_size`"),
            ("lease = '-1s'", "`lease`"),
            ("listen = []", "`listen`"),
            ("listen = ['unix:relative']", "`listen`"),
            ("instances = [\"a\\nb\"]", "`instances`"),
            ("anonymous = 'all'", "`anonymous`"),
            ("denied_writes = 'lose'", "`denied_writes`"),
            ("durable = 'yes'", "`durable`"),
            ("connections = 0", "`connections`"),
            ("[tls]\ncert = '/c'", "`tls`"),
            ("[upstream]\nurl = 'ftp://x'", "`upstream`"),
        ] {
            let said = resolved(text).unwrap_err();
            assert!(said.contains(named), "{text}: {said}");
        }
    }

    #[test]
    fn a_cache_that_others_reach_is_open_only_if_somebody_said_so() {
        let said = resolved("listen = ['0.0.0.0:1']").unwrap_err();
        assert!(said.contains("0.0.0.0:1") && said.contains("--anonymous"), "{said}");
        let rights = |text: &str| resolved(text).unwrap().anonymous_rights().unwrap();
        assert_eq!(rights("listen = ['0.0.0.0:1']\nanonymous = 'read'"), Some(Rights::Read));
        assert_eq!(rights("listen = ['0.0.0.0:1']\ntokens_file = '/t'"), None);
        assert_eq!(rights("tokens_file = '/t'"), None);
        assert_eq!(rights("listen = ['unix:/s', '127.0.0.1:1']"), Some(Rights::Write));
    }

    #[test]
    fn flags_go_before_the_file() {
        let flags = Settings { max_size: Some("1GiB".into()), ..Settings::default() };
        let file = Settings::parse("max_size = '2GiB'\nmemory = '3MiB'").unwrap();
        let config = flags.over(file).resolve(Path::new("/d")).unwrap();
        assert_eq!((config.store.bytes_max, config.store.memory_bytes), (1 << 30, 3 << 20));
    }
}
