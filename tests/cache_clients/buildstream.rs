//! BuildStream: artifacts are content, found by the Remote Asset API.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::scene::{Said, Server, run, tool, write};

fn build(bst: &Path, root: &Path) -> Said {
    let mut command = Command::new(bst);
    command.args(["--no-interactive", "--no-colors", "--config"]).arg(root.join("config.yml"));
    run(command.args(["build", "hello.bst"]).current_dir(root.join("project")).env("HOME", root))
}

#[test]
fn buildstream_takes_an_artifact_from_the_cache() {
    let Some(bst) = tool("buildstream") else { return };
    let server = Server::start(&[]);
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    let (project, cache) = (root.join("project"), root.join("cache"));
    // By default it waits for ever on a disk of which less than a twentieth is free.
    let config = "cache:\n  reserved-disk-space: 10M\n";
    let config = format!("cachedir: {}\nlogdir: {}\n{config}", cache.display(), root.join("logs").display());
    write(&root.join("config.yml"), &config);
    let config = format!(
        "name: t\nmin-version: 2.0\nelement-path: elements\nartifacts:\n- url: {}\n  instance-name: main\n  push: true\n",
        server.http()
    );
    write(&project.join("project.conf"), &config);
    // The shell that the element's commands run in.
    write(&project.join("elements/base.bst"), "kind: import\nsources:\n- kind: local\n  path: files\n");
    fs::create_dir_all(project.join("files/bin")).expect("a folder");
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
    fs::copy(busybox.expect("busybox-static is installed"), project.join("files/bin/sh")).expect("busybox");
    let element = "kind: manual\nbuild-depends:\n- base.bst\nconfig:\n  install-commands:\n  - |\n    \
                   echo made > \"%{install-root}/made\"\n";
    write(&project.join("elements/hello.bst"), element);
    build(&bst, root).fine().says("Pushed artifact");
    fs::remove_dir_all(&cache).expect("the cache of BuildStream");
    let again = build(&bst, root).fine().says("Pulled artifact");
    assert!(again.text.contains("Build Queue: processed 0"), "it was built again:\n{}", again.text);
}
