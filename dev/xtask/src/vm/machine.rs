//! The machine itself: how it is started, and what it does.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

/// What it says at its end, with 0 when all tests passed.
const VERDICT: &str = "PACE-VM ";
/// Seconds after which it hangs. Emulated on a very busy machine it needs a quarter of it.
const SECONDS_MAX: &str = "2400";

/// The first program. The root that the kernel unpacked cannot be pivoted away from, so everything moves to another.
pub const FIRST: &str = "#!/bin/busybox sh
/bin/busybox mount -t tmpfs -o mode=755 tmpfs /new
for path in bin lib usr etc tests run modules; do /bin/busybox cp -a /$path /new/; done
/bin/busybox mkdir /new/dev /new/proc /new/sys /new/tmp /new/mnt
exec /bin/busybox switch_root /new /run
";

/// Groups of every kind, and the tests in each.
const SCRIPT: &str = r#"#!/bin/busybox sh
/bin/busybox --install -s /usr/bin
export PATH=/usr/bin CI=true PACE_TEST_CGROUPS=must RUST_BACKTRACE=0
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm; mount -t devpts devpts /dev/pts; mount -t tmpfs tmpfs /dev/shm
ln -s /proc/self/fd /dev/fd
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ip link set lo up
hostname machine
insmod /modules/overlay.ko; insmod /modules/brd.ko rd_nr=1 rd_size=262144
mke2fs -q /dev/ram0 >/dev/null; mount -t ext4 /dev/ram0 /tmp; chmod 1777 /tmp
groups=/sys/fs/cgroup
failed=0
say() { echo; echo "== $* (kernel $(uname -r))"; }
check() { "$@" || failed=$((failed + 1)); }

say "root, at the root of all groups"
check /tests TESTS

say "root, in a group of its own with somebody else"
mkdir $groups/box
( echo 0 > $groups/box/cgroup.procs; sleep 100000 & check /tests SOME; kill $!; exit $failed ) || failed=$((failed + 1))

for controller in memory cpu pids io; do echo +$controller > $groups/cgroup.subtree_control; done
delegate() {
  mkdir -p $1
  chown 54321:54321 $1 $1/cgroup.procs $1/cgroup.subtree_control $1/cgroup.threads
}
delegate $groups/given
mkdir -p /tmp/home; chown 54321:54321 /tmp/home
export HOME=/tmp/home TMPDIR=/tmp/home

say "an ordinary user, alone in a delegated group"
( echo 0 > $groups/given/cgroup.procs; exec su -p somebody -c 'exec /tests TESTS' ) || failed=$((failed + 1))

say "an ordinary user, in a delegated group with a shell"
delegate $groups/shared
( echo 0 > $groups/shared/cgroup.procs; su -p somebody -c '/tests SOME; exit $?'; exit $? ) || failed=$((failed + 1))

say "what is left"
left=$(find $groups -name 'paceline-*' ! -name paceline-leaf; grep -c paceline /proc/mounts | grep -v '^0$')
[ -z "$left" ] || { echo "left behind: $left"; failed=$((failed + 1)); }
echo; echo "PACE-VM $failed"
reboot -f
"#;

/// What shows that groups work, where all tests have run in a like place before. Emulated processors take their time.
const SOME: [&str; 4] =
    ["cgroup::too_much_memory", "cgroup::a_fork_bomb", "cgroup::limits_can_be_changed", "cgroup::a_frozen_step"];

/// The script that runs these tests; the usual ones when there are none.
pub fn script(tests: &[String]) -> String {
    let (all, some) = match tests {
        [] => ("cgroup:: sample::".to_owned(), SOME.join(" ")),
        tests => (tests.join(" "), tests.join(" ")),
    };
    SCRIPT.replace("TESTS", &format!("--test-threads=2 {all}")).replace("SOME", &format!("--test-threads=2 {some}"))
}

/// Starts it, shows what it says, and waits for its end. True when all tests passed.
pub fn boot(kernel: &Path, archive: &Path) -> Result<bool, String> {
    let mut machine = Command::new("timeout");
    machine.args([SECONDS_MAX, "qemu-system-x86_64"]);
    // The smaller `microvm` finds no clock to calibrate with when the host is busy, and hangs.
    machine.args(["-machine", "pc,accel=tcg", "-cpu", "max"]);
    machine.args(["-m", "1536", "-smp", "2", "-no-reboot", "-nodefaults", "-display", "none", "-serial", "stdio"]);
    machine.arg("-kernel").arg(kernel).arg("-initrd").arg(archive);
    machine.args(["-append", "console=ttyS0 quiet panic=-1 mitigations=off cgroup_no_v1=all loglevel=1"]);
    machine.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut running = machine.spawn().map_err(|error| format!("cannot start the virtual machine: {error}"))?;
    let mut verdict = None;
    for line in BufReader::new(running.stdout.take().ok_or("the machine has no console")?).split(b'\n') {
        let line = line.map_err(|error| format!("cannot read the machine's console: {error}"))?;
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        println!("{line}");
        verdict = line.strip_prefix(VERDICT).and_then(|number| number.parse::<u32>().ok()).or(verdict);
    }
    let ended = running.wait().map_err(|error| format!("cannot wait for the machine: {error}"))?;
    match verdict {
        Some(failed) => Ok(failed == 0),
        None => Err(format!("the machine ended without a verdict ({ended})")),
    }
}
