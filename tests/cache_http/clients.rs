//! Real clients: their work is done once, everything local is lost, and the second time nothing is executed.

use std::path::Path;
use std::process::Command;

use crate::server::{Server, executed, program, run, tool, write};

/// A repository under Git with these files.
fn repository(folder: &Path, files: &[(&str, &str)]) {
    for (path, text) in files {
        write(folder, path, text);
    }
    let git = |args: &[&str]| run(Command::new("git").args(args).current_dir(folder));
    git(&["init", "-q", "-b", "main"]);
    git(&["add", "-A"]);
    git(&["-c", "user.name=Ada", "-c", "user.email=ada@example.com", "commit", "-q", "-m", "A change"]);
}

/// A client of a build tool: no colours, no home, no cloud, no daemon.
fn client(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).env("HOME", folder.join("home")).env("NO_COLOR", "1");
    for name in ["CI", "GITHUB_ACTIONS", "XDG_CACHE_HOME", "TURBO_CACHE", "CCACHE_DIR", "SCCACHE_DIR"] {
        command.env_remove(name);
    }
    command
}

#[test]
fn moon_over_http_executes_nothing_the_second_time() {
    let Some(moon) = tool("moon") else { return };
    let server = Server::start();
    let folder = server.folder.path().join("moon");
    let workspace = format!(
        "projects: {{app: app}}\nvcs: {{client: git, defaultBranch: main}}\nremote:\n  api: http\n  host: '{}'\n  \
         cache: {{instanceName: team/main, verifyIntegrity: true}}\ntelemetry: false\n",
        server.url()
    );
    repository(
        &folder,
        &[
            (".moon/workspace.yml", &workspace),
            (
                "app/moon.yml",
                "language: unknown\ntasks:\n  build:\n    command: sh build.sh\n    inputs: [build.sh, in.txt]\n    outputs: [out]\n",
            ),
            (
                "app/build.sh",
                "echo ran >> ../count; mkdir -p out; cat in.txt > out/a.txt; head -c 3000000 /dev/zero > out/big",
            ),
            ("app/in.txt", "hello\n"),
        ],
    );
    let build = || run(client(&moon, &folder).args(["run", "app:build"]));
    build();
    assert_eq!(executed(&folder), 1);
    for local in [".moon/cache", "app/out"] {
        std::fs::remove_dir_all(folder.join(local)).expect("it was made");
    }
    let said = build();
    assert_eq!(executed(&folder), 1, "{said}");
    assert!(said.contains("cached from remote"), "{said}");
    assert_eq!(std::fs::read_to_string(folder.join("app/out/a.txt")).expect("restored"), "hello\n");
    assert_eq!(std::fs::metadata(folder.join("app/out/big")).expect("restored").len(), 3_000_000);
}

/// A compiler that counts how often it compiles. Its name and place are the same both times.
fn counting_compiler(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("bin/gcc");
    let script = format!(
        "#!/bin/sh\nfor word; do case $word in -c) echo ran >> '{}/count';; -E|-fpreprocessed) ;; esac; done\nexec /usr/bin/gcc \"$@\"\n",
        folder.display()
    );
    write(folder, "bin/gcc", script);
    run(Command::new("chmod").arg("+x").arg(&path));
    path
}

fn sources(folder: &Path) -> Vec<String> {
    let names: Vec<String> = (0..3).map(|at| format!("file{at}.c")).collect();
    for (at, name) in names.iter().enumerate() {
        write(folder, name, format!("int f{at}(void) {{ return {at}; }}\n"));
    }
    names
}

fn ccache(layout: &str, path: &str) {
    let (Some(ccache), Some(_)) = (program("ccache"), program("gcc")) else { return };
    let server = Server::start();
    let folder = server.folder.path().join("ccache");
    let (compiler, names) = (counting_compiler(&folder), sources(&folder));
    let storage = format!("{}{path}|layout={layout}", server.url());
    let with = |args: &[&str]| {
        let mut command = client(&ccache, &folder);
        command.env("CCACHE_REMOTE_STORAGE", &storage).env("CCACHE_DIR", folder.join("local"));
        command.env("CCACHE_COMPILERCHECK", "none");
        run(command.args(args))
    };
    let build = || {
        for name in &names {
            with(&[compiler.to_str().expect("UTF-8"), "-c", name]);
        }
    };
    build();
    assert_eq!(executed(&folder), 3);
    std::fs::remove_dir_all(folder.join("local")).expect("it was made");
    names.iter().for_each(|name| std::fs::remove_file(folder.join(name.replace(".c", ".o"))).expect("it was made"));
    build();
    assert_eq!(executed(&folder), 3, "{}", with(&["--show-stats", "-v"]));
    assert!(names.iter().all(|name| folder.join(name.replace(".c", ".o")).is_file()));
    let stats = with(&["--print-stats"]);
    assert!(stats.contains("remote_storage_hit\t3") && stats.contains("remote_storage_error\t0"), "{stats}");
}

#[test]
fn ccache_in_bazels_layout_compiles_nothing_the_second_time() {
    ccache("bazel", "/main");
}

#[test]
fn ccache_in_folders_compiles_nothing_the_second_time() {
    ccache("subdirs", "/dav/main/cc");
}

#[test]
fn ccache_in_one_folder_compiles_nothing_the_second_time() {
    ccache("flat", "/dav/main");
}

#[test]
fn sccache_over_webdav_compiles_nothing_the_second_time() {
    let (Some(sccache), Some(_)) = (tool("sccache"), program("gcc")) else { return };
    let server = Server::start();
    let folder = server.folder.path().join("sccache");
    let (compiler, names) = (counting_compiler(&folder), sources(&folder));
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
    let with = |args: &[&str]| {
        let mut command = client(&sccache, &folder);
        command.env("SCCACHE_WEBDAV_ENDPOINT", format!("{}/dav/main", server.url()));
        command.env("SCCACHE_WEBDAV_KEY_PREFIX", "/sc").env("SCCACHE_SERVER_PORT", port.to_string());
        command.env("SCCACHE_DIR", folder.join("local")).env("SCCACHE_IDLE_TIMEOUT", "60");
        run(command.args(args))
    };
    let build = || {
        with(&["--start-server"]);
        for name in &names {
            with(&[compiler.to_str().expect("UTF-8"), "-c", name, "-o", &name.replace(".c", ".o")]);
        }
        let stats: serde_json::Value =
            serde_json::from_str(&with(&["--show-stats", "--stats-format=json"])).expect("JSON");
        with(&["--stop-server"]);
        stats
    };
    // What it asks a compiler that it has not seen before differs from what it asks later, so only the rest is counted.
    build();
    let compiled = executed(&folder);
    assert!(compiled >= 3, "{compiled}");
    names.iter().for_each(|name| std::fs::remove_file(folder.join(name.replace(".c", ".o"))).expect("it was made"));
    std::fs::remove_file(folder.join("count")).expect("it was made");
    let stats = build();
    assert_eq!(stats["stats"]["cache_hits"]["counts"]["C/C++"], 3, "{stats}");
    assert_eq!(stats["stats"]["cache_write_errors"], 0, "{stats}");
    assert!(compiled - executed(&folder) >= 3, "{} of {compiled}", executed(&folder));
    assert!(names.iter().all(|name| folder.join(name.replace(".c", ".o")).is_file()));
}

#[test]
fn turborepo_executes_nothing_the_second_time_and_its_signature_fits() {
    let Some(turbo) = tool("turbo") else { return };
    let server = Server::start();
    let folder = server.folder.path().join("turbo");
    repository(
        &folder,
        &[
            ("package.json", r#"{"name":"root","packageManager":"npm@10.0.0","workspaces":["packages/*"]}"#),
            (
                "package-lock.json",
                r#"{"name":"root","lockfileVersion":3,"packages":{"":{"name":"root","workspaces":["packages/*"]},"node_modules/a":{"resolved":"packages/a","link":true},"packages/a":{"name":"a","version":"1.0.0"}}}"#,
            ),
            ("turbo.json", r#"{"remoteCache":{"signature":true},"tasks":{"build":{"outputs":["dist/**"]}}}"#),
            (
                "packages/a/package.json",
                r#"{"name":"a","version":"1.0.0","scripts":{"build":"echo ran >> ../../count; mkdir -p dist; echo made > dist/a.txt"}}"#,
            ),
            (".gitignore", "count\n.turbo\ndist\nhome\n"),
        ],
    );
    let build = || {
        let mut command = client(&turbo, &folder);
        command.env("TURBO_API", server.url()).env("TURBO_TOKEN", "token").env("TURBO_TEAM", "team_x");
        command.env("TURBO_REMOTE_CACHE_SIGNATURE_KEY", "key").env("TURBO_TELEMETRY_DISABLED", "1");
        run(command.args(["run", "build", "--cache=remote:rw", "--no-update-notifier", "--no-daemon"]))
    };
    build();
    assert_eq!(executed(&folder), 1);
    for local in [".turbo", "packages/a/.turbo", "packages/a/dist"] {
        let _ = std::fs::remove_dir_all(folder.join(local));
    }
    let said = build();
    assert_eq!(executed(&folder), 1, "{said}");
    assert!(said.contains("FULL TURBO"), "{said}");
    assert_eq!(std::fs::read_to_string(folder.join("packages/a/dist/a.txt")).expect("restored"), "made\n");
}

#[test]
fn nx_executes_nothing_the_second_time() {
    let Some(nx) = tool("nx") else { return };
    let server = Server::start();
    let folder = server.folder.path().join("nx");
    repository(
        &folder,
        &[
            ("package.json", r#"{"name":"root","version":"1.0.0","private":true}"#),
            (
                "nx.json",
                r#"{"analytics":false,"targetDefaults":{"build":{"cache":true,"outputs":["{projectRoot}/dist"]}}}"#,
            ),
            (
                "a/project.json",
                r#"{"name":"a","targets":{"build":{"command":"echo ran >> count && mkdir -p a/dist && echo made > a/dist/a.txt","inputs":["{projectRoot}/in.txt"]}}}"#,
            ),
            ("a/in.txt", "hello\n"),
            (".gitignore", "count\n.nx\ndist\nhome\nnode_modules\n"),
        ],
    );
    let modules = nx.parent().and_then(Path::parent).expect("node_modules/.bin/nx");
    std::os::unix::fs::symlink(modules, folder.join("node_modules")).expect("a link");
    let build = || {
        let mut command = client(&nx, &folder);
        command.env("NX_SELF_HOSTED_REMOTE_CACHE_SERVER", server.url());
        command.env("NX_SELF_HOSTED_REMOTE_CACHE_ACCESS_TOKEN", "token");
        command.env("NX_DAEMON", "false").env("NX_NO_CLOUD", "true").env("NX_TUI", "false");
        run(command.args(["run", "a:build"]))
    };
    build();
    assert_eq!(executed(&folder), 1);
    for local in [".nx", "a/dist"] {
        let _ = std::fs::remove_dir_all(folder.join(local));
    }
    let said = build();
    assert_eq!(executed(&folder), 1, "{said}");
    assert!(said.contains("remote cache") || said.contains("from the cache"), "{said}");
    assert_eq!(std::fs::read_to_string(folder.join("a/dist/a.txt")).expect("restored"), "made\n");
    assert_eq!(server.metric("pace_cache_requests_total{protocol=\"nx\",ending=\"hit\"}"), 1);
}
