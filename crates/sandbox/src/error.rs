//! Why a process could not be started.

use std::io;

/// Why a process could not be started. The text is a whole sentence with what to do next.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The host does not let us make namespaces: no sandbox starts here.
    #[error("cannot make a sandbox: {why}; {advice}")]
    Forbidden {
        /// What the host forbids.
        why: String,
        /// What its administrator or the user can do.
        advice: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// What was asked for makes no sense: a relative path, a NUL byte, no program.
    #[error("cannot start the process: {0}")]
    Invalid(String),
    /// The sandbox could not be furnished.
    #[error("cannot {what}: {source}")]
    Setup {
        /// What was tried, on which path.
        what: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The program could not be executed: not there, not on `PATH`, no permission.
    #[error("cannot execute `{program}`: {why}")]
    Program {
        /// As it was asked for.
        program: String,
        /// Why not, and where it was looked for.
        why: String,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Namespaces are refused: finds out by which of the usual reasons.
pub(crate) fn no_namespaces(source: io::Error) -> SpawnError {
    let (why, advice) = why_no_namespaces(&source);
    SpawnError::Forbidden { why, advice, source }
}

fn why_no_namespaces(source: &io::Error) -> (String, String) {
    let elsewhere = "or use `--executor process`, which isolates nothing";
    let off = |path: &str, value: &str| std::fs::read_to_string(path).is_ok_and(|text| text.trim() == value);
    if off("/proc/sys/user/max_user_namespaces", "0") {
        let why = "this host allows no user namespaces (user.max_user_namespaces is 0)";
        return (why.into(), format!("set it with `sysctl -w user.max_user_namespaces=10000`, {elsewhere}"));
    }
    if off("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        let why = "this host allows user namespaces to root only (kernel.unprivileged_userns_clone is 0)";
        return (why.into(), format!("set it with `sysctl -w kernel.unprivileged_userns_clone=1`, {elsewhere}"));
    }
    if off("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") {
        let why = "AppArmor takes the rights of user namespaces away \
                   (kernel.apparmor_restrict_unprivileged_userns is 1)";
        let advice = "give this program an AppArmor profile with `userns`, or set \
                      `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`";
        return (why.into(), format!("{advice}, {elsewhere}"));
    }
    if std::fs::read_to_string("/proc/self/status").is_ok_and(|status| status.contains("\nSeccomp:\t2")) {
        let why = format!("a system call filter around us forbids it ({source}): a container, or a sandbox of our own");
        return (why, format!("start the container with `--security-opt seccomp=unconfined`, {elsewhere}"));
    }
    (format!("the kernel refuses to make namespaces ({source})"), format!("see `pace doctor`, {elsewhere}"))
}
