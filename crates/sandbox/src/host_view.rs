//! What of this host a step needs to see: system directories, and toolchains that live in a home folder.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::HostView;

/// What [`detect`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detected {
    /// What to show and to hide. The home itself is not in it: bind a private directory at `HOME`.
    pub view: HostView,
    /// `PATH` and the toolchains' own variables as the step should get them.
    pub env: BTreeMap<String, String>,
    /// Files and directories whose path, size and modification time identify the toolchains, for a platform fingerprint.
    pub markers: Vec<PathBuf>,
}

/// System directories. `/var` and `/run` are not among them: they hold this host's state, not its tools.
const SYSTEM: [&str; 11] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/etc",
    "/opt",
    "/nix",
    "/var/lib/ca-certificates",
];
/// Below them, what tells secrets or how to become somebody else. An entry that ends with `*` is a prefix of names.
const SECRET: [&str; 21] = [
    "/etc/shadow*",
    "/etc/gshadow*",
    "/etc/passwd-",
    "/etc/group-",
    "/etc/sudoers*",
    "/etc/security/opasswd",
    "/etc/ssh/ssh_host_*",
    "/etc/ssl/private",
    "/etc/pki/private",
    "/etc/pki/tls/private",
    "/etc/krb5.keytab",
    "/etc/letsencrypt",
    "/etc/NetworkManager/system-connections",
    "/etc/wireguard",
    "/etc/kubernetes",
    "/etc/rancher",
    "/etc/docker/key.json",
    "/etc/crypttab",
    "/etc/netrc",
    "/etc/ppp",
    "/opt/containerd",
];
/// Where daemons of a host keep sockets and pipes among what is shown, and how many levels below are looked through. A
/// read-only mount keeps nobody from connecting. Elsewhere in `/usr` a package would have to put one.
const MEETING_PLACES: [(&str, u32); 9] = [
    ("/etc", 2),
    ("/opt", 3),
    ("/usr/local", 2),
    ("/usr/local/var", 4),
    ("/usr/local/run", 4),
    ("/usr/local/etc", 2),
    ("/nix/var/nix/daemon-socket", 1),
    ("/nix/var/nix/gc-socket", 1),
    ("/nix/var/run", 2),
];
/// The same for what is shown of a home.
const HOME_LEVELS: u32 = 2;
/// Entries looked at in all: a millisecond or two.
const MEETING_ENTRIES_MAX: usize = 10_000;
/// Each costs a mount. Beyond that, its folder is hidden.
const MEETINGS_MAX: usize = 256;
/// Empty and writable.
const PRIVATE: [&str; 3] = ["/run", "/var/tmp", "/var/cache"];
/// Where the resolver's configuration may really be.
const RESOLVER: [&str; 2] = ["/run", "/var"];

/// A toolchain's folder: the variable that moves it, its place in the home, and what of it is shown.
struct Toolchain {
    variable: Option<&'static str>,
    place: &'static str,
    parts: &'static [&'static str],
}

const fn toolchain(variable: Option<&'static str>, place: &'static str, parts: &'static [&'static str]) -> Toolchain {
    Toolchain { variable, place, parts }
}

/// The empty part is the whole folder. Folders that also hold credentials (`.cargo`) or caches that a step must be able to
/// write (`go/pkg/mod`) show only parts.
const TOOLCHAINS: [Toolchain; 22] = [
    toolchain(Some("CARGO_HOME"), ".cargo", &["bin", "env", "config.toml", "config"]),
    toolchain(Some("RUSTUP_HOME"), ".rustup", &[""]),
    toolchain(Some("PYENV_ROOT"), ".pyenv", &[""]),
    toolchain(Some("NVM_DIR"), ".nvm", &[""]),
    toolchain(Some("GOROOT"), ".go", &[""]),
    toolchain(Some("GOPATH"), "go", &["bin"]),
    toolchain(Some("SDKMAN_DIR"), ".sdkman", &["bin", "candidates", "etc", "src", "libexec", "var"]),
    toolchain(Some("JAVA_HOME"), ".jdk", &[""]),
    toolchain(Some("VOLTA_HOME"), ".volta", &["bin", "tools", "hooks.json"]),
    toolchain(Some("ASDF_DIR"), ".asdf", &[""]),
    toolchain(Some("ASDF_DATA_DIR"), ".asdf", &[""]),
    toolchain(Some("RBENV_ROOT"), ".rbenv", &[""]),
    toolchain(Some("FNM_DIR"), ".local/share/fnm", &[""]),
    toolchain(Some("MISE_DATA_DIR"), ".local/share/mise", &["bin", "shims", "installs", "plugins"]),
    toolchain(Some("DENO_INSTALL"), ".deno", &["bin"]),
    toolchain(Some("BUN_INSTALL"), ".bun", &["bin"]),
    toolchain(Some("PNPM_HOME"), ".local/share/pnpm", &[""]),
    toolchain(Some("DOTNET_ROOT"), ".dotnet", &[""]),
    toolchain(None, ".local/share/uv", &["tools", "python"]),
    toolchain(None, ".local/share/pipx", &["venvs", "shared"]),
    toolchain(None, ".local/pipx", &["venvs", "shared"]),
    toolchain(None, ".local/bin", &[""]),
];

/// How tools find their registries. Shown when no line looks like a credential.
const REGISTRIES: [(&str, &[&str]); 7] = [
    (".config/pip/pip.conf", &["password", "token"]),
    (".pip/pip.conf", &["password", "token"]),
    (".npmrc", &["_auth", "token", "password", "username", "certfile", "keyfile"]),
    (".yarnrc.yml", &["auth", "token", "password"]),
    (".config/go/env", &["password", "token"]),
    (".config/uv/uv.toml", &["password", "token", "username"]),
    (".m2/settings.xml", &["password", "passphrase", "privatekey"]),
];
/// Toolchains of one rustup that are told apart.
const UPDATE_HASHES_MAX: usize = 1000;
/// Longer registry configuration is not read, and not shown.
const REGISTRY_BYTES_MAX: u64 = 256 * 1024;
/// `PATH` entries that are looked at.
const PATH_ENTRIES_MAX: usize = 256;

/// Finds system directories and toolchains. `env` is the caller's environment; it is read for `PATH`, `HOME` and the
/// variables of the toolchains only.
pub fn detect(env: &BTreeMap<String, String>) -> Detected {
    let home = env.get("HOME").map(PathBuf::from).filter(|home| home.is_absolute() && home.as_path() != Path::new("/"));
    let mut search = Search { home, env, ..Search::default_for(env) };
    search.system();
    search.toolchains();
    search.registries();
    search.path();
    search.meetings();
    search.finish()
}

/// Folders that hold configuration for root's eyes beside what every tool reads.
const CONFIGURATION: [&str; 2] = ["/etc", "/usr/local/etc"];
/// Entries looked at; beyond that, whole folders are kept back.
const CONFIGURATION_ENTRIES_MAX: usize = 50_000;

/// What of the host's configuration an ordinary user may not read. A step started by root runs as root without
/// capabilities and could read what belongs to root; with this hidden it sees what anybody may. Looked up once.
pub(crate) fn kept_from_others() -> &'static [PathBuf] {
    static KEPT: OnceLock<Vec<PathBuf>> = OnceLock::new();
    KEPT.get_or_init(|| unreadable_by_others(CONFIGURATION.map(PathBuf::from).to_vec()))
}

fn unreadable_by_others(mut folders: Vec<PathBuf>) -> Vec<PathBuf> {
    use std::os::unix::fs::MetadataExt;
    let mut kept = Vec::new();
    let mut left = CONFIGURATION_ENTRIES_MAX;
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).into_iter().flatten().filter_map(Result::ok);
        for entry in entries {
            let Ok(meta) = entry.metadata() else { continue };
            let needed = if meta.is_dir() { 0o005 } else { 0o004 };
            left = left.saturating_sub(1);
            if meta.is_symlink() {
                continue;
            }
            if meta.mode() & needed != needed || (left == 0 && meta.is_dir()) {
                kept.push(entry.path());
            } else if meta.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    kept
}

struct Search<'a> {
    home: Option<PathBuf>,
    env: &'a BTreeMap<String, String>,
    show: BTreeSet<PathBuf>,
    links: Vec<(PathBuf, PathBuf)>,
    hide: BTreeSet<PathBuf>,
    markers: BTreeSet<PathBuf>,
    found: BTreeMap<String, String>,
}

impl<'a> Search<'a> {
    fn default_for(env: &'a BTreeMap<String, String>) -> Search<'a> {
        Search {
            home: None,
            env,
            show: BTreeSet::new(),
            links: Vec::new(),
            hide: BTreeSet::new(),
            markers: BTreeSet::new(),
            found: BTreeMap::new(),
        }
    }

    fn system(&mut self) {
        for path in SYSTEM.map(PathBuf::from) {
            match fs::read_link(&path) {
                Ok(to) => self.links.push((path, to)),
                Err(_) if path.exists() => {
                    self.show.insert(path);
                }
                Err(_) => {}
            }
        }
        self.hide = SECRET.iter().flat_map(|pattern| matches(pattern)).collect();
        self.resolver();
    }

    /// `/etc/resolv.conf` is often a link to a file that another program keeps in `/run`.
    fn resolver(&mut self) {
        let Ok(real) = fs::canonicalize("/etc/resolv.conf") else { return };
        if RESOLVER.iter().any(|root| real.starts_with(root)) {
            self.show.insert(real);
        }
    }

    fn toolchains(&mut self) {
        for tool in &TOOLCHAINS {
            let set = tool.variable.and_then(|name| self.env.get(name).map(|value| (name, value)));
            let place = match (set, &self.home) {
                // GOPATH may be a list; only its first folder is written to and searched for programs.
                (Some((_, value)), _) => PathBuf::from(value.split(':').next().unwrap_or_default()),
                (None, Some(home)) => home.join(tool.place),
                (None, None) => continue,
            };
            if !place.is_absolute() || place.parent().is_none() || self.home.as_ref() == Some(&place) {
                continue;
            }
            if self.show_parts(&place, tool.parts)
                && let Some((name, value)) = set
            {
                self.found.insert(name.to_owned(), value.clone());
            }
        }
    }

    fn show_parts(&mut self, place: &Path, parts: &[&str]) -> bool {
        let mut any = self.is_shown(place);
        for part in parts {
            let path = if part.is_empty() { place.to_owned() } else { place.join(part) };
            if path.exists() {
                any = true;
                self.reveal(path);
            }
        }
        any
    }

    /// Shows a path of a home, and marks it.
    fn reveal(&mut self, path: PathBuf) {
        if path.is_file() && !is_harmless(&path, &["token", "password", "secret"]) {
            return;
        }
        self.mark(&path);
        if !self.is_shown(&path) {
            self.show.insert(path);
        }
    }

    /// A toolchain's version shows in the names and times of what lies directly in its folder.
    fn mark(&mut self, path: &Path) {
        self.markers.insert(path.to_owned());
        for below in ["toolchains", "versions", "update-hashes", "settings.toml", "version", "VERSION", "release"] {
            let below = path.join(below);
            if below.exists() {
                self.markers.insert(below);
            }
        }
        // A toolchain that is updated in place keeps its name: what it was made from is in a file here.
        let hashes = fs::read_dir(path.join("update-hashes")).into_iter().flatten().flatten();
        self.markers.extend(hashes.map(|entry| entry.path()).take(UPDATE_HASHES_MAX));
    }

    fn registries(&mut self) {
        let Some(home) = self.home.clone() else { return };
        for (file, words) in REGISTRIES {
            let path = home.join(file);
            if path.is_file() && is_harmless(&path, words) {
                self.markers.insert(path.clone());
                self.show.insert(path);
            }
        }
    }

    /// Keeps what is shown; of the home, a directory that no toolchain owns is shown alone.
    fn path(&mut self) {
        let path = self.env.get("PATH").map_or("/usr/local/bin:/usr/bin:/bin", String::as_str);
        let mut kept: Vec<PathBuf> = Vec::new();
        for entry in std::env::split_paths(path).take(PATH_ENTRIES_MAX) {
            if !entry.is_absolute() || kept.contains(&entry) || !entry.is_dir() {
                continue;
            }
            let in_home = self.home.as_ref().is_some_and(|home| entry.starts_with(home) && entry != *home);
            if !self.is_shown(&entry) && in_home && !is_private_to_person(self.home.as_deref(), &entry) {
                self.show.insert(entry.clone());
            }
            if self.is_shown(&entry) {
                self.markers.insert(entry.clone());
                kept.push(entry);
            }
        }
        if let Ok(joined) = std::env::join_paths(&kept)
            && let Some(path) = joined.to_str()
        {
            self.found.insert("PATH".into(), path.to_owned());
        }
    }

    /// Sockets and pipes that others listen at.
    fn meetings(&mut self) {
        let mut open: Vec<(PathBuf, u32)> = Vec::new();
        for path in &self.show {
            if !SYSTEM.iter().any(|system| path.starts_with(system)) {
                open.push((path.clone(), HOME_LEVELS));
            }
        }
        let places = MEETING_PLACES.iter().map(|(path, levels)| (PathBuf::from(path), *levels));
        open.extend(places.filter(|(path, _)| self.is_shown(path)));
        self.hide.extend(meetings(open));
    }

    fn is_shown(&self, path: &Path) -> bool {
        let linked = self.links.iter().any(|(link, _)| path.starts_with(link));
        linked || path.ancestors().any(|ancestor| self.show.contains(ancestor))
    }

    fn finish(mut self) -> Detected {
        for name in ["/var/lib/dpkg/status", "/var/lib/rpm/rpmdb.sqlite", "/lib/apk/db/installed", "/etc/os-release"] {
            if Path::new(name).exists() {
                self.markers.insert(name.into());
            }
        }
        // What a shown folder contains is shown with it.
        let all = self.show.clone();
        let within = |path: &PathBuf| path.ancestors().skip(1).any(|ancestor| all.contains(ancestor));
        let private = PRIVATE.iter().map(PathBuf::from).collect();
        Detected {
            view: HostView {
                show: self.show.into_iter().filter(|path| !within(path)).collect(),
                hide: self.hide.into_iter().collect(),
                links: self.links,
                private,
            },
            env: self.found,
            markers: self.markers.into_iter().collect(),
        }
    }
}

/// The sockets and pipes in these folders, down to so many levels. Links are not followed: they lead to what is not shown,
/// or is looked at where it is.
fn meetings(mut open: Vec<(PathBuf, u32)>) -> BTreeSet<PathBuf> {
    use std::os::unix::fs::FileTypeExt;
    let (mut found, mut left) = (BTreeSet::new(), MEETING_ENTRIES_MAX);
    while let Some((folder, levels)) = open.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            left = left.saturating_sub(1);
            if left == 0 {
                return found;
            }
            // Told by the folder itself on usual file systems: nothing is opened.
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() && levels > 1 {
                open.push((entry.path(), levels - 1));
            } else if (kind.is_socket() || kind.is_fifo()) && !found.contains(&folder) {
                let many = found.len() >= MEETINGS_MAX;
                found.insert(if many { folder.clone() } else { entry.path() });
            }
        }
    }
    found
}

/// Folders of a home that are never shown, even when `PATH` leads into them.
fn is_private_to_person(home: Option<&Path>, path: &Path) -> bool {
    const NEVER: [&str; 8] = [".ssh", ".gnupg", ".aws", ".docker", ".kube", ".azure", ".config", ".password-store"];
    home.is_some_and(|home| NEVER.iter().any(|name| path.starts_with(home.join(name))))
}

/// No line has one of the words, or a URL with a password in it.
fn is_harmless(path: &Path, words: &[&str]) -> bool {
    if fs::metadata(path).map_or(true, |meta| meta.len() > REGISTRY_BYTES_MAX) {
        return false;
    }
    let Ok(text) = fs::read_to_string(path) else { return false };
    let text = text.to_ascii_lowercase();
    !words.iter().any(|word| text.contains(word)) && !text.split_whitespace().any(has_password)
}

/// `https://user:password@host/`.
fn has_password(word: &str) -> bool {
    word.split("://")
        .skip(1)
        .any(|rest| rest.split(['/', '?', '"', '\'']).next().is_some_and(|host| host.contains('@')))
}

/// The existing paths that a pattern of [`SECRET`] means.
fn matches(pattern: &str) -> Vec<PathBuf> {
    let Some(prefix) = pattern.strip_suffix('*') else {
        let path = PathBuf::from(pattern);
        return if fs::symlink_metadata(&path).is_ok() { vec![path] } else { Vec::new() };
    };
    let prefix = Path::new(prefix);
    let (Some(dir), Some(start)) = (prefix.parent(), prefix.file_name()) else { return Vec::new() };
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let start = start.as_encoded_bytes();
    let names = entries.filter_map(Result::ok).map(|entry| entry.path());
    names.filter(|path| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(start))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Home {
        dir: tempfile::TempDir,
        env: BTreeMap<String, String>,
    }

    impl Home {
        fn new(path: &[&str]) -> Home {
            let dir = tempfile::tempdir().expect("the temporary folder is writable");
            let home = dir.path().to_str().expect("is text").to_owned();
            let path: Vec<_> = path.iter().map(|entry| entry.replace('~', &home)).collect();
            let env = [("HOME".to_owned(), home), ("PATH".to_owned(), path.join(":"))].into();
            Home { dir, env }
        }

        fn with(self, file: &str, text: &str) -> Home {
            let path = self.dir.path().join(file);
            fs::create_dir_all(path.parent().expect("is in the home")).expect("made");
            fs::write(path, text).expect("made");
            self
        }

        fn detect(&self) -> Detected {
            detect(&self.env)
        }

        /// What of the home is shown.
        fn shown(&self) -> Vec<String> {
            let shown = self.detect().view.show;
            let below = shown.iter().filter_map(|path| path.strip_prefix(self.dir.path()).ok());
            below.map(|path| path.display().to_string()).collect()
        }
    }

    #[test]
    fn of_a_home_only_toolchains_are_shown() {
        let home = Home::new(&["~/.cargo/bin", "/usr/bin"])
            .with(".cargo/bin/cargo", "")
            .with(".cargo/credentials.toml", "token = 'x'")
            .with(".cargo/registry/cache", "")
            .with(".rustup/settings.toml", "")
            .with(".ssh/id_ed25519", "")
            .with(".aws/credentials", "")
            .with("letters/secret", "");
        assert_eq!(home.shown(), [".cargo/bin", ".rustup"]);
    }

    #[test]
    fn what_a_shown_toolchain_was_made_from_and_shown_configuration_are_markers() {
        let files = [".rustup/update-hashes/stable-x86_64-unknown-linux-gnu", ".npmrc"];
        let home = files.iter().fold(Home::new(&["/usr/bin"]), |home, file| home.with(file, "x"));
        let markers = home.detect().markers;
        for file in files {
            assert!(markers.contains(&home.dir.path().join(file)), "{file}: {markers:?}");
        }
    }

    #[test]
    fn registry_configuration_is_shown_when_it_tells_no_secret() {
        let home = Home::new(&["/usr/bin"])
            .with(".npmrc", "registry=https://mirror.example/npm")
            .with(".config/pip/pip.conf", "[global]\nindex-url = https://mirror.example/simple")
            .with(".config/gh/hosts.yml", "oauth_token: x");
        assert_eq!(home.shown(), [".config/pip/pip.conf", ".npmrc"]);
    }

    #[test]
    fn registry_configuration_with_a_secret_is_not_shown() {
        let home = Home::new(&["/usr/bin"])
            .with(".npmrc", "//registry.example/:_authToken=x")
            .with(".config/pip/pip.conf", "index-url = https://me:secret@mirror.example/simple")
            .with(".m2/settings.xml", "<password>x</password>")
            .with(".cargo/config.toml", "[registry]\ntoken = 'x'");
        assert_eq!(home.shown(), [""; 0]);
    }

    #[test]
    fn a_path_entry_of_the_home_that_no_toolchain_owns_is_shown_alone() {
        let home = Home::new(&["~/tools/bin", "~/.ssh", "/usr/bin"]).with("tools/bin/x", "").with("tools/secret", "");
        let home = home.with(".ssh/x", "");
        assert_eq!(home.shown(), ["tools/bin"]);
    }

    #[test]
    fn path_keeps_what_exists_and_is_shown_in_order_and_once() {
        let home =
            Home::new(&["/nowhere", "~/bin", "/usr/bin", "relative", "/proc", "/usr/bin", "/bin"]).with("bin/x", "");
        let path = home.detect().env.remove("PATH").expect("is always set");
        assert_eq!(path, format!("{}/bin:/usr/bin:/bin", home.dir.path().display()));
    }

    #[test]
    fn a_toolchain_that_a_variable_moves_is_found_and_the_variable_kept() {
        let mut home = Home::new(&["/usr/bin"]).with("elsewhere/rust/settings.toml", "");
        let place = home.dir.path().join("elsewhere/rust").display().to_string();
        home.env.insert("RUSTUP_HOME".into(), place.clone());
        home.env.insert("PYENV_ROOT".into(), "/nowhere".into());
        home.env.insert("NVM_DIR".into(), home.dir.path().display().to_string());
        let detected = home.detect();
        assert_eq!(detected.env.get("RUSTUP_HOME"), Some(&place));
        assert_eq!(detected.env.get("PYENV_ROOT"), None);
        assert_eq!(home.shown(), ["elsewhere/rust"]);
        assert!(detected.markers.contains(&PathBuf::from(place).join("settings.toml")));
    }

    #[test]
    fn what_others_may_not_read_is_found_with_its_folder() {
        use std::os::unix::fs::PermissionsExt;
        let home = Home::new(&[]).with("open/hba.conf", "").with("open/public", "").with("closed/key", "");
        let set = |path: &str, mode| {
            fs::set_permissions(home.dir.path().join(path), fs::Permissions::from_mode(mode)).expect("it is ours");
        };
        set("open", 0o755);
        set("open/public", 0o644);
        set("open/hba.conf", 0o640);
        set("closed", 0o750);
        let mut kept = unreadable_by_others(vec![home.dir.path().to_owned()]);
        kept.sort();
        assert_eq!(kept, ["closed", "open/hba.conf"].map(|path| home.dir.path().join(path)));
    }

    #[test]
    fn sockets_and_pipes_in_what_is_shown_of_a_home_are_hidden() {
        let home = Home::new(&["~/tools/bin", "/usr/bin"]).with("tools/bin/run/x", "").with("tools/x", "");
        let place = |name: &str| home.dir.path().join(name);
        let _daemons = ["tools/bin/a.sock", "tools/bin/run/b.sock", "tools/c.sock"]
            .map(|name| std::os::unix::net::UnixListener::bind(place(name)).expect("made"));
        let pipe = std::ffi::CString::new(place("tools/bin/pipe").display().to_string()).expect("no NUL");
        // SAFETY: the path is NUL-terminated.
        assert_eq!(unsafe { libc::mkfifo(pipe.as_ptr(), 0o600) }, 0);
        let hidden = home.detect().view.hide;
        let hidden: Vec<_> = hidden.iter().filter_map(|path| path.strip_prefix(home.dir.path()).ok()).collect();
        assert_eq!(hidden, ["tools/bin/a.sock", "tools/bin/pipe", "tools/bin/run/b.sock"].map(Path::new));
    }

    #[test]
    fn the_shadow_file_is_hidden_and_merged_directories_are_links() {
        let view = Home::new(&["/usr/bin"]).detect().view;
        assert!(view.hide.contains(&PathBuf::from("/etc/shadow")));
        for (link, to) in &view.links {
            assert_eq!(&fs::read_link(link).expect("is a link"), to);
        }
        assert!(view.show.contains(&PathBuf::from("/usr")));
    }
}
