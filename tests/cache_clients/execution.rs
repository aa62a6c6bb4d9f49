//! Bazel builds on the server: `pace cache serve --execute`.

use crate::bazel::{Workspace, executed, processes};
use crate::scene::{Server, read, write};

/// What an action tries to see of the host: a file of ours, the network, the home.
const CURIOUS: &str = r#"
genrule(
    name = "seen",
    outs = ["seen.txt"],
    cmd = "(test -e SENTINEL && echo file; ls -A $${HOME:-/root} /root /home 2>/dev/null || true; " +
          "(exec 3<>/dev/tcp/127.0.0.1/PORT) 2>/dev/null && echo network || true; echo end) > $@",
)
genrule(name = "fails", outs = ["never.txt"], cmd = "echo it was; echo this >&2; exit 7")
"#;

fn builds_on_the_server(name: &str) {
    let Some(workspace) = Workspace::with(name) else { return };
    let server = Server::start(&["--execute", "--jobs", "2"]);
    let sentinel = server.folder.path().join("sentinel");
    write(&sentinel, "");
    let build = read(&workspace.root().join("BUILD"));
    let curious =
        CURIOUS.replace("SENTINEL", &sentinel.display().to_string()).replace("PORT", &server.port.to_string());
    write(&workspace.root().join("BUILD"), &(build + &curious));
    let remote = format!("--remote_executor={}", server.grpc());

    let cold = workspace.test(&[&remote]).fine();
    assert!(processes(&cold, "remote") >= 6, "{}", cold.text);
    assert_eq!(executed(&cold), processes(&cold, "remote"), "{}", cold.text);
    let made = workspace.time();
    workspace.clean();
    let warm = workspace.test(&[&remote]).fine();
    assert_eq!(executed(&warm), 0, "{}", warm.text);
    assert_eq!(processes(&warm, "remote cache hit"), processes(&cold, "remote"), "{}", warm.text);
    assert_eq!(workspace.time(), made);

    workspace.bazel(&["build", "//:seen", &remote]).fine();
    assert_eq!(read(&workspace.root().join("bazel-bin/seen.txt")), "end\n");
    let failed = workspace.bazel(&["build", "//:fails", &remote]);
    assert!(!failed.ok && failed.text.contains("Exit 7") && failed.text.contains("this"), "{}", failed.text);
}

#[test]
fn bazel_2_1_builds_on_the_server() {
    builds_on_the_server("bazel21");
}

#[test]
fn bazel_4_2_builds_on_the_server() {
    builds_on_the_server("bazel42");
}
