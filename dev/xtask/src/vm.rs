//! `cargo run -p xtask -- vm [TEST...]`: the sandbox's tests in a small virtual machine whose control groups are all of
//! version 2, as root, and as an ordinary user to whom a group was delegated.
//!
//! A machine is a kernel of Debian, an archive of a few files made here, and no disk. Processors are emulated: that works
//! everywhere, and these tests measure no time.

mod archive;
mod machine;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use archive::Archive;

use crate::repository::Repository;

/// What a machine needs beside the kernel, with the Debian packages that have it.
const TOOLS: [(&str, &str); 6] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("busybox", "busybox-static"),
    ("apt-get", "apt"),
    ("dpkg-deb", "dpkg"),
    ("cargo", "cargo"),
    ("timeout", "coreutils"),
];
/// Always the newest of the distribution.
const KERNEL: &str = "linux-image-cloud-amd64";
/// What Debian builds as a module and the tests need: overlays, and a disk in memory.
const MODULES: [&str; 2] = ["fs/overlayfs/overlay.ko", "drivers/block/brd.ko"];
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds what is missing, starts the machine, and shows what it says. `tests` are names of tests, or parts of them.
pub fn run(repository: &Repository, tests: &[String]) -> Result<bool, String> {
    check_tools()?;
    let place = target(&repository.root).join("vm");
    fs::create_dir_all(&place).map_err(|error| format!("cannot make {}: {error}", place.display()))?;
    let kernel = kernel(&place)?;
    let program = program(&repository.root, &place)?;
    let archive = place.join("initrd");
    let bytes = contents(&kernel, &program, tests)?.bytes();
    fs::write(&archive, bytes).map_err(|error| format!("cannot write {}: {error}", archive.display()))?;
    machine::boot(&image(&kernel)?, &archive)
}

fn check_tools() -> Result<(), String> {
    let missing: Vec<&str> = TOOLS.iter().filter(|(name, _)| !on_path(name)).map(|(_, package)| *package).collect();
    match missing[..] {
        [] => Ok(()),
        _ => Err(format!("the virtual machine needs what is not here: install {}", missing.join(" "))),
    }
}

fn on_path(name: &str) -> bool {
    find(name).is_some()
}

fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.is_file())
}

fn target(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir))
}

/// The unpacked kernel package. It is fetched once and never installed.
fn kernel(place: &Path) -> Result<PathBuf, String> {
    let unpacked = place.join("kernel");
    if image(&unpacked).is_ok() {
        return Ok(unpacked);
    }
    let depends = output(Command::new("apt-cache").args(["depends", KERNEL]))?;
    let name = depends.lines().find_map(|line| line.trim().strip_prefix("Depends: linux-image"));
    let name = format!("linux-image{}", name.ok_or_else(|| format!("apt knows no {KERNEL}: run `apt-get update`"))?);
    let fetched = place.join("package");
    fs::create_dir_all(&fetched).map_err(|error| format!("cannot make {}: {error}", fetched.display()))?;
    output(Command::new("apt-get").args(["download", "-qq", &name]).current_dir(&fetched))?;
    let files = fs::read_dir(&fetched).map_err(|error| format!("cannot list {}: {error}", fetched.display()))?;
    let package =
        files.filter_map(Result::ok).map(|file| file.path()).find(|path| path.extension() == Some("deb".as_ref()));
    let package = package.ok_or("apt-get download brought no package")?;
    output(Command::new("dpkg-deb").arg("-x").arg(package).arg(&unpacked))?;
    Ok(unpacked)
}

fn image(kernel: &Path) -> Result<PathBuf, String> {
    first_below(&kernel.join("boot"), "vmlinuz-").ok_or_else(|| format!("no kernel in {}", kernel.display()))
}

fn first_below(folder: &Path, start: &str) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?.filter_map(Result::ok);
    entries
        .map(|entry| entry.path())
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(start)))
}

/// The sandbox's very tests as one static program.
fn program(root: &Path, place: &Path) -> Result<PathBuf, String> {
    let mut cargo = Command::new("cargo");
    cargo.args(["test", "--no-run", "--locked", "-p", "paceline-sandbox", "--test", "sandbox", "--target", TARGET]);
    cargo.args(["--message-format", "json"]).current_dir(root).stderr(Stdio::inherit());
    // A folder of its own: these flags would make every other build start anew.
    cargo
        .env("CARGO_TARGET_DIR", place.join("build"))
        .env("RUSTFLAGS", "-Ctarget-feature=+crt-static -Cstrip=debuginfo");
    let messages = output(&mut cargo)?;
    let built = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut programs = built.filter_map(|message| message["executable"].as_str().map(PathBuf::from));
    programs.next().ok_or_else(|| "cargo names no test program".into())
}

fn output(command: &mut Command) -> Result<String, String> {
    let what = command.get_program().display().to_string();
    let output = command.output().map_err(|error| format!("cannot start {what}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{what}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr)))
}

/// All files of the machine.
fn contents(kernel: &Path, program: &Path, tests: &[String]) -> Result<Archive, String> {
    let read = |path: &Path| fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()));
    let mut archive = Archive::default();
    for folder in ["usr", "usr/bin", "usr/lib", "etc", "dev", "proc", "sys", "tmp", "new", "modules"] {
        archive.folder(folder);
    }
    archive.link("bin", "usr/bin").link("lib", "usr/lib");
    archive.file("usr/bin/busybox", 0o755, read(&find("busybox").ok_or("busybox is gone")?)?);
    archive.file("etc/passwd", 0o644, b"root:x:0:0::/:/bin/sh\nsomebody:x:54321:54321::/:/bin/sh\n".into());
    archive.file("etc/group", 0o644, b"root:x:0:\nsomebody:x:54321:\n".into());
    let modules = first_below(&kernel.join("lib/modules"), "").ok_or("the kernel has no modules")?.join("kernel");
    for name in MODULES {
        let path = modules.join(name);
        let file = name.rsplit('/').next().unwrap_or(name);
        archive.file(&format!("modules/{file}"), 0o644, read(&path)?);
    }
    archive.file("tests", 0o755, read(program)?);
    archive.file("init", 0o755, machine::FIRST.into());
    archive.file("run", 0o755, machine::script(tests).into());
    Ok(archive)
}
