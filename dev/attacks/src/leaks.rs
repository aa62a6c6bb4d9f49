//! Leaks: secrets and the caller's environment where they do not belong.

use std::fs;

use crate::files::found;
use crate::kernel::{Ended, call, in_child, memory};
use crate::{Attack, Bare, Outcome, Wall, attack};

pub const ATTACKS: &[Attack] = &[
    attack(
        "callers-environment",
        "finds variables of the person who started pace",
        Wall::View,
        "harmless: found 0 variables",
        |_| found(std::env::vars_os().filter(|(name, _)| name == "OUTER_TOKEN").count(), "variables"),
    ),
    attack(
        "environment-of-others",
        "finds a secret of another step in /proc",
        Wall::Undumpable,
        "harmless: found 0 secrets",
        |_| {
            let entries = fs::read_dir("/proc").map(|all| {
                let ids = all.flatten().filter(|entry| entry.file_name().to_string_lossy().parse::<u32>().is_ok());
                let texts = ids.filter_map(|entry| fs::read(entry.path().join("environ")).ok());
                texts.filter(|text| text.windows(12).any(|part| part == b"OUTER_TOKEN=")).count()
            });
            entries.map_or_else(Outcome::from, |count| found(count, "secrets"))
        },
    ),
    attack("raise-limits", "raises the limits that it was started with", Wall::Capabilities, "refused EPERM", |_| {
        let mut limit = [1u64 << 30, 1 << 30];
        Outcome::of(
            call(libc::SYS_prlimit64, &[0, libc::RLIMIT_NOFILE as usize, memory(&mut limit), 0]),
            "they are raised",
        )
    })
    .bare(Bare::Depends),
    attack("dump-as-root", "has its crashes dumped as root's", Wall::Capabilities, "refused EINVAL", |_| {
        Outcome::of(call(libc::SYS_prctl, &[libc::PR_SET_DUMPABLE as usize, 2]), "they are")
    })
    .bare(Bare::Depends),
    attack("terminals-of-others", "finds terminals of others", Wall::View, "harmless: found 0 terminals", |_| {
        let numbers = fs::read_dir("/dev/pts").into_iter().flatten().flatten();
        found(numbers.filter(|entry| entry.file_name() != "ptmx").count(), "terminals")
    })
    .bare(Bare::Depends),
    attack("core-size", "allows itself a core dump", Wall::Limit, "refused EPERM", |_| {
        let mut limit = [1u64 << 20, 1 << 20];
        Outcome::of(call(libc::SYS_prlimit64, &[0, libc::RLIMIT_CORE as usize, memory(&mut limit), 0]), "it may")
    }),
    attack(
        "core-dump",
        "crashes, so that its memory with the secrets in it is written down",
        Wall::Limit,
        "harmless: no core was written",
        |_| {
            let mut limit = [u64::MAX, u64::MAX];
            let _ = call(libc::SYS_prlimit64, &[0, libc::RLIMIT_CORE as usize, memory(&mut limit), 0]);
            let mut limit = [1u64 << 20, 1 << 20];
            let _ = call(libc::SYS_prlimit64, &[0, libc::RLIMIT_CORE as usize, memory(&mut limit), 0]);
            match in_child(|| std::process::abort()) {
                Ok(Ended::Signal(_, true)) => Outcome::escaped("a core was written"),
                Ok(Ended::Signal(_, false)) => Outcome::harmless("no core was written"),
                other => Outcome::Untried(format!("{other:?}")),
            }
        },
    )
    .bare(Bare::Depends),
];
