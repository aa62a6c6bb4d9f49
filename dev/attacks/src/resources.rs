//! Resources: taking all of them. Each is bounded, so that it harms no machine without limits either.

use crate::kernel::{call, memory};
use crate::{Attack, Bare, Outcome, Wall, attack};

pub const ATTACKS: &[Attack] =
    &[attack("limit-1", "takes from process 1 what it needs to go on", Wall::Filter, "refused EPERM", |world| {
        if !world.caged {
            return Outcome::Untried("it would reach the host's first process".into());
        }
        let mut limit = [1u64, 1];
        Outcome::of(
            call(libc::SYS_prlimit64, &[1, libc::RLIMIT_NOFILE as usize, memory(&mut limit), 0]),
            "it has one descriptor left",
        )
    })
    .bare(Bare::NotTried)];
