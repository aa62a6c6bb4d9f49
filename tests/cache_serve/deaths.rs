//! Sudden deaths under load: what was acknowledged is there, and nothing is damaged.

use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use model::Digest;

use crate::server::{DEADLINE, Place, Server, blob, digest, noise, result};

/// Deaths in the ordinary suite; `PACE_KILLS` asks for more.
const KILLS: u64 = 20;
/// Clients that write at the same time.
const WRITERS: u64 = 4;

/// What a server said it has.
#[derive(Default)]
struct Said {
    blobs: Vec<Digest>,
    actions: Vec<Digest>,
}

#[test]
fn what_was_acknowledged_survives_a_kill_at_any_moment() {
    let kills = std::env::var("PACE_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(KILLS);
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").subsec_nanos();
    eprintln!("{kills} kills, seed {seed}");
    let place = Place::new();
    let data = place.arg("data");
    let said = Mutex::new(Said::default());
    for round in 0..kills {
        let mut server = place.serves(&["--durable", "group"]);
        check(&server, &said.lock().expect("no panic"), round);
        let moment = Duration::from_micros(u64::from(seed) * (round + 1) % 400_000);
        let before = said.lock().expect("no panic").blobs.len();
        std::thread::scope(|scope| {
            for writer in 0..WRITERS {
                let (server, said) = (&server, &said);
                scope.spawn(move || write(server, round << 8 | writer, said));
            }
            // Every fourth dies before anything was said, the others while it is being said.
            let deadline = Instant::now() + DEADLINE;
            while round % 4 != 0 && said.lock().expect("no panic").blobs.len() == before {
                assert!(Instant::now() < deadline, "nothing is acknowledged");
                std::thread::sleep(Duration::from_millis(1));
            }
            std::thread::sleep(moment);
            server.signal(rustix::process::Signal::KILL);
        });
        server.ends();
        let verified = place.pace(&["--output", "json", "cache", "verify", "--data", &data]).code(0).json();
        assert_eq!((&verified["damaged_blobs"], &verified["entries_dropped"]), (&0.into(), &0.into()), "{verified}");
    }
    let said = said.into_inner().expect("no panic");
    check(&place.serves(&[]), &said, kills);
    eprintln!("{} blobs and {} results were acknowledged, and all are there", said.blobs.len(), said.actions.len());
    assert!(said.blobs.len() as u64 > kills, "too little was written to prove anything");
}

/// Writes until the server is gone; remembers only what was acknowledged.
fn write(server: &Server, seed: u64, said: &Mutex<Said>) {
    let client = server.client("main", None);
    for round in 0u64.. {
        let size = |n: u64| match n % 8 {
            0 => 700_000,
            1 => 70_000,
            n => 100 + 900 * n as usize,
        };
        let blobs: Vec<_> = (0..8).map(|n| blob(noise(seed << 40 | round << 8 | n, size(n + round)))).collect();
        if client.upload(&blobs).is_err() {
            return;
        }
        let digests: Vec<Digest> = blobs.iter().map(|blob| blob.digest).collect();
        said.lock().expect("no panic").blobs.extend(&digests);
        let action = digest(format!("{seed} {round}").as_bytes());
        if client.set_action(&action, &result(&digests)).is_err() {
            return;
        }
        said.lock().expect("no panic").actions.push(action);
    }
}

/// All of it is there; the newest is also read, byte for byte.
#[track_caller]
fn check(server: &Server, said: &Said, round: u64) {
    let client = server.client("main", None);
    let missing = client.missing(&said.blobs).expect("asked");
    assert!(missing.is_empty(), "round {round}: {} acknowledged blobs are gone", missing.len());
    let folder = tempfile::tempdir().expect("a folder");
    let newest: Vec<Digest> = said.blobs.iter().rev().take(200).copied().collect();
    let fetched = client.download(&newest, folder.path(), &mut |_, _| Ok(())).expect("read");
    assert!(fetched.is_whole(), "round {round}: {fetched:?}");
    let actions: Vec<Digest> = said.actions.iter().rev().take(500).copied().collect();
    for answer in client.actions(&actions, None) {
        assert!(answer.expect("asked").is_some(), "round {round}: an acknowledged result is gone");
    }
}
