//! The effective configuration as text: a file that would have the same effect.

use std::fmt;

use super::{Anonymous, Config, DeniedWrites, UpstreamSettings, durability_word, seconds};
use crate::config::file::{S3Settings, UpstreamRights};

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listen: Vec<String> = self.listen.iter().map(|listen| quoted(&listen.to_string())).collect();
        writeln!(f, "listen = [{}]", listen.join(", "))?;
        writeln!(f, "data = {}", quoted(&self.data.to_string_lossy()))?;
        writeln!(f, "max_size = \"{}B\"", self.store.bytes_max)?;
        line(f, "max_age", self.store.age_max.map(seconds))?;
        writeln!(f, "lease = \"{}\"", seconds(self.store.lease))?;
        writeln!(f, "durable = \"{}\"", durability_word(self.store.durability))?;
        writeln!(f, "memory = \"{}B\"", self.store.memory_bytes)?;
        if let Some(instances) = &self.instances {
            let names: Vec<String> = instances.iter().map(|name| quoted(name)).collect();
            writeln!(f, "instances = [{}]", names.join(", "))?;
        }
        line(f, "tokens_file", self.tokens_file.as_ref().map(|path| path.to_string_lossy()))?;
        let anonymous = self
            .anonymous
            .or_else(|| self.anonymous_rights().ok().map(|rights| rights.map_or(Anonymous::None, Anonymous::Rights)));
        line(f, "anonymous", anonymous.map(|anonymous| anonymous.rights().map_or("none", |rights| rights.word())))?;
        let denied = match self.denied_writes {
            DeniedWrites::Refuse => "refuse",
            DeniedWrites::Drop => "drop",
        };
        writeln!(f, "denied_writes = \"{denied}\"\nconnections = {}", self.connections_max)?;
        line(f, "log", self.log.as_ref().map(|path| path.to_string_lossy()))?;
        if let Some(tls) = &self.tls {
            writeln!(f, "\n[tls]")?;
            line(f, "cert", Some(tls.cert.to_string_lossy()))?;
            line(f, "key", Some(tls.key.to_string_lossy()))?;
            line(f, "client_ca", tls.client_ca.as_ref().map(|path| path.to_string_lossy()))?;
        }
        self.s3.iter().try_for_each(|settings| s3(f, settings))?;
        self.upstream.iter().try_for_each(|settings| upstream(f, settings))
    }
}

fn s3(f: &mut fmt::Formatter<'_>, settings: &S3Settings) -> fmt::Result {
    writeln!(f, "\n[s3]")?;
    line(f, "bucket", Some(&settings.bucket))?;
    line(f, "endpoint", settings.endpoint.as_ref())?;
    line(f, "region", settings.region.as_ref())?;
    line(f, "prefix", settings.prefix.as_ref())?;
    line(f, "access_key_env", settings.access_key_env.as_ref())?;
    line(f, "secret_key_env", settings.secret_key_env.as_ref())?;
    writeln!(f, "allow_http = {}", settings.allow_http)
}

fn upstream(f: &mut fmt::Formatter<'_>, settings: &UpstreamSettings) -> fmt::Result {
    let rights = match settings.rights {
        UpstreamRights::Read => "read",
        UpstreamRights::Content => "content",
        UpstreamRights::Write => "write",
    };
    writeln!(f, "\n[upstream]")?;
    line(f, "url", Some(&settings.url))?;
    line(f, "token_env", settings.token_env.as_ref())?;
    line(f, "rights", Some(rights))?;
    line(f, "instance", settings.instance.as_ref())?;
    line(f, "ca", settings.ca.as_ref().map(|path| path.to_string_lossy()))
}

fn line(f: &mut fmt::Formatter<'_>, key: &str, value: Option<impl AsRef<str>>) -> fmt::Result {
    match value {
        Some(value) => writeln!(f, "{key} = {}", quoted(value.as_ref())),
        None => Ok(()),
    }
}

/// A basic string of TOML.
pub(crate) fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", c as u32)),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
