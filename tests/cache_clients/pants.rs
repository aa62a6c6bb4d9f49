//! Pants.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::scene::{Said, Server, read, run, tool, write};

const BUILD: &str = r#"
shell_command(
    name = "gen",
    command = "date +%s%N > out.txt; cat in.txt >> out.txt",
    tools = ["date", "cat"],
    execution_dependencies = [":in"],
    output_files = ["out.txt"],
)
file(name = "in", source = "in.txt")
"#;

fn generate(pants: &Path, root: &Path) -> Said {
    let args = ["--no-pantsd", "--stats-log", "export-codegen", "::"];
    let mut command = Command::new(pants);
    command.args(args).current_dir(root).env("XDG_CACHE_HOME", root.join("xdg")).env("NO_SCIE_WARNING", "1");
    run(command.env_remove("CI"))
}

#[test]
fn pants_takes_a_command_from_the_cache() {
    let Some(pants) = tool("pants") else { return };
    let server = Server::start(&[]);
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    let config = format!(
        "[GLOBAL]\npants_version = \"2.17.1\"\nbackend_packages = [\"pants.backend.shell\", \
         \"pants.backend.experimental.adhoc\"]\npantsd = false\nremote_cache_read = true\nremote_cache_write = true\n\
         remote_store_address = \"{}\"\nremote_instance_name = \"\"\nlocal_store_dir = \"{}\"\n\
         local_execution_root_dir = \"{1}/execution\"\nwatch_filesystem = false\n[anonymous-telemetry]\nenabled = false\n",
        server.grpc(),
        root.join("store").display(),
    );
    write(&root.join("pants.toml"), &config);
    write(&root.join("BUILD"), BUILD);
    write(&root.join("in.txt"), "in\n");
    fs::create_dir_all(root.join("store/execution")).expect("a folder");
    generate(&pants, root).fine();
    let made = read(&root.join("dist/codegen/out.txt"));
    assert!(made.ends_with("in\n"), "{made}");
    fs::remove_dir_all(root.join("store")).expect("the store of Pants");
    fs::remove_dir_all(root.join("dist")).expect("the outputs");
    fs::create_dir_all(root.join("store/execution")).expect("a folder");
    generate(&pants, root).fine().says("remote_cache_requests_cached: 1");
    assert_eq!(read(&root.join("dist/codegen/out.txt")), made, "the command was executed again");
}
