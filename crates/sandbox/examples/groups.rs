//! What a control group costs: made with four limits, a process born in it, read, removed. And what one look of the
//! sampler costs. Minimum, median and processor time of 300.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sandbox::cgroup::{Groups, Limits};
use sandbox::{HostView, Root, Sampler, Spec};

const ROUNDS: usize = 300;

fn cpu() -> Duration {
    // SAFETY: `usage` is plain data that the kernel fills.
    #[allow(unsafe_code)]
    let usage = unsafe {
        let mut usage = std::mem::zeroed::<libc::rusage>();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    };
    let time = |value: libc::timeval| {
        Duration::from_secs(value.tv_sec.unsigned_abs()) + Duration::from_micros(value.tv_usec.unsigned_abs())
    };
    time(usage.ru_utime) + time(usage.ru_stime)
}

fn measure(name: &str, mut act: impl FnMut()) {
    let mut times = Vec::new();
    let before = cpu();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        act();
        times.push(start.elapsed());
    }
    let spent = (cpu() - before).as_micros() as usize / ROUNDS;
    times.sort_unstable();
    println!(
        "{name:<40} min {:>6} us  median {:>6} us  cpu {spent:>6} us",
        times[0].as_micros(),
        times[ROUNDS / 2].as_micros()
    );
}

fn spec() -> Spec {
    let mut view = HostView::default();
    view.show.push("/usr".into());
    view.links = ["bin", "lib", "lib64"].map(|name| (format!("/{name}").into(), format!("usr/{name}").into())).into();
    Spec {
        env: vec![("PATH".into(), OsString::from("/usr/bin:/bin"))],
        ..Spec::new(vec!["true".into()], Root::Host(view))
    }
}

fn main() {
    let start = Instant::now();
    let groups = match Groups::open() {
        Ok(groups) => groups,
        Err(none) => return println!("{none}"),
    };
    println!("open {} us\n{:#?}", start.elapsed().as_micros(), groups.abilities());
    let tenant = groups.tenant("bench", &Limits::default()).expect("may be made");
    let limits = Limits { memory: Some(256 << 20), cpu_milli: Some(1000), pids: Some(100), io_weight: Some(100) };
    measure("group: make and remove", || drop(tenant.group("a", &Limits::default()).expect("may be made")));
    measure("group: make, 4 limits, remove", || drop(tenant.group("a", &limits).expect("may be made")));
    measure("group: make, 4 limits, read, remove", || {
        let group = tenant.group("a", &limits).expect("may be made");
        std::hint::black_box(group.usage());
    });
    let kept = tenant.group("kept", &limits).expect("may be made");
    measure("group: read", || {
        std::hint::black_box(kept.usage());
    });
    let run = |spec: Spec| {
        let mut child = spec.spawn().expect("starts");
        child.wait().expect("nobody else waits");
    };
    measure("sandbox without group", || run(spec()));
    measure("sandbox in a group", || {
        let group = Arc::new(tenant.group("a", &limits).expect("may be made"));
        run(Spec { group: Some(group.clone()), ..spec() });
        std::hint::black_box(group.usage());
    });
    let kept = Arc::new(kept);
    stages(&tenant, &limits);
    measure("sandbox in a kept group", || run(Spec { group: Some(kept.clone()), ..spec() }));
    measure("sandbox without group again", || run(spec()));
    let many = Spec {
        argv: ["sh", "-c", "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18; do sleep 100 & done; wait"]
            .map(OsString::from)
            .into(),
        ..spec()
    };
    let child = many.spawn().expect("starts");
    std::thread::sleep(Duration::from_millis(300));
    let mut sampler = Sampler::new(child.pid());
    println!("{:?}", sampler.sample());
    measure("sample of 20 processes", || {
        std::hint::black_box(sampler.sample());
    });
}

fn stages(tenant: &Arc<sandbox::cgroup::Tenant>, limits: &Limits) {
    let mut least = [u128::MAX; 5];
    let mut cpus = [0u128; 5];
    for _ in 0..ROUNDS {
        let mut marks = vec![(Instant::now(), cpu())];
        let group = Arc::new(tenant.group("a", limits).expect("may be made"));
        marks.push((Instant::now(), cpu()));
        let mut child = Spec { group: Some(group.clone()), ..spec() }.spawn().expect("starts");
        marks.push((Instant::now(), cpu()));
        child.wait().expect("nobody else waits");
        marks.push((Instant::now(), cpu()));
        std::hint::black_box(group.usage());
        marks.push((Instant::now(), cpu()));
        drop(group);
        marks.push((Instant::now(), cpu()));
        for (i, pair) in marks.windows(2).enumerate() {
            least[i] = least[i].min((pair[1].0 - pair[0].0).as_micros());
            cpus[i] += (pair[1].1 - pair[0].1).as_micros();
        }
    }
    println!("make, spawn, wait, read, remove: min {least:?} cpu {:?}", cpus.map(|all| all / ROUNDS as u128));
}
