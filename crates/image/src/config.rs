//! What an image says about how its programs are run.

use crate::document::{WireConfig, WireRuntime};
use crate::error::malformed;
use crate::{ImageError, Platform};

/// Variables of one config, and words of a command.
const WORDS_MAX: usize = 4096;
/// Bytes of one of them.
const WORD_BYTES_MAX: usize = 128 << 10;

/// How an image's programs are run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// For which machine it says it is.
    pub platform: Option<Platform>,
    /// Variables, in the order of the image, each name once.
    pub env: Vec<(String, String)>,
    /// `user`, `uid`, `user:group` or `uid:gid`; empty is root.
    pub user: String,
    /// The absolute path that programs start in.
    pub working_dir: Option<String>,
    /// What is put before the command.
    pub entrypoint: Vec<String>,
    /// The command when none is given.
    pub cmd: Vec<String>,
    /// Ports that it says it listens on, like `5432/tcp`, sorted.
    pub ports: Vec<String>,
    /// Paths that want to be written and kept, sorted.
    pub volumes: Vec<String>,
    /// How it wants to be stopped, like `SIGINT`.
    pub stop_signal: Option<String>,
}

impl ImageConfig {
    /// One of its variables.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.env.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
    /// Takes what is written, refusing what no program could be started with.
    pub(crate) fn from_wire(wire: WireConfig) -> Result<ImageConfig, ImageError> {
        let wrong = |why: &str| malformed("the image's config", why);
        let WireRuntime { user, exposed_ports, env, entrypoint, cmd, volumes, working_dir, stop_signal, .. } =
            wire.config.unwrap_or_default();
        let (env, entrypoint, cmd) = (env.unwrap_or_default(), entrypoint.unwrap_or_default(), cmd.unwrap_or_default());
        let ports: Vec<String> = exposed_ports.unwrap_or_default().into_keys().collect();
        let volumes: Vec<String> = volumes.unwrap_or_default().into_keys().collect();
        for words in [&env, &entrypoint, &cmd, &ports, &volumes] {
            if words.len() > WORDS_MAX || words.iter().any(|word| word.len() > WORD_BYTES_MAX || word.contains('\0')) {
                return Err(wrong("a list in it is too long, or holds a text that is too long or has a NUL in it"));
            }
        }
        let working_dir = working_dir.filter(|dir| !dir.is_empty());
        if working_dir.as_ref().is_some_and(|dir| !is_plain_path(dir)) {
            return Err(wrong("its working directory is not a plain absolute path"));
        }
        if !volumes.iter().all(|path| is_plain_path(path)) {
            return Err(wrong("one of its volumes is not a plain absolute path"));
        }
        let platform = (!wire.os.is_empty() && !wire.architecture.is_empty()).then_some(Platform {
            os: wire.os,
            architecture: wire.architecture,
            variant: wire.variant,
        });
        Ok(ImageConfig {
            platform,
            env: variables(env),
            user: user.unwrap_or_default(),
            working_dir,
            entrypoint,
            cmd,
            ports,
            volumes,
            stop_signal: stop_signal.filter(|signal| !signal.is_empty() && signal.len() <= 32),
        })
    }
}

/// `NAME=VALUE` each; the last one of a name wins, at the place of the first. What has no name is no variable.
fn variables(words: Vec<String>) -> Vec<(String, String)> {
    let mut variables: Vec<(String, String)> = Vec::new();
    for word in words {
        let (name, value) = word.split_once('=').unwrap_or((&word, ""));
        if name.is_empty() {
            continue;
        }
        match variables.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = value.to_owned(),
            None => variables.push((name.to_owned(), value.to_owned())),
        }
    }
    variables
}

fn is_plain_path(path: &str) -> bool {
    path.starts_with('/') && path.len() <= 4096 && !path.contains('\0') && path.split('/').all(|part| part != "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(runtime: &str) -> Result<ImageConfig, ImageError> {
        let text = format!(r#"{{"os":"linux","architecture":"amd64","config":{runtime},"rootfs":{{"diff_ids":[]}}}}"#);
        ImageConfig::from_wire(serde_json::from_str(&text).expect("json"))
    }

    #[test]
    fn a_config_says_how_programs_are_run() {
        let config = config(
            r#"{"User":"app:staff","Env":["PATH=/bin","A=1=2","A=3","=x","B"],"Entrypoint":["/init"],"Cmd":null,
                "WorkingDir":"/srv","ExposedPorts":{"80/tcp":{}},"Volumes":{"/data":{}},"StopSignal":"SIGINT"}"#,
        )
        .expect("config");
        let env = [("PATH", "/bin"), ("A", "3"), ("B", "")].map(|(name, value)| (name.into(), value.into()));
        assert_eq!(config.env, env);
        assert_eq!((config.user.as_str(), config.working_dir.as_deref()), ("app:staff", Some("/srv")));
        assert_eq!((config.entrypoint.as_slice(), config.cmd.len()), (&["/init".to_string()][..], 0));
        assert_eq!((config.ports, config.volumes), (vec!["80/tcp".to_string()], vec!["/data".to_string()]));
        assert_eq!(config.stop_signal.as_deref(), Some("SIGINT"));
    }

    #[test]
    fn a_config_that_no_program_could_be_started_with_is_refused() {
        for bad in [
            r#"{"WorkingDir":"srv"}"#,
            r#"{"WorkingDir":"/a/../b"}"#,
            r#"{"Volumes":{"../x":{}}}"#,
            r#"{"Env":["A=\u0000"]}"#,
        ] {
            assert!(config(bad).is_err(), "{bad}");
        }
        let many = format!(r#"{{"Cmd":[{}]}}"#, vec![r#""x""#; WORDS_MAX + 1].join(","));
        assert!(config(&many).is_err());
    }
}
