//! Bazel 2.1 and 4.2: the oldest API in use, over gRPC and over HTTP.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::scene::{Said, Server, read, run, token, tool, write};

/// What the workspace builds: a command that writes the time, a large file, and a C program with its test.
const TARGETS: [&str; 4] = ["//:gen", "//:big", "//:hello", "//:t"];

const BUILD: &str = r#"
genrule(name = "gen", srcs = ["in.txt"], outs = ["gen.txt"], cmd = "date +%s%N > $@")
genrule(name = "big", outs = ["big.bin"], cmd = "head -c 16777216 /dev/zero | openssl enc -aes-128-ctr -K 00 -iv 00 2>/dev/null > $@")
cc_library(name = "lib", srcs = ["lib.c"], hdrs = ["lib.h"])
cc_binary(name = "hello", srcs = ["main.c"], deps = [":lib"])
cc_test(name = "t", srcs = ["t.c"], deps = [":lib"])
"#;

/// Bazel's own C rules under the names that its configuration of the toolchain wants: nothing is downloaded.
const CC_RULES: &str = r#"
cc_library = native.cc_library
cc_binary = native.cc_binary
cc_test = native.cc_test
cc_import = native.cc_import
cc_toolchain = native.cc_toolchain
cc_toolchain_suite = native.cc_toolchain_suite
def _nothing(name, visibility = None, **kw):
    native.filegroup(name = name, visibility = visibility)
cc_flags_supplier = _nothing
compiler_flag = _nothing
cc_toolchain_alias = getattr(native, "cc_toolchain_alias", _nothing)
"#;

/// A workspace and the Bazel that builds it. Dropped, Bazel's server ends.
pub struct Workspace {
    folder: tempfile::TempDir,
    bazel: PathBuf,
}

impl Workspace {
    /// With a Bazel of `dev/tools.sh`; `None` where that cannot be installed.
    pub fn with(name: &str) -> Option<Workspace> {
        let workspace = Workspace { bazel: tool(name)?, folder: tempfile::tempdir().expect("a folder") };
        // Both are built with these packages of Debian's in place of what would be downloaded.
        tool("bazel42")?;
        workspace.furnish();
        Some(workspace)
    }

    fn furnish(&self) {
        let stub = self.folder.path().join("stub");
        let root = self.root();
        for (path, text) in [
            ("WORKSPACE", "workspace(name = \"t\")\n"),
            ("BUILD", BUILD),
            ("in.txt", "in\n"),
            ("lib.h", "int f(int);\n"),
            ("lib.c", "#include \"lib.h\"\nint f(int x) { return 3 * x; }\n"),
            (
                "main.c",
                "#include <stdio.h>\n#include \"lib.h\"\nint main(void) { printf(\"%d\\n\", f(2)); return 0; }\n",
            ),
            ("t.c", "#include \"lib.h\"\nint main(void) { return f(2) == 6 ? 0 : 1; }\n"),
        ] {
            write(&root.join(path), text);
        }
        for (path, text) in [
            ("rules_cc/WORKSPACE", "workspace(name = \"rules_cc\")\n"),
            ("rules_cc/BUILD", ""),
            ("rules_cc/cc/BUILD", ""),
            ("rules_cc/cc/defs.bzl", CC_RULES),
            ("cov/WORKSPACE", "workspace(name = \"remote_coverage_tools\")\n"),
            (
                "cov/BUILD",
                "filegroup(name = \"coverage_report_generator\", visibility = [\"//visibility:public\"])\n\
                 filegroup(name = \"lcov_merger\", visibility = [\"//visibility:public\"])\n",
            ),
        ] {
            write(&stub.join(path), text);
        }
        let mut rc = String::new();
        for (name, at) in [
            ("rules_cc", stub.join("rules_cc")),
            ("remote_coverage_tools", stub.join("cov")),
            ("platforms", "/usr/share/bazel/tools/platforms".into()),
            ("bazel_skylib", "/usr/share/bazel/tools/skylib".into()),
            ("rules_java", "/usr/share/bazel/rules/java".into()),
            ("rules_proto", "/usr/share/bazel/rules/proto".into()),
        ] {
            rc.push_str(&format!("build --override_repository={name}={}\n", at.display()));
        }
        rc.push_str("build --color=no --curses=no --jobs=4 --verbose_failures --nosandbox_debug\n");
        write(&root.join(".bazelrc"), &rc);
    }

    /// The workspace.
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("workspace")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.bazel);
        command.arg(format!("--output_user_root={}", self.folder.path().join("bazel").display()));
        command.args(["--nohome_rc", "--max_idle_secs=60"]).args(args).current_dir(self.root());
        command
    }

    /// Runs Bazel.
    #[track_caller]
    pub fn bazel(&self, args: &[&str]) -> Said {
        run(&mut self.command(args))
    }

    /// Builds and tests everything with these flags.
    #[track_caller]
    pub fn test(&self, flags: &[&str]) -> Said {
        self.bazel(&[&["test"], flags, &TARGETS].concat())
    }

    /// Forgets everything that is local.
    #[track_caller]
    pub fn clean(&self) {
        self.bazel(&["clean"]).fine();
    }

    /// What the last execution of the command wrote.
    pub fn time(&self) -> String {
        read(&self.root().join("bazel-bin/gen.txt"))
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        let _ = self.command(&["shutdown"]).output();
        // Bazel takes the right to write from what it made.
        let _ = Command::new("chmod").args(["-R", "u+w"]).arg(self.folder.path()).output();
    }
}

/// Processes as Bazel sums them up, of one kind: `11 processes: 9 remote cache hit, 2 linux-sandbox.`
#[track_caller]
pub fn processes(said: &Said, kind: &str) -> usize {
    let line = said.text.lines().find(|line| line.contains(" process") && line.contains(": "));
    let line = line.unwrap_or_else(|| panic!("no line about processes in:\n{}", said.text));
    let counts = line.rsplit(": ").next().unwrap_or_default().trim_end_matches('.');
    let of_kind = |count: &str| {
        let (number, name) = count.trim().split_once(' ')?;
        (name == kind).then(|| number.parse().ok()).flatten()
    };
    counts.split(',').find_map(of_kind).unwrap_or(0)
}

/// Processes that were neither taken from the cache nor are Bazel's own bookkeeping.
#[track_caller]
pub fn executed(said: &Said) -> usize {
    ["linux-sandbox", "processwrapper-sandbox", "local", "remote", "worker"]
        .iter()
        .map(|kind| processes(said, kind))
        .sum()
}

/// Builds, forgets, builds again: nothing is executed, and what was made is the same.
#[track_caller]
fn executes_nothing_again(workspace: &Workspace, flags: &[&str]) {
    workspace.clean();
    let cold = workspace.test(flags).fine();
    assert!(executed(&cold) >= 6, "with {flags:?}:\n{}", cold.text);
    let made = workspace.time();
    workspace.clean();
    let warm = workspace.test(flags).fine();
    assert_eq!(executed(&warm), 0, "with {flags:?}:\n{}", warm.text);
    assert_eq!(processes(&warm, "remote cache hit"), executed(&cold), "with {flags:?}:\n{}", warm.text);
    if !flags.contains(&"--remote_download_minimal") {
        assert_eq!(workspace.time(), made, "with {flags:?}");
    }
}

#[test]
fn bazel_2_1_executes_nothing_twice_over_grpc_and_http() {
    let Some(workspace) = Workspace::with("bazel21") else { return };
    let server = Server::start(&[]);
    let (grpc, http) = (format!("--remote_cache={}", server.grpc()), format!("--remote_cache={}/web", server.http()));
    executes_nothing_again(&workspace, &[&grpc]);
    executes_nothing_again(&workspace, &[&grpc, "--remote_instance_name=team/main"]);
    executes_nothing_again(&workspace, &[&http]);
}

#[test]
fn bazel_4_2_executes_nothing_twice_over_grpc_and_http_and_without_the_bytes() {
    let Some(workspace) = Workspace::with("bazel42") else { return };
    let server = Server::start(&[]);
    let (grpc, http) = (format!("--remote_cache={}", server.grpc()), format!("--remote_cache={}/web", server.http()));
    executes_nothing_again(&workspace, &[&grpc]);
    executes_nothing_again(&workspace, &[&grpc, "--remote_instance_name=team/main", "--remote_download_minimal"]);
    executes_nothing_again(&workspace, &[&http]);
}

#[test]
fn a_blob_that_was_evicted_is_made_again_and_fails_no_build() {
    let Some(workspace) = Workspace::with("bazel42") else { return };
    let server = Server::start(&["--lease", "0s"]);
    let cache = format!("--remote_cache={}", server.grpc());
    for flags in [&[cache.as_str()][..], &[&cache, "--remote_download_minimal"]] {
        workspace.clean();
        workspace.test(flags).fine();
        server.evict("1MiB");
        workspace.clean();
        let again = workspace.test(flags).fine();
        assert!(executed(&again) >= 1, "nothing was evicted:\n{}", again.text);
        workspace.clean();
        let healed = workspace.test(flags).fine();
        assert_eq!(executed(&healed), 0, "what was made again is not in the cache:\n{}", healed.text);
    }
}

#[test]
fn a_token_that_may_only_read_gets_everything_and_writes_nothing() {
    let Some(workspace) = Workspace::with("bazel42") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let (ci, desk) = (token(folder.path(), "ci", "write"), token(folder.path(), "desk", "read"));
    let tokens: String = path(folder.path().join("tokens"));
    let server = Server::start_in(folder, &["--tokens", &tokens]);
    let cache = format!("--remote_cache={}", server.grpc());
    let header = |secret: &str| format!("--remote_header=authorization=Bearer {secret}");
    let (ci, desk) = (header(&ci), header(&desk));
    let nobody = workspace.bazel(&["build", "//:gen", &cache]);
    assert!(!nobody.ok && nobody.text.contains("UNAUTHENTICATED"), "{}", nobody.text);
    // It has nothing to read yet, and must not leave anything.
    workspace.test(&[&cache, &desk, "--remote_upload_local_results=false"]).fine();
    workspace.clean();
    let cold = workspace.test(&[&cache, &ci]).fine();
    assert_eq!(processes(&cold, "remote cache hit"), 0, "{}", cold.text);
    workspace.clean();
    let warm = workspace.test(&[&cache, &desk, "--remote_upload_local_results=false"]).fine();
    assert_eq!(executed(&warm), 0, "{}", warm.text);
}

fn path(path: impl AsRef<Path>) -> String {
    path.as_ref().to_str().expect("text").to_owned()
}
