//! Where a store of a test is.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use store::{Location, Store};

/// A place for one store, gone with the test.
pub struct Home {
    pub location: Location,
    pub folder: tempfile::TempDir,
}

impl Home {
    pub fn sqlite() -> Home {
        let folder = tempfile::tempdir().unwrap();
        Home { location: Location::Sqlite(folder.path().join("store.db")), folder }
    }

    /// A database of its own in a server that all tests of this process share; `None` where there is no PostgreSQL.
    pub fn postgres() -> Option<Home> {
        static SERVER: OnceLock<Option<Server>> = OnceLock::new();
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let server = SERVER.get_or_init(Server::start).as_ref()?;
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        server.sql("postgres", &format!("CREATE DATABASE {name}"));
        Some(Home { location: Location::Postgres(server.url(&name)), folder: tempfile::tempdir().unwrap() })
    }

    /// Another one on the same backend.
    pub fn another(&self) -> Home {
        match self.location {
            Location::Sqlite(_) => Home::sqlite(),
            Location::Postgres(_) => Home::postgres().expect("there was one a moment ago"),
        }
    }

    /// A place for a file.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs a statement past the store, as somebody who looks or tampers. Rows as lines.
    pub fn sql(&self, sql: &str) -> String {
        let path = match &self.location {
            Location::Postgres(url) => return psql(url, sql),
            Location::Sqlite(path) => path,
        };
        let connection = rusqlite::Connection::open(path).unwrap();
        let mut statement = connection.prepare(sql).unwrap();
        let columns = statement.column_count();
        let mut rows = statement.query([]).unwrap();
        let mut lines = Vec::new();
        while let Some(row) = rows.next().unwrap() {
            let cells = (0..columns).map(|at| format!("{:?}", row.get::<_, rusqlite::types::Value>(at).unwrap()));
            lines.push(cells.collect::<Vec<_>>().join("|"));
        }
        lines.join("\n")
    }

    /// All that follows from the log.
    pub fn read_models(&self) -> [String; 4] {
        [
            "runs ORDER BY key",
            "records ORDER BY kind, key",
            "artifacts ORDER BY run, node, name",
            "timings ORDER BY step",
        ]
        .map(|table| self.sql(&format!("SELECT * FROM {table}")))
    }

    pub fn open(&self) -> Store {
        Store::open(&self.location).unwrap()
    }
}

/// A real server on a socket in its own folder. It ends, and its folder is removed, once this process is gone: a shell reads
/// a pipe from it.
pub struct Server {
    folder: PathBuf,
    _shell: Child,
}

impl Server {
    fn start() -> Option<Server> {
        let Some(tools) = tools() else {
            assert!(std::env::var_os("CI").is_none(), "PostgreSQL is missing: install the package postgresql");
            eprintln!("not tested: there is no PostgreSQL here (package postgresql)");
            return None;
        };
        let folder = tempfile::Builder::new().prefix("pg").tempdir().unwrap().keep();
        let data = folder.join("data");
        let as_owner = if is_root() { "runuser -u postgres --" } else { "" };
        let (at, pg, data) = (folder.display(), tools.display(), data.display());
        let options = "-c listen_addresses= -c max_connections=300 -c shared_buffers=32MB";
        let start = format!(
            "set -e; {owner}; {as_owner} {pg}/initdb -D {data} -U postgres -A trust --no-sync >/dev/null
             {as_owner} {pg}/pg_ctl -D {data} -w -t 60 -l {at}/log -o '{options} -k {at}' start >/dev/null",
            owner = if is_root() { format!("chown postgres {at}") } else { ":".into() },
        );
        let started = Command::new("sh").args(["-c", &start]).stdin(Stdio::null()).status().unwrap();
        assert!(started.success(), "PostgreSQL did not start: {at}/log");
        let stop =
            format!("cat >/dev/null; {as_owner} {pg}/pg_ctl -D {data} -m immediate stop >/dev/null; rm -rf {at}");
        let mut shell = Command::new("setsid");
        let shell = shell.args(["sh", "-c", &stop]).stdin(Stdio::piped()).spawn().unwrap();
        Some(Server { folder, _shell: shell })
    }

    fn url(&self, database: &str) -> String {
        let folder = self.folder.display().to_string().replace('/', "%2F");
        format!("postgres://postgres@{folder}/{database}")
    }

    fn sql(&self, database: &str, sql: &str) {
        psql(&self.url(database), sql);
    }
}

/// Runs a statement in a database, as somebody who tampers or looks.
fn psql(url: &str, sql: &str) -> String {
    let ran = Command::new("psql").args(["-v", "ON_ERROR_STOP=1", "-qAt", "-c", sql, url]).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap().trim().to_owned()
}

fn tools() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut folders: Vec<_> = versions.flatten().map(|version| version.path().join("bin")).collect();
    folders.sort();
    folders.into_iter().rev().find(|folder| folder.join("initdb").exists())
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(Path::new("/proc/self")).is_ok_and(|me| me.uid() == 0)
}
