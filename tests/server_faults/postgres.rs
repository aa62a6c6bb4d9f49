//! A PostgreSQL of the test's own, and a standby that follows it.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::scene::free_port;

/// A server of PostgreSQL in a folder, on the loopback address; it ends with this.
pub struct Postgres {
    folder: tempfile::TempDir,
    tools: PathBuf,
    pub port: u16,
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Postgres {
    /// Starts one that waits for a standby with each commit, once there is one. `None` where there is none to be had.
    pub fn start() -> Option<Postgres> {
        let Some(tools) = tools() else {
            assert!(std::env::var_os("CI").is_none(), "PostgreSQL is missing: install the package postgresql");
            eprintln!("not tested: there is no PostgreSQL here (package postgresql)");
            return None;
        };
        let postgres = Postgres::place(tools);
        let data = postgres.data();
        postgres.run("initdb", &["-D", &data, "-U", "postgres", "-A", "trust", "--no-sync"]);
        postgres.begin();
        Some(postgres)
    }

    /// A copy that follows this one; from now on a commit waits for it.
    pub fn standby(&self) -> Postgres {
        let standby = Postgres::place(self.tools.clone());
        let (data, port) = (standby.data(), self.port.to_string());
        let from = [
            "-h",
            "127.0.0.1",
            "-p",
            &port,
            "-U",
            "postgres",
            "-D",
            &data,
            "-R",
            "-C",
            "-S",
            "standby",
            "-X",
            "stream",
        ];
        standby.run("pg_basebackup", &from);
        standby.begin();
        self.sql("ALTER SYSTEM SET synchronous_standby_names = '*'");
        self.sql("SELECT pg_reload_conf()");
        standby
    }

    /// What connects to whichever of these accepts writes.
    pub fn url(all: &[&Postgres]) -> String {
        let hosts: Vec<String> = all.iter().map(|one| format!("127.0.0.1:{}", one.port)).collect();
        format!("postgres://postgres@{}/postgres?target_session_attrs=read-write&connect_timeout=2", hosts.join(","))
    }

    pub fn stop(&self) {
        self.try_run("pg_ctl", &["-D", &self.data(), "-m", "immediate", "stop"]);
    }

    /// A standby becomes a primary, and waits for nobody.
    pub fn promote(&self) {
        self.run("pg_ctl", &["-D", &self.data(), "-w", "promote"]);
        self.sql("ALTER SYSTEM SET synchronous_standby_names = ''");
        self.sql("SELECT pg_reload_conf()");
    }

    fn place(tools: PathBuf) -> Postgres {
        let folder = tempfile::Builder::new().prefix("pg").tempdir().expect("a folder");
        if is_root() {
            let done = Command::new("chown").arg("postgres").arg(folder.path()).status();
            assert!(done.expect("chown").success());
        }
        Postgres { folder, tools, port: free_port() }
    }

    fn data(&self) -> String {
        self.folder.path().join("data").display().to_string()
    }

    fn begin(&self) {
        let options = format!(
            "-c listen_addresses=127.0.0.1 -c port={} -c unix_socket_directories= -c max_connections=100 -c shared_buffers=32MB",
            self.port
        );
        let log = self.folder.path().join("log").display().to_string();
        self.run("pg_ctl", &["-D", &self.data(), "-w", "-t", "60", "-l", &log, "-o", &options, "start"]);
    }

    fn sql(&self, sql: &str) {
        let port = self.port.to_string();
        self.run("psql", &["-q", "-h", "127.0.0.1", "-p", &port, "-U", "postgres", "-c", sql]);
    }

    #[track_caller]
    fn run(&self, tool: &str, words: &[&str]) {
        assert!(self.try_run(tool, words), "{tool} {words:?}");
    }

    fn try_run(&self, tool: &str, words: &[&str]) -> bool {
        let tool = self.tools.join(tool);
        let mut command = match is_root() {
            true => {
                let mut command = Command::new("runuser");
                command.args(["-u", "postgres", "--"]).arg(tool);
                command
            }
            false => Command::new(tool),
        };
        // Not into the pipe of the tests: the server would keep it open.
        let quiet = std::process::Stdio::null;
        command.args(words).current_dir(self.folder.path()).stdin(quiet()).stdout(quiet());
        command.stderr(quiet()).status().is_ok_and(|status| status.success())
    }
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|known| std::os::unix::fs::MetadataExt::uid(&known) == 0)
}

/// The newest of the installed ones.
fn tools() -> Option<PathBuf> {
    let versions = std::fs::read_dir(Path::new("/usr/lib/postgresql")).ok()?;
    let mut folders: Vec<PathBuf> = versions.flatten().map(|entry| entry.path().join("bin")).collect();
    folders.sort();
    folders.into_iter().rev().find(|folder| folder.join("initdb").exists())
}
