//! What the agent's host is for every attempt: found out once, while the first run is still being planned.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use sandbox::HostView;

use crate::config::Config;
use crate::{platform, room};

/// Where a home is when the caller has none.
const HOME_DEFAULT: &str = "/home/pace";

/// The host.
#[derive(Debug, Default)]
pub(crate) struct Host {
    pub(crate) view: HostView,
    /// `PATH` and the toolchains' own variables.
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) home: PathBuf,
    /// Paths below the home where the view mounts something, with the directories on the way.
    pub(crate) home_points: BTreeSet<PathBuf>,
    pub(crate) fingerprint: String,
}

impl Host {
    pub(crate) fn look(config: &Config) -> Host {
        let found = sandbox::host_view::detect(&config.caller_env);
        let home = config.caller_env.get("HOME").map(PathBuf::from).filter(|home| is_usable(home));
        let variables: String = found.env.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
        let fingerprint = platform::fingerprint(
            found.env.get("PATH").map_or("", String::as_str),
            &variables,
            &found.markers,
            &config.cache_dir.join("platform"),
        );
        let home = home.unwrap_or_else(|| HOME_DEFAULT.into());
        let links = found.view.links.iter().map(|(link, _)| link);
        let mounts = found.view.show.iter().chain(&found.view.hide).chain(&found.view.private).chain(links);
        let home_points = room::mount_points(&home, mounts);
        Host { view: found.view, env: found.env, home, home_points, fingerprint }
    }
}

fn is_usable(home: &Path) -> bool {
    home.is_absolute() && home.parent().is_some()
}
