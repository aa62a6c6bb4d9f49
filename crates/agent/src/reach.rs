//! The network of one attempt: nothing but itself, chosen hosts, or everything; and the files that tell names.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use model::{Cause, CommandSpec, Traffic};
use network::{Allow, CONNECTIONS_MAX, Gate, HostPort, NetworkError, Policy, Quiet, Routed};
use sandbox::{Bind, Net};

use crate::config::FullNetwork;
use crate::halt::{Halt, io, trouble};
use crate::room::Room;
use crate::run::lock;

/// What an attempt can reach. Dropped without [`Reach::close`]: the same, and nobody hears what went through.
#[derive(Debug)]
pub(crate) struct Reach {
    /// Shared with the services; `None`: a namespace of its own that nobody else enters.
    net: Option<Arc<Net>>,
    gate: Option<Gate>,
    quiet: Option<Quiet>,
    routed: Option<Routed>,
    hosts: Option<PathBuf>,
    resolver: Option<PathBuf>,
}

impl Reach {
    /// Opens the network that a step asks for.
    ///
    /// # Errors
    /// An entry of the list is no `host:port`; the kernel refuses.
    pub(crate) fn open(command: &CommandSpec, room: &Room, full: FullNetwork, pool: &Pool) -> Result<Reach, Halt> {
        let allow = match &command.network {
            model::Network::None => None,
            model::Network::Full => Some(Allow::All),
            model::Network::Hosts(hosts) => Some(Allow::Hosts(listed(hosts)?)),
        };
        let mut reach = Reach::of_host();
        if matches!(allow, Some(Allow::All)) && full == FullNetwork::Routed {
            let (net, routed) = network::routed().map_err(|error| trouble(&error))?;
            reach.resolver = Some(write(room, "resolv.conf", &routed.resolv_conf())?);
            reach.net = Some(Arc::new(net));
            reach.routed = Some(routed);
        } else if let Some(allow) = allow {
            let (net, gate) = network::open(Policy { allow, rate: None, connections_max: CONNECTIONS_MAX })
                .map_err(|error| refused(&error))?;
            reach.resolver = Some(write(room, "resolv.conf", &gate.resolv_conf())?);
            reach.net = Some(Arc::new(net));
            reach.gate = Some(gate);
        } else {
            let quiet = pool.take()?;
            reach.net = Some(quiet.net().clone());
            reach.quiet = Some(quiet);
        }
        // The host's own file would tell addresses for names that the gate knows better.
        if reach.quiet.is_none() || !command.services.is_empty() {
            let names = command.services.iter().map(|service| service.id.as_str());
            reach.hosts = Some(write(room, "hosts", &network::hosts_file(names))?);
        }
        Ok(reach)
    }

    /// That of the host, where there is no sandbox.
    pub(crate) fn of_host() -> Reach {
        Reach { net: None, gate: None, quiet: None, routed: None, hosts: None, resolver: None }
    }

    /// For the sandbox.
    pub(crate) fn network(&self) -> sandbox::Network {
        self.net.as_ref().map_or(sandbox::Network::Own, |net| sandbox::Network::Shared(net.clone()))
    }

    /// The namespace, where it is shared.
    pub(crate) fn net(&self) -> Option<&Arc<Net>> {
        self.net.as_ref()
    }

    /// Files that cover those of the host or the image.
    pub(crate) fn binds(&self) -> Vec<Bind> {
        let bind = |from: &Option<PathBuf>, to: &str| {
            from.clone().map(|from| Bind { from, to: PathBuf::from(to), writable: false })
        };
        [bind(&self.hosts, "/etc/hosts"), bind(&self.resolver, "/etc/resolv.conf")].into_iter().flatten().collect()
    }

    /// Variables for programs that want a proxy.
    pub(crate) fn env(&self) -> BTreeMap<String, String> {
        self.gate.as_ref().map(|gate| gate.environment().into_iter().collect()).unwrap_or_default()
    }

    /// Ends it and tells what went through. Everything that was in it must be gone.
    pub(crate) fn close(self, pool: &Pool) -> Option<Traffic> {
        if let Some(quiet) = self.quiet {
            pool.give_back(quiet);
        }
        self.gate.map(Gate::finish).or_else(|| self.routed.map(Routed::finish))
    }
}

/// Networks of a run that reach nothing, for one step after another.
#[derive(Debug, Default)]
pub(crate) struct Pool(Mutex<Vec<Quiet>>);

impl Pool {
    fn take(&self) -> Result<Quiet, Halt> {
        let free = lock(&self.0).pop();
        free.map_or_else(|| Quiet::new().map_err(|error| trouble(&error)), Ok)
    }

    /// What was used goes: connections that linger in it would keep the next step from its ports.
    fn give_back(&self, quiet: Quiet) {
        if quiet.is_untouched() {
            lock(&self.0).push(quiet);
        }
    }
}

/// What the list asks for and no step gets is the pipeline's mistake.
fn refused(error: &NetworkError) -> Halt {
    match error {
        NetworkError::Never { .. } => Cause::Refused(error.to_string()).into(),
        _ => trouble(error),
    }
}

fn listed(hosts: &[String]) -> Result<Vec<HostPort>, Cause> {
    let entry = |text: &String| {
        text.parse().map_err(|error| Cause::Refused(format!("`network` lists `{text}`, which cannot be used: {error}")))
    };
    hosts.iter().map(entry).collect()
}

fn write(room: &Room, name: &str, text: &str) -> Result<PathBuf, Halt> {
    let path = room.path.join(name);
    // A room that was used before may hold one; it is not what a step could have changed, but it may be another's.
    let _ = fs::remove_file(&path);
    fs::write(&path, text).map_err(io("write", &path))?;
    readable(&path)?;
    Ok(path)
}

fn readable(path: &Path) -> Result<(), Halt> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).map_err(io("open up", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_found_by_their_ids() {
        let text = network::hosts_file(["db", "cache"]);
        assert!(text.starts_with("127.0.0.1 localhost db cache\n"), "{text}");
    }

    #[test]
    fn what_is_no_host_is_refused_with_its_text() {
        let Err(Cause::Refused(why)) = listed(&["example.com".to_string()]) else { panic!("taken") };
        assert!(why.contains("`example.com`"), "{why}");
    }
}
