//! Where a repository is. Only what is surely a place to fetch from: git's addresses can also name programs to run.

use std::path::{Path, PathBuf};

/// Length of an address in bytes.
const ADDRESS_BYTES_MAX: usize = 2048;

/// Where a repository is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `https://host/path` or `http://…`.
    Http {
        /// `https` or `http`.
        scheme: String,
        /// The user before the host, or empty.
        user: String,
        /// Host, with a port where one is written.
        host: String,
        /// What git is given: without user.
        url: String,
    },
    /// `ssh://user@host/path` or `user@host:path`.
    Ssh {
        /// The host.
        host: String,
        /// What git is given.
        url: String,
    },
    /// A folder on this machine.
    Local(PathBuf),
}

/// Why an address is none that is fetched from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It could be taken for an option or a program.
    #[error("`{0}` is no address of a repository: https://…, ssh://…, user@host:path, or a path that begins with /")]
    Shape(String),
    /// A password would stand in every process list and log.
    #[error("the address holds a password; take it out and make it the project's credential")]
    Password,
}

impl Address {
    /// Reads an address.
    ///
    /// # Errors
    /// It is of no kind that is fetched from, could be taken for an option, or holds a password.
    pub fn parse(text: &str) -> Result<Address, AddressError> {
        let refuse = || AddressError::Shape(text.chars().filter(|c| !c.is_control()).take(200).collect());
        if text.is_empty()
            || text.len() > ADDRESS_BYTES_MAX
            || text.starts_with('-')
            || names_a_program(text)
            || text.chars().any(|c| c.is_control() || c == ' ' && !text.starts_with('/'))
        {
            return Err(refuse());
        }
        if text.starts_with('/') {
            return Ok(Address::Local(PathBuf::from(text)));
        }
        match text.split_once("://") {
            Some(("file", path)) if path.starts_with('/') => Ok(Address::Local(PathBuf::from(path))),
            Some((scheme @ ("http" | "https"), rest)) => http(scheme, rest).unwrap_or_else(|| Err(refuse())),
            Some(("ssh", rest)) => ssh(rest, '/', text).unwrap_or_else(|| Err(refuse())),
            Some(_) => Err(refuse()),
            None => ssh(text, ':', text).unwrap_or_else(|| Err(refuse())),
        }
    }

    /// The host, without port; `None` for a folder on this machine.
    pub fn host(&self) -> Option<&str> {
        match self {
            Address::Http { host, .. } | Address::Ssh { host, .. } => Some(without_port(host)),
            Address::Local(_) => None,
        }
    }

    /// The folder on this machine, if it is one.
    pub fn local(&self) -> Option<&Path> {
        match self {
            Address::Local(path) => Some(path),
            _ => None,
        }
    }

    /// What git is given; holds no secret.
    pub fn text(&self) -> String {
        match self {
            Address::Http { url, .. } | Address::Ssh { url, .. } => url.clone(),
            Address::Local(path) => path.to_string_lossy().into_owned(),
        }
    }
}

/// `ext::sh -c …`: a word and two colons.
fn names_a_program(text: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || "+-._".contains(c);
    text.trim_start_matches(word).starts_with("::") || (text.contains("::") && !text.contains("://"))
}

fn http(scheme: &str, rest: &str) -> Option<Result<Address, AddressError>> {
    let (authority, path) = rest.split_once('/')?;
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    if user.contains(':') {
        return Some(Err(AddressError::Password));
    }
    if !is_host(host) || path.is_empty() {
        return None;
    }
    let (scheme, user, host) = (scheme.to_owned(), user.to_owned(), host.to_owned());
    let url = format!("{scheme}://{host}/{path}");
    Some(Ok(Address::Http { scheme, user, host, url }))
}

fn ssh(rest: &str, ends_host: char, whole: &str) -> Option<Result<Address, AddressError>> {
    let (authority, path) = rest.split_once(ends_host)?;
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    if user.contains(':') {
        return Some(Err(AddressError::Password));
    }
    let plain_user =
        !user.starts_with('-') && user.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if !is_host(host)
        || !plain_user
        || path.is_empty()
        || path.starts_with('-')
        || (ends_host == ':' && host.contains(':'))
    {
        return None;
    }
    Some(Ok(Address::Ssh { host: host.to_owned(), url: whole.to_owned() }))
}

/// A name or an address, maybe with a port. It never begins with `-`, so that ssh cannot take it for an option.
fn is_host(host: &str) -> bool {
    let name = without_port(host);
    let port = host[name.len()..].trim_start_matches(':');
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    !bare.is_empty()
        && !bare.starts_with('-')
        && bare.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte))
        && (bare != name || !bare.contains(':'))
        && port.bytes().all(|byte| byte.is_ascii_digit())
}

fn without_port(host: &str) -> &str {
    match (host.starts_with('['), host.find(']')) {
        (true, Some(end)) => &host[..=end],
        _ => host.split(':').next().unwrap_or(host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_to_fetch_from_are_understood() {
        for (text, host) in [
            ("https://github.com/a/b.git", Some("github.com")),
            ("http://127.0.0.1:3000/a/b", Some("127.0.0.1")),
            ("https://[::1]:3000/a/b", Some("[::1]")),
            ("ssh://git@host.example:2222/a/b", Some("host.example")),
            ("git@host.example:a/b.git", Some("host.example")),
            ("/srv/git/a b.git", None),
            ("file:///srv/git/a.git", None),
        ] {
            assert_eq!(Address::parse(text).unwrap().host(), host, "{text}");
        }
        assert_eq!(Address::parse("https://anna@host.example/a").unwrap().text(), "https://host.example/a");
    }

    #[test]
    fn nothing_is_fetched_from_what_could_be_an_option_or_a_program() {
        for bad in [
            "",
            "--upload-pack=touch x",
            "-x",
            "ext::sh",
            "ext::https://host/x",
            "x::y@host:z",
            "fd::3",
            "git://host/a",
            "ssh://-oProxyCommand=id/x",
            "-oProxyCommand=id:x",
            "x@-oProxyCommand=id:x",
            "host:-x",
            "https:///x",
            "https://host",
            "relative/path",
            "https://ho st/x",
            "https://host/x\n",
            "javascript:alert(1)/",
            "ssh://$(id)@host/x",
        ] {
            let seen = Address::parse(bad);
            let harmless = matches!(&seen, Ok(Address::Ssh { url, .. }) if url == "javascript:alert(1)/");
            assert!(seen.is_err() || harmless, "{bad:?}: {seen:?}");
        }
        assert_eq!(Address::parse("https://a:b@host/x"), Err(AddressError::Password));
    }
}
