//! Lets callers in: by what they show, where they want to go, and when.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::tokens::Stamp;
use super::{ANONYMOUS, Access, Denied, Domain, Rights, Secret, Token, Tokens, TokensError, moment, unspeakable};
use crate::Config;
use crate::config::{ConfigError, DeniedWrites};

/// Lets callers in.
#[derive(Debug)]
pub struct Gatekeeper {
    anonymous: Option<Rights>,
    drop_denied: bool,
    instances: Option<BTreeSet<String>>,
    tokens: Option<Watched>,
    ask: Option<Ask>,
}

/// Who knows tokens that are in no file: a server that this cache is part of. It is asked for each request and must answer
/// from memory.
#[derive(Clone)]
pub struct Ask(Arc<Asked>);

type Asked = dyn Fn(&Secret) -> Option<Arc<Token>> + Send + Sync;

impl Ask {
    /// Asks this function.
    pub fn new(ask: impl Fn(&Secret) -> Option<Arc<Token>> + Send + Sync + 'static) -> Ask {
        Ask(Arc::new(ask))
    }
}

impl std::fmt::Debug for Ask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ask(…)")
    }
}

/// A file of tokens that is read again when it changed.
#[derive(Debug)]
struct Watched {
    path: PathBuf,
    /// When the file was last looked at, in seconds: once a second is enough.
    looked: AtomicU64,
    // A lock and no channel: every request reads it, and it changes a few times a day.
    known: RwLock<Known>,
}

#[derive(Debug, Default)]
struct Known {
    stamp: Option<Stamp>,
    by_hash: HashMap<[u8; 32], Arc<Token>>,
}

/// Open to everybody, for everything: a cache for one machine.
impl Default for Gatekeeper {
    fn default() -> Gatekeeper {
        Gatekeeper { anonymous: Some(Rights::Write), drop_denied: false, instances: None, tokens: None, ask: None }
    }
}

/// Why a gatekeeper cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum GatekeeperError {
    /// The configuration would leave the cache open by mistake.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The tokens cannot be read.
    #[error(transparent)]
    Tokens(#[from] TokensError),
}

impl Gatekeeper {
    /// Reads the tokens.
    ///
    /// # Errors
    /// They cannot be read, or the cache would be open to everybody by mistake.
    pub fn new(config: &Config) -> Result<Gatekeeper, GatekeeperError> {
        Ok(Gatekeeper {
            anonymous: config.anonymous_rights()?,
            drop_denied: config.denied_writes == DeniedWrites::Drop,
            instances: config.instances.clone(),
            tokens: config.tokens_file.clone().map(Watched::read).transpose()?,
            ask: config.ask.clone(),
        })
    }

    /// Lets a caller in: `authorization` is the header's value (`Bearer …`, or `Basic …` with the token as password), `instance`
    /// is what it names, `now` in seconds since 1970-01-01 UTC.
    ///
    /// # Errors
    /// Says why not, and what to do.
    pub fn admit(&self, authorization: Option<&str>, instance: &str, now: u64) -> Result<Access, Denied> {
        if let Some(problem) = unspeakable(instance) {
            return Err(Denied::UnknownInstance(problem));
        }
        let domain = Domain::parse(instance);
        let who = self.who(authorization, now)?;
        if self.instances.as_ref().is_some_and(|served| !served.contains(&domain.instance)) {
            return Err(self.unknown(&domain.instance));
        }
        let (writer, (domain, rights)) = match who {
            Who::Anonymous(rights) => (ANONYMOUS.to_owned(), (domain, rights)),
            Who::Holder(token) => (token.name.clone(), token.grant(domain)?),
        };
        Ok(Access { domain, rights, writer, drop_denied: self.drop_denied })
    }

    /// Lets a caller in that wants to look after the whole store: it must be able to write in every instance. Returns its name.
    ///
    /// # Errors
    /// Says why not, and what to do.
    pub fn admit_caretaker(&self, authorization: Option<&str>, now: u64) -> Result<String, Denied> {
        match self.who(authorization, now)? {
            Who::Anonymous(Rights::Write) => Ok(ANONYMOUS.to_owned()),
            Who::Holder(token) if token.rules_all() => Ok(token.name.clone()),
            Who::Anonymous(_) => Err(Denied::Unauthenticated(CARETAKER.to_owned())),
            Who::Holder(token) => {
                Err(Denied::Forbidden(format!("token `{}` may not do that: {CARETAKER}", token.name)))
            }
        }
    }

    /// Lets a caller in that may do anything anywhere. Returns its name.
    ///
    /// # Errors
    /// Says why not, and what to do.
    pub fn admit_somewhere(&self, authorization: Option<&str>, now: u64) -> Result<String, Denied> {
        match self.who(authorization, now)? {
            Who::Anonymous(_) => Ok(ANONYMOUS.to_owned()),
            Who::Holder(token) => Ok(token.name.clone()),
        }
    }

    /// The name under which a caller writes, if it would be let in at all: for logs.
    pub(crate) fn name(&self, authorization: Option<&str>, now: u64) -> Option<String> {
        self.admit_somewhere(authorization, now).ok()
    }

    fn who(&self, authorization: Option<&str>, now: u64) -> Result<Who, Denied> {
        // Without a file of tokens nothing that is shown means anything: some clients cannot be told to show nothing.
        let knows = self.tokens.is_some() || self.ask.is_some();
        let Some(authorization) = authorization.filter(|_| knows) else {
            return self.anonymous.map(Who::Anonymous).ok_or_else(|| {
                Denied::Unauthenticated("this cache wants a token: send `authorization: Bearer TOKEN`".to_owned())
            });
        };
        let secret = Secret::shown(authorization).ok_or_else(|| {
            Denied::Unauthenticated("the authorization header is neither `Bearer TOKEN` nor `Basic …`".to_owned())
        })?;
        let in_file = self.tokens.as_ref().and_then(|tokens| tokens.find(&secret.sha256(), now));
        let token = in_file.or_else(|| self.ask.as_ref().and_then(|ask| (ask.0)(&secret))).ok_or_else(|| {
            Denied::Unauthenticated(
                "the token is not known here, or was revoked: make one with `pace cache token new`".to_owned(),
            )
        })?;
        match token.expires {
            Some(expires) if token.is_expired(now) => Err(Denied::Unauthenticated(format!(
                "token `{}` ended at {}: make another with `pace cache token new`",
                token.name,
                moment(expires)
            ))),
            _ => Ok(Who::Holder(token)),
        }
    }

    fn unknown(&self, instance: &str) -> Denied {
        let names: Vec<String> = self.instances.iter().flatten().map(|name| format!("`{name}`")).collect();
        let served = names.join(", ");
        Denied::UnknownInstance(format!("the instance `{instance}` is not served here; served are {served}"))
    }
}

const CARETAKER: &str =
    "looking after the store takes a token for every instance: `pace cache token new --instance '*' --rights write`";

enum Who {
    Anonymous(Rights),
    Holder(Arc<Token>),
}

impl Watched {
    fn read(path: PathBuf) -> Result<Watched, TokensError> {
        let stamp = Stamp::of(&path);
        let by_hash = index(Tokens::read(&path)?);
        Ok(Watched { path, looked: AtomicU64::new(0), known: RwLock::new(Known { stamp, by_hash }) })
    }

    /// By the hash, so how long it takes says nothing about the secret.
    fn find(&self, sha256: &[u8; 32], now: u64) -> Option<Arc<Token>> {
        if self.looked.swap(now, Ordering::Relaxed) != now {
            self.read_again();
        }
        self.known.read().unwrap_or_else(PoisonError::into_inner).by_hash.get(sha256).cloned()
    }

    /// A file that is gone allows nothing; one that cannot be read changes nothing, for whoever edits it errs for a moment.
    fn read_again(&self) {
        let stamp = Stamp::of(&self.path);
        if self.known.read().unwrap_or_else(PoisonError::into_inner).stamp == stamp {
            return;
        }
        let read = Tokens::read(&self.path);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.stamp = stamp;
        match read {
            Ok(tokens) => known.by_hash = index(tokens),
            Err(error) => crate::complain(&format!("{error}; the tokens stay as they were")),
        }
    }
}

fn index(tokens: Tokens) -> HashMap<[u8; 32], Arc<Token>> {
    tokens.iter().map(|token| (token.sha256, Arc::new(token.clone()))).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Scope;
    use super::*;
    use crate::config::Anonymous;

    const NOW: u64 = 1_000;

    /// A cache with tokens in a folder of its own.
    struct Gate {
        folder: tempfile::TempDir,
        config: Config,
    }

    impl Gate {
        fn new() -> Gate {
            let folder = tempfile::tempdir().unwrap();
            let config =
                Config { tokens_file: Some(folder.path().join("tokens.toml")), ..Config::local(Path::new("/d")) };
            Gate { folder, config }
        }
        /// Makes a token and returns the header that shows it.
        fn token(&self, name: &str, instance: Option<&str>, scope: &str, rights: Rights) -> String {
            self.token_until(name, instance, scope, rights, None)
        }
        fn token_until(
            &self,
            name: &str,
            instance: Option<&str>,
            scope: &str,
            rights: Rights,
            expires: Option<u64>,
        ) -> String {
            let secret = Secret::generate().unwrap();
            let token = Token {
                name: name.into(),
                sha256: secret.sha256(),
                instance: instance.map(str::to_owned),
                scope: scope.parse::<Scope>().unwrap(),
                rights,
                created: 0,
                expires,
            };
            Tokens::edit(&self.folder.path().join("tokens.toml"), |tokens| tokens.add(token)).unwrap();
            format!("Bearer {}", secret.reveal())
        }
        fn opens(&self) -> Gatekeeper {
            Gatekeeper::new(&self.config).unwrap()
        }
    }

    /// The domain and what may be done there, `-` for nothing: `r`ead, `c`ontent, `w`rite.
    fn seen(gate: &Gatekeeper, header: &str, instance: &str) -> String {
        match gate.admit(Some(header), instance, NOW) {
            Ok(access) => {
                let can = |may: Result<bool, Denied>, letter| if may == Ok(true) { letter } else { "" };
                let content = can(access.may_write_content(), "c");
                format!("{} r{content}{}", access.domain, can(access.may_write_entries(), "w"))
            }
            Err(Denied::Unauthenticated(_)) => "unauthenticated".into(),
            Err(Denied::Forbidden(_)) => "forbidden".into(),
            Err(Denied::UnknownInstance(_)) => "unknown".into(),
        }
    }

    #[test]
    fn rights_and_domains_meet_as_the_table_says() {
        let gate = Gate::new();
        let all = gate.token("all", None, "main", Rights::Write);
        let main = gate.token("main", Some("main"), "main", Rights::Write);
        let builder = gate.token("builder", Some("main"), "main", Rights::Content);
        let reader = gate.token("reader", Some("main"), "main", Rights::Read);
        let prs = gate.token("prs", Some("main"), "pr/*", Rights::Write);
        let fork = gate.token("fork", Some("main"), "pr/17", Rights::Content);
        let pr = gate.token("pr", Some("main"), "pr/17", Rights::Write);
        let gate = gate.opens();
        for (name, header, at_main, at_17, at_18, elsewhere) in [
            ("all", &all, "main rcw", "main/pr/17 rcw", "main/pr/18 rcw", "other rcw"),
            ("main", &main, "main rcw", "main/pr/17 rcw", "main/pr/18 rcw", "forbidden"),
            ("builder", &builder, "main rc", "main/pr/17 rc", "main/pr/18 rc", "forbidden"),
            ("reader", &reader, "main r", "main/pr/17 r", "main/pr/18 r", "forbidden"),
            ("prs", &prs, "main r", "main/pr/17 rcw", "main/pr/18 rcw", "forbidden"),
            ("pr", &pr, "main/pr/17 rcw", "main/pr/17 rcw", "forbidden", "forbidden"),
            ("fork", &fork, "main/pr/17 rc", "main/pr/17 rc", "forbidden", "forbidden"),
        ] {
            assert_eq!(seen(&gate, header, "main"), at_main, "{name}");
            assert_eq!(seen(&gate, header, "/main/pr/17"), at_17, "{name}");
            assert_eq!(seen(&gate, header, "main/pr/18"), at_18, "{name}");
            assert_eq!(seen(&gate, header, "other"), elsewhere, "{name}");
        }
        assert_eq!(gate.admit(Some(&pr), "main", NOW).unwrap().writer, "pr");
        assert!(gate.admit_caretaker(Some(&all), NOW).is_ok());
        assert!(matches!(gate.admit_caretaker(Some(&main), NOW), Err(Denied::Forbidden(_))));
    }

    #[test]
    fn no_token_a_wrong_one_and_one_that_is_over_are_told_apart() {
        let gate = Gate::new();
        let over = gate.token_until("old", None, "main", Rights::Write, Some(NOW));
        let soon = gate.token_until("soon", None, "main", Rights::Write, Some(NOW + 1));
        let gate = gate.opens();
        let says = |header: Option<&str>| gate.admit(header, "main", NOW).unwrap_err().to_string();
        assert!(says(None).contains("authorization: Bearer"));
        assert!(says(Some("Bearer pace_wrong")).contains("not known here"));
        assert!(says(Some("Negotiate x")).contains("neither `Bearer"));
        assert!(says(Some(&over)).contains("`old` ended at 1970-01-01T00:16:40Z"));
        assert!(!says(Some(&over)).contains(&over[7..]), "a secret is repeated");
        assert!(gate.admit(Some(&soon), "main", NOW).is_ok());
    }

    #[test]
    fn a_wrong_token_is_refused_even_where_none_is_needed() {
        let mut gate = Gate::new();
        gate.config.anonymous = Some(Anonymous::Rights(Rights::Read));
        let gate = gate.opens();
        assert_eq!(gate.admit(None, "main", NOW).unwrap().rights, Rights::Read);
        assert_eq!(seen(&gate, "Bearer pace_wrong", "main"), "unauthenticated");
        assert!(gate.admit_caretaker(None, NOW).is_err());
    }

    #[test]
    fn a_cache_without_tokens_takes_whatever_a_client_shows() {
        let gate = Gatekeeper::default();
        assert_eq!(seen(&gate, "Bearer anything", "main"), "main rcw");
        assert_eq!(gate.admit(None, "", NOW).unwrap().writer, ANONYMOUS);
    }

    #[test]
    fn a_token_counts_and_stops_counting_within_a_second() {
        let gate = Gate::new();
        let keeper = gate.opens();
        let header = gate.token("late", None, "main", Rights::Write);
        assert!(keeper.admit(Some(&header), "main", NOW + 1).is_ok());
        let file = gate.folder.path().join("tokens.toml");
        std::fs::write(&file, "what is this?").unwrap();
        assert!(keeper.admit(Some(&header), "main", NOW + 2).is_ok(), "an error in the file locks everybody out");
        std::fs::remove_file(&file).unwrap();
        assert!(keeper.admit(Some(&header), "main", NOW + 3).is_err(), "tokens of a file that is gone count");
    }

    #[test]
    fn an_instance_that_is_not_served_names_those_that_are() {
        let mut gate = Gate::new();
        gate.config.tokens_file = None;
        gate.config.instances = Some(["", "main"].map(str::to_owned).into());
        let gate = gate.opens();
        let said = gate.admit(None, "other", NOW).unwrap_err();
        assert_eq!(
            said,
            Denied::UnknownInstance("the instance `other` is not served here; served are ``, `main`".into())
        );
        assert!(gate.admit(None, "main/pr/3", NOW).is_ok());
        assert!(gate.admit(None, "/", NOW).is_ok());
        assert!(matches!(gate.admit(None, "main\npr/3", NOW), Err(Denied::UnknownInstance(_))));
    }

    #[test]
    fn writes_that_are_denied_are_forgotten_where_that_was_asked_for() {
        let mut gate = Gate::new();
        gate.config.denied_writes = DeniedWrites::Drop;
        let reader = gate.token("reader", None, "main", Rights::Read);
        let access = gate.opens().admit(Some(&reader), "main", NOW).unwrap();
        assert_eq!((access.may_write_content(), access.may_write_entries()), (Ok(false), Ok(false)));
    }
}
