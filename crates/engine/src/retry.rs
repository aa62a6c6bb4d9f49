//! Whether another attempt is made, and how long before it: by cause, with a backoff whose jitter is no dice.

use core::time::Duration;

use model::limits::DURATION_MAX;
use model::{AttemptNo, Backoff, Cause, NodeIx, Retry, RetryOn, RunId};

/// Whether this cause is worth another attempt. What asks for the impossible or is written wrongly fails again and is only
/// retried when `any` is written.
/// `attempts`: how many there may be, by [`attempts`].
pub(crate) fn is_wanted(retry: &Retry, attempts: u16, attempt: AttemptNo, cause: &Cause) -> bool {
    let by_cause = match retry.on.is_empty() {
        true => !matches!(cause, Cause::Refused(_) | Cause::Broken(_) | Cause::Expression(_)),
        false => retry.on.iter().any(|on| names(*on, cause)),
    };
    attempt.0 < attempts && by_cause
}

/// Attempts of a step whose agents get lost on a server, though it asks for no retry: agents are killed and updated
/// every day, and no run is to fail by that. A bound, because a step may be what ends its agents.
const ATTEMPTS_OF_LOST: u16 = 5;

/// How many attempts there may be after this cause. Who writes `retry.on` without `lost` wants none for that.
pub(crate) fn attempts(retry: &Retry, cause: &Cause, is_served: bool) -> u16 {
    match cause {
        Cause::Lost(_) if is_served => retry.attempts.max(ATTEMPTS_OF_LOST),
        _ => retry.attempts,
    }
}

fn names(on: RetryOn, cause: &Cause) -> bool {
    match (on, cause) {
        (RetryOn::Any, _)
        | (RetryOn::Lost, Cause::Lost(_) | Cause::Infrastructure(_))
        | (RetryOn::Timeout, Cause::TimedOut(_) | Cause::Idle(_)) => true,
        (RetryOn::Exit(wanted), Cause::Exit(code)) => wanted == *code,
        (RetryOn::Signal(wanted), Cause::Signal(signal)) => wanted == *signal,
        _ => false,
    }
}

/// How long to wait after attempt `ended`: `initial * factor^(ended-1)`, at most `max`, plus or minus `jitter`.
pub(crate) fn wait(backoff: &Backoff, run: &RunId, node: NodeIx, ended: AttemptNo) -> Duration {
    let max = backoff.max.min(DURATION_MAX).as_secs_f64();
    let mut seconds = backoff.initial.as_secs_f64().min(max);
    for _ in 1..ended.0 {
        seconds = (seconds * backoff.factor.max(1.0)).min(max);
    }
    let spread = backoff.jitter.clamp(0.0, 1.0) * (2.0 * share(run, node, ended) - 1.0);
    Duration::try_from_secs_f64(seconds * (1.0 + spread)).unwrap_or(backoff.max)
}

/// A number in 0..1 that depends on run, instance and attempt only: the same on replay, different for neighbours, so that
/// steps that failed together do not come back together.
fn share(run: &RunId, node: NodeIx, attempt: AttemptNo) -> f64 {
    let bytes = run.as_str().bytes().chain(node.0.to_le_bytes()).chain(attempt.0.to_le_bytes());
    // FNV-1a, then the finishing steps of SplitMix64, because FNV alone leaves the high bits of short keys alike.
    let mut hash =
        bytes.fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((hash ^ (hash >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;

    fn retry(on: Vec<RetryOn>) -> Retry {
        Retry { attempts: 3, on, backoff: Backoff::default() }
    }

    #[test]
    fn only_the_causes_that_are_written_are_retried() {
        let some = retry(vec![RetryOn::Lost, RetryOn::Timeout, RetryOn::Exit(75), RetryOn::Signal(9)]);
        let first = AttemptNo(1);
        for yes in [
            Cause::Lost("x".into()),
            Cause::Infrastructure("x".into()),
            Cause::TimedOut(Duration::ZERO),
            Cause::Idle(Duration::ZERO),
            Cause::Exit(75),
            Cause::Signal(9),
        ] {
            assert!(is_wanted(&some, 3, first, &yes), "{yes:?}");
        }
        for no in [Cause::Exit(1), Cause::Signal(15), Cause::Broken("x".into()), Cause::Refused("x".into())] {
            assert!(!is_wanted(&some, 3, first, &no), "{no:?}");
        }
    }

    #[test]
    fn what_cannot_get_better_is_retried_only_when_any_is_written() {
        for hopeless in [Cause::Refused("x".into()), Cause::Broken("x".into()), Cause::Expression("x".into())] {
            assert!(!is_wanted(&retry(vec![]), 3, AttemptNo(1), &hopeless));
            assert!(is_wanted(&retry(vec![RetryOn::Any]), 3, AttemptNo(1), &hopeless));
        }
        assert!(is_wanted(&retry(vec![]), 3, AttemptNo(2), &Cause::Exit(1)));
        assert!(!is_wanted(&retry(vec![]), 3, AttemptNo(3), &Cause::Exit(1)), "three attempts are all");
    }

    #[test]
    fn waits_grow_by_the_factor_up_to_the_bound() {
        let backoff = Backoff { jitter: 0.0, ..Backoff::default() };
        let waits: Vec<u64> =
            (1..8).map(|ended| wait(&backoff, &"r".into(), NodeIx(0), AttemptNo(ended)).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
    }

    #[test]
    fn jitter_spreads_within_its_share_and_is_the_same_on_replay() {
        let backoff = Backoff { jitter: 0.5, ..Backoff::default() };
        let waits: Vec<Duration> =
            (0..100).map(|node| wait(&backoff, &"r".into(), NodeIx(node), AttemptNo(1))).collect();
        assert!(waits.iter().all(|wait| (500..=1500).contains(&wait.as_millis())));
        let low = waits.iter().filter(|wait| wait.as_millis() < 1000).count();
        assert!((30..70).contains(&low), "{low} of 100 are below the middle");
        assert_eq!(waits[7], wait(&backoff, &"r".into(), NodeIx(7), AttemptNo(1)));
    }

    #[test]
    fn hostile_numbers_give_a_wait_within_bounds() {
        let backoff = Backoff { initial: DURATION_MAX, factor: f64::INFINITY, max: Duration::MAX, jitter: f64::NAN };
        let _ = wait(&backoff, &"r".into(), NodeIx(0), AttemptNo(u16::MAX));
        let zero = Backoff { initial: Duration::ZERO, factor: 0.0, max: Duration::ZERO, jitter: 1.0 };
        assert_eq!(wait(&zero, &"r".into(), NodeIx(0), AttemptNo(9)), Duration::ZERO);
    }
}
