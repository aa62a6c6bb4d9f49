//! Steps with an interface of their own, on a host that forwards: a namespace between them and a world.

mod scene;

use std::process::Command;
use std::sync::Arc;

use scene::on_a_host;

fn sh(script: &str) {
    let ran = Command::new("sh").args(["-euc", script]).output().expect("a shell");
    assert!(ran.status.success(), "{script}: {}", String::from_utf8_lossy(&ran.stderr));
}

/// A world behind the host, 192.0.2.1, where a datagram to port 7 comes back; and the way there.
fn world(host: &scene::Host) -> std::process::Child {
    let echo = host.file(
        "echo.py",
        "import socket\ns=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\ns.bind(('192.0.2.1',7))\n\
         while True:\n d,a=s.recvfrom(99)\n s.sendto(d+b' from '+a[0].encode(),a)\n",
    );
    let ready = host.file(
        "ready.py",
        "import socket\nwhile True:\n s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.settimeout(0.1)\n try:\n  \
         s.connect(('192.0.2.1',7)); s.send(b'x'); s.recv(9); break\n except OSError: pass\n",
    );
    let script = format!(
        "ip link set lo up; while ! ip link show world >/dev/null 2>&1; do sleep 0.02; done; \
         ip addr add 192.0.2.1/24 dev world; ip link set world up; exec python3 {}",
        echo.display()
    );
    let child = Command::new("unshare").args(["--net", "sh", "-c", &script]).spawn().expect("unshare");
    sh(&format!(
        "while [ $(readlink /proc/{0}/ns/net) = $(readlink /proc/self/ns/net) ]; do sleep 0.02; done; \
         ip link add towards type veth peer name world netns {0}; ip addr add 192.0.2.2/24 dev towards; ip link set towards up; \
         echo 1 > /proc/sys/net/ipv4/ip_forward; \
         timeout 20 python3 {1}",
        child.id(),
        ready.display()
    ));
    child
}

const DATAGRAM: &str = r#"
def datagram(host, port, text=b"x"):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(0.5)
    try:
        s.connect((host, port)); s.send(text); return s.recv(99).decode()
    except OSError as e: return type(e).__name__
def connects(host, port):
    try: socket.create_connection((host, port), 0.5).close(); return True
    except OSError as e: return type(e).__name__
"#;

#[test]
fn a_routed_step_reaches_the_world_and_nothing_that_no_step_reaches() {
    on_a_host("a_routed_step_reaches_the_world_and_nothing_that_no_step_reaches", |host| {
        if network::why_not_routed().is_some_and(|why| why.contains("only root")) {
            return;
        }
        assert!(
            network::routed().map(|_| ()).expect_err("it does not forward yet").to_string().contains("ip_forward=1")
        );
        let mut world = world(host);
        sh("ip addr add 169.254.169.254/32 dev lo");
        host.echoes(std::net::Ipv4Addr::UNSPECIFIED, 5432);
        let (other_net, other) = network::routed().expect("a route");
        let (net, routed) = network::routed().expect("a route");
        let net = Arc::new(net);
        let program = format!(
            "{DATAGRAM}
def own():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(('192.0.2.1', 7)); return s.getsockname()[0]
mine = own().split('.'); gateway = '.'.join(mine[:3] + [str(int(mine[3]) - 1)]); beside = '.'.join(mine[:3] + [str(int(mine[3]) - 4)])
print(mine[:2], datagram('192.0.2.1', 7, b'hello'))
print(connects('203.0.113.1', 5432), connects(gateway, 5432), connects('169.254.169.254', 5432), connects('127.0.0.1', 5432))
print(connects(beside, 53), datagram(beside, 53), datagram(gateway, 53))
print(socket.has_ipv6 and [l.split()[5] for l in open('/proc/net/if_inet6') if l.split()[5] not in ('lo', 'eth0')])
"
        );
        let ended = host.runs_routed(Arc::clone(&net), &routed, &program);
        let tables = || {
            Command::new("ip")
                .args(["-o", "link"])
                .output()
                .map(|out| String::from_utf8_lossy(&out.stdout).matches(" pace").count())
        };
        assert_eq!(tables().expect("iproute2"), 2);
        drop(other_net);
        other.finish();
        routed.finish();
        assert_eq!(tables().expect("iproute2"), 0);
        let _ = (world.kill(), world.wait());
        assert_eq!(
            ended.output,
            "['198', '19'] hello from 192.0.2.2\nTrue TimeoutError TimeoutError ConnectionRefusedError\n\
             TimeoutError TimeoutError TimeoutError\n[]\n"
        );
    });
}

#[test]
fn a_routed_step_asks_the_hosts_name_servers() {
    on_a_host("a_routed_step_asks_the_hosts_name_servers", |host| {
        if network::why_not_routed().is_some_and(|why| why.contains("only root")) {
            return;
        }
        sh("echo 1 > /proc/sys/net/ipv4/ip_forward");
        let own = host.file("resolv", "nameserver 127.0.0.53\n");
        sh(&format!("mount --bind {} /etc/resolv.conf", own.display()));
        let server = std::net::UdpSocket::bind("127.0.0.53:53").expect("a port");
        std::thread::spawn(move || {
            let mut bytes = [0; 999];
            while let Ok((length, from)) = server.recv_from(&mut bytes) {
                bytes[2] |= 0x80;
                bytes[3] = 5; // refused: an answer that only this server gives
                let _ = server.send_to(&bytes[..length], from);
            }
        });
        let (net, routed) = network::routed().expect("a route");
        let ended = host.runs_routed(Arc::new(net), &routed, "print(ask('example.com', 16))");
        assert_eq!(ended.output, "(5, 0)\n");
        routed.finish();
    });
}

#[test]
fn what_is_routed_leaves_nothing() {
    on_a_host("what_is_routed_leaves_nothing", |_| {
        if network::why_not_routed().is_some_and(|why| why.contains("only root")) {
            return;
        }
        sh("echo 1 > /proc/sys/net/ipv4/ip_forward");
        let count = |dir: &str| std::fs::read_dir(dir).expect("proc is there").count();
        let before = (count("/proc/self/fd"), count("/proc/self/task"), count("/proc/sys/net/ipv4/conf"));
        for _ in 0..50 {
            let (_net, routed) = network::routed().expect("a route");
            routed.finish();
        }
        assert_eq!((count("/proc/self/fd"), count("/proc/self/task"), count("/proc/sys/net/ipv4/conf")), before);
    });
}
