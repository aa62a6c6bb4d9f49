//! Steps behind a gate, on a host with servers.

mod scene;

use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use network::{Allow, Policy, open};
use scene::{HOST, on_a_host, only, policy, reached, refused};

#[test]
fn a_listed_host_is_reached_by_its_name_and_every_byte_is_counted() {
    on_a_host("a_listed_host_is_reached_by_its_name_and_every_byte_is_counted", |host| {
        let (port, _) = host.echoes(HOST, 5432);
        let (ended, traffic) =
            host.step(only(&["a.example.com:5432"]), r#"print(talk("a.example.com", 5432, b"12345"))"#);
        assert_eq!(ended.output, "hello 12345\n");
        assert_eq!(reached(&traffic), [format!("a.example.com:{port} 1x sent 5 received 11")]);
        assert_eq!(refused(&traffic), [""; 0]);
    });
}

#[test]
fn what_is_not_listed_is_refused_and_stands_in_the_result() {
    on_a_host("what_is_not_listed_is_refused_and_stands_in_the_result", |host| {
        let (_, heard) = host.echoes(HOST, 5432);
        let (ended, traffic) = host.step(
            only(&["a.example.com:1111"]),
            r#"
print(talk("b.example.com", 5432))
print(talk("b.example.com", 5432))
print(talk("a.example.com", 5432))
print(talk("203.0.113.1", 5432))
print(talk("169.254.169.254", 80)[:25])
print(talk("203.0.113.1", 1111))
"#,
        );
        assert_eq!(
            ended.output,
            "no such name\nno such name\nConnectionResetError\nConnectionResetError\nHTTP/1.1 403 Forbidden\r\nC\nConnectionResetError\n"
        );
        assert_eq!(
            refused(&traffic),
            [
                "b.example.com: not in the step's network list (2)",
                "a.example.com:5432: not in the step's network list (1)",
                "203.0.113.1:5432: not in the step's network list (1)",
                "169.254.169.254:80: a link-local address, where clouds keep their metadata service (1)",
                "203.0.113.1:1111: not in the step's network list (1)",
            ]
        );
        assert!(heard.lock().expect("whole").is_empty());
        assert!(traffic.hosts.is_empty());
    });
}

#[test]
fn a_listed_address_is_reached_and_a_star_means_what_is_below() {
    on_a_host("a_listed_address_is_reached_and_a_star_means_what_is_below", |host| {
        host.echoes(HOST, 5432);
        let (ended, traffic) = host.step(
            only(&["203.0.113.1:5432", "*.example.org:5432"]),
            r#"
print(talk("203.0.113.1", 5432, b"1"))
print(talk("deep.below.example.org", 5432, b"2"))
print(lookup("example.org"))
"#,
        );
        assert_eq!(ended.output, "hello 1\nhello 2\nno such name\n");
        assert_eq!(reached(&traffic).len(), 2);
    });
}

#[test]
fn the_hosts_loopback_is_never_reached_even_if_a_listed_name_means_it() {
    on_a_host("the_hosts_loopback_is_never_reached_even_if_a_listed_name_means_it", |host| {
        let (_, heard) = host.echoes(Ipv4Addr::LOCALHOST, 5432);
        let program = r#"
print(talk("rebound.example.com", 5432, b"x"))
print(talk("cloud.example.com", 80, b"x")[:22])
print(talk("127.0.0.1", 5432))
print(talk("localhost", 5432))
"#;
        for allow in [only(&["rebound.example.com:5432", "cloud.example.com:80"]), Allow::All] {
            let (ended, traffic) = host.step(allow, program);
            assert_eq!(
                ended.output,
                "ConnectionResetError\nHTTP/1.1 403 Forbidden\nConnectionRefusedError\nConnectionRefusedError\n"
            );
            assert_eq!(
                refused(&traffic),
                [
                    "rebound.example.com:5432: its address 127.0.0.1 is the host's loopback (1)",
                    "cloud.example.com:80: its address 169.254.169.254 is a link-local address, where clouds keep their metadata service (1)",
                ]
            );
        }
        assert!(heard.lock().expect("whole").is_empty());
    });
}

#[test]
fn everything_is_reached_at_every_port_when_everything_is_allowed() {
    on_a_host("everything_is_reached_at_every_port_when_everything_is_allowed", |host| {
        host.echoes(HOST, 17);
        host.echoes(HOST, 31_999);
        let (ended, traffic) = host.step(
            Allow::All,
            r#"
print(talk("git.example.com", 17, b"a"), talk("203.0.113.1", 31999, b"b"), lookup("missing.example.com"))
print(talk("a.example.com", 31998))
"#,
        );
        assert_eq!(ended.output, "hello a hello b no such name\nConnectionResetError\n");
        assert_eq!(
            reached(&traffic),
            ["203.0.113.1:31999 1x sent 1 received 7", "git.example.com:17 1x sent 1 received 7"]
        );
    });
}

#[test]
fn the_server_that_a_connection_asks_for_is_checked() {
    on_a_host("the_server_that_a_connection_asks_for_is_checked", |host| {
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        host.serves(HOST, 443, move |mut stream| {
            let mut hello = [0; 5];
            if stream.read_exact(&mut hello).is_ok() {
                counted.fetch_add(1, Ordering::Relaxed);
                let _ = stream.write_all(&[21, 3, 3, 0, 2, 2, 40]); // handshake failure: it was asked
            }
        });
        let (_, heard) = host.answers_http(HOST, 80, "page");
        let (ended, traffic) = host.step(
            only(&["a.example.com:443", "a.example.com:80"]),
            r#"
print(tls("a.example.com", 443, "a.example.com"))
print(tls("a.example.com", 443, "evil.example.com"))
print(tls("192.0.2.9", 443, "a.example.com"))
print(tls("192.0.2.9", 443, "evil.example.com"))
print(talk("a.example.com", 80, b"GET / HTTP/1.1\r\nHost: a.example.com\r\n\r\n")[-4:])
print(talk("a.example.com", 80, b"GET / HTTP/1.1\r\nHost: evil.example.com\r\n\r\n")[:12])
print(talk("192.0.2.9", 80, b"GET / HTTP/1.1\r\nHost: a.example.com\r\n\r\n")[-4:])
"#,
        );
        assert_eq!(
            ended.output,
            "SSLV3_ALERT_HANDSHAKE_FAILURE\nTLSV1_ALERT_ACCESS_DENIED\nSSLV3_ALERT_HANDSHAKE_FAILURE\nTLSV1_ALERT_ACCESS_DENIED\n\
             page\nHTTP/1.1 403\npage\n"
        );
        assert_eq!(
            refused(&traffic),
            [
                "evil.example.com:443: not in the step's network list, asked for over a connection to a.example.com (1)",
                "evil.example.com:443: not in the step's network list (1)",
                "evil.example.com:80: not in the step's network list, asked for over a connection to a.example.com (1)",
            ]
        );
        let asked = heard.lock().expect("whole").iter().filter(|head| !head.is_empty()).count();
        assert_eq!((connections.load(Ordering::Relaxed), asked), (2, 2));
    });
}

#[test]
fn a_server_that_speaks_first_is_heard_where_names_are_checked() {
    on_a_host("a_server_that_speaks_first_is_heard_where_names_are_checked", |host| {
        host.serves(HOST, 443, |mut stream| {
            let _ = stream.write_all(b"SSH-2.0-test\r\n");
            let mut line = [0; 14];
            let _ = stream.read_exact(&mut line);
            let _ = stream.write_all(&line);
        });
        let (ended, _) = host.step(
            only(&["git.example.com:443"]),
            r#"
s = socket.create_connection(("git.example.com", 443))
print(s.recv(100)); s.sendall(b"SSH-2.0-mine\r\n"); print(s.recv(100))
"#,
        );
        assert_eq!(ended.output, "b'SSH-2.0-test\\r\\n'\nb'SSH-2.0-mine\\r\\n'\n");
    });
}

#[test]
fn the_proxy_has_the_same_policy() {
    on_a_host("the_proxy_has_the_same_policy", |host| {
        let (_, heard) = host.answers_http(HOST, 8080, "page");
        host.echoes(Ipv4Addr::LOCALHOST, 8081);
        let (ended, traffic) = host.step(
            only(&["a.example.com:8080", "rebound.example.com:8081", "moved.example.com:1"]),
            r#"
def proxy(text): return talk("127.0.0.1", 3128, text.replace("\n", "\r\n").encode())
tunnel = proxy("CONNECT a.example.com:8080 HTTP/1.1\n\nGET / HTTP/1.1\nHost: a\n\n")
print([tunnel[:35], tunnel[-4:]])
print(proxy("GET http://a.example.com:8080/x HTTP/1.1\nHost: evil\n\n")[-4:])
for text in ["GET http://b.example.com:8080/ HTTP/1.1\n\n", "CONNECT a.example.com:22 HTTP/1.1\n\n",
             "CONNECT 127.0.0.1:8081 HTTP/1.1\n\n", "CONNECT [::1]:8081 HTTP/1.1\n\n", "CONNECT rebound.example.com:8081 HTTP/1.1\n\n",
             "CONNECT 192.0.2.1:443 HTTP/1.1\n\n", "GET / HTTP/1.1\n\n", "CONNECT moved.example.com:1 HTTP/1.1\n\n"]:
    answer = proxy(text)
    print(answer[9:12], answer.split("\r\n\r\n")[-1].strip())
"#,
        );
        assert_eq!(
            ended.output,
            "['HTTP/1.1 200 Connection established', 'page']\npage\n\
             403 paceline: b.example.com:8080: not in the step's network list\n\
             403 paceline: a.example.com:22: not in the step's network list\n\
             403 paceline: 127.0.0.1:8081: the host's loopback\n\
             403 paceline: [::1]:8081: the host's loopback\n\
             403 paceline: rebound.example.com:8081: its address 127.0.0.1 is the host's loopback\n\
             403 paceline: 192.0.2.1:443: not in the step's network list\n\
             400 paceline: this is a proxy: the request names a whole http:// URL, or uses CONNECT\n\
             502 paceline: moved.example.com:1: Connection refused (os error 111)\n"
        );
        assert_eq!(refused(&traffic).len(), 6);
        assert!(heard.lock().expect("whole")[1].starts_with("GET /x HTTP/1.1\r\nHost: a.example.com:8080\r\n"));
    });
}

#[test]
fn names_are_answered_over_udp_and_tcp_whatever_server_is_asked() {
    on_a_host("names_are_answered_over_udp_and_tcp_whatever_server_is_asked", |host| {
        let (ended, traffic) = host.step(
            only(&["a.example.com:443"]),
            r#"
print(ask("a.example.com", 1), ask("A.Example.COM", 1, tcp=True), ask("a.example.com", 1, "9.9.9.9"), ask("a.example.com", 1, "9.9.9.9", True))
print(ask("a.example.com", 28), ask("a.example.com", 16), ask("b.example.com", 1), ask("b.example.com", 28), ask("1.2.0.192.in-addr.arpa", 12))
print(lookup("db"), lookup("x.localhost"), lookup("a.example.com") == lookup("a.example.com."))
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for bad in [b"", b"x", b"\0" * 12, b"\xff" * 1400]: s.sendto(bad, ("127.0.0.1", 53))
print(ask("a.example.com", 1))
"#,
        );
        assert_eq!(
            ended.output,
            "(0, 1) (0, 1) (0, 1) (0, 1)\n(0, 0) (0, 0) (3, 0) (3, 0) (3, 0)\n127.0.0.1 127.0.0.1 True\n(0, 1)\n"
        );
        assert_eq!(refused(&traffic), ["b.example.com: not in the step's network list (1)"]);
    });
}

#[test]
fn a_step_serves_itself_on_any_port() {
    on_a_host("a_step_serves_itself_on_any_port", |host| {
        let (ended, traffic) = host.step(
            only(&["a.example.com:443"]),
            r#"
import threading
for address, port in [("127.0.0.1", 80), ("0.0.0.0", 443), ("0.0.0.0", 8080)]:
    l = socket.create_server((address, port))
    def serve(l=l):
        while True:
            c, _ = l.accept(); c.sendall(b"mine"); c.close()
    threading.Thread(target=serve, daemon=True).start()
print(talk("127.0.0.1", 80), talk("localhost", 443), talk("db", 8080), talk("198.18.0.1", 8080))
"#,
        );
        assert_eq!(ended.output, "mine mine mine mine\n");
        assert_eq!((reached(&traffic).len(), refused(&traffic).len()), (0, 0));
    });
}

#[test]
fn datagrams_leave_nowhere() {
    on_a_host("datagrams_leave_nowhere", |host| {
        let outside = std::net::UdpSocket::bind((HOST, 4433)).expect("a port");
        outside.set_nonblocking(true).expect("a socket");
        let (ended, _) = host.step(
            Allow::All,
            r#"
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect(("203.0.113.1", 4433)); s.send(b"x")
try: s.recv(10)
except OSError as e: print(type(e).__name__)
"#,
        );
        assert_eq!(ended.output, "ConnectionRefusedError\n");
        assert!(outside.recv(&mut [0; 10]).is_err());
    });
}

#[test]
fn more_connections_than_the_bound_wait_for_their_turn() {
    on_a_host("more_connections_than_the_bound_wait_for_their_turn", |host| {
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (counting, peak) = (Arc::clone(&now), Arc::clone(&most));
        host.serves(HOST, 5432, move |mut stream| {
            peak.fetch_max(counting.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            let mut all = Vec::new();
            let _ = stream.read_to_end(&mut all);
            counting.fetch_sub(1, Ordering::SeqCst);
            let _ = stream.write_all(&all);
        });
        let (ended, traffic) = host.step_with(
            Policy { connections_max: 4, ..policy(only(&["a.example.com:5432"])) },
            r#"
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(40) as pool:
    print(sum(pool.map(lambda n: talk("a.example.com", 5432, b"%d" % n) == str(n), range(120))))
"#,
        );
        assert_eq!(ended.output, "120\n");
        assert!(most.load(Ordering::SeqCst) <= 4, "{}", most.load(Ordering::SeqCst));
        assert_eq!(traffic.hosts[0].connections, 120);
    });
}

#[test]
fn large_transfers_arrive_whole() {
    on_a_host("large_transfers_arrive_whole", |host| {
        host.serves(HOST, 9000, |mut stream| {
            let piece: Vec<u8> = (0..65_521u32).map(|n| (n % 251) as u8).collect();
            for _ in 0..1000 {
                if stream.write_all(&piece).is_err() {
                    return;
                }
            }
        });
        let (ended, traffic) = host.step(
            only(&["a.example.com:9000"]),
            r#"
import hashlib
digest, length = hashlib.sha256(), 0
with socket.create_connection(("a.example.com", 9000)) as s:
    while piece := s.recv(1 << 20):
        digest.update(piece); length += len(piece)
expected = hashlib.sha256(bytes(n % 251 for n in range(65521)) * 1000)
print(length, digest.digest() == expected.digest())
"#,
        );
        assert_eq!(ended.output, "65521000 True\n");
        assert_eq!(traffic.hosts[0].received, 65_521_000);
    });
}

#[test]
fn without_redirection_listed_and_common_ports_are_served() {
    on_a_host("without_redirection_listed_and_common_ports_are_served", |host| {
        host.echoes(HOST, 5999);
        let (net, gate) = network::open_by_port(policy(only(&["a.example.com:5999"]))).expect("a gate");
        assert!(!gate.everywhere());
        let (ended, traffic) = host.behind(
            Arc::new(net),
            gate,
            r#"
print(talk("a.example.com", 5999, b"x"), talk("a.example.com", 8080), talk("203.0.113.1", 5999), talk("203.0.113.1", 6000))
"#,
        );
        assert_eq!(ended.output, "hello x ConnectionResetError ConnectionResetError ConnectionRefusedError\n");
        assert_eq!(
            refused(&traffic),
            [
                "a.example.com:8080: not in the step's network list (1)",
                "203.0.113.1:5999: not in the step's network list (1)",
            ]
        );
        let (_net, gate) = network::open_by_port(policy(Allow::All)).expect("a gate");
        assert!(gate.environment().contains(&("https_proxy".into(), "http://127.0.0.1:3128".into())));
    });
}

#[test]
fn a_gate_that_closes_takes_all_with_it() {
    on_a_host("a_gate_that_closes_takes_all_with_it", |host| {
        host.serves(HOST, 9000, |mut stream| while stream.read(&mut [0; 9]).is_ok_and(|read| read > 0) {});
        let before = (entries("/proc/self/fd"), entries("/proc/self/task"));
        for round in 0..200 {
            let (net, gate) = open(policy(only(&["a.example.com:9000"]))).expect("a gate");
            let net = Arc::new(net);
            if round % 40 == 0 {
                let program = r#"
import socket
s = [socket.create_connection(("a.example.com", 9000)) for _ in range(5)]
"#;
                let ended = host.runs(Arc::clone(&net), &gate, &["/usr/bin/python3", "-c", program]);
                assert_eq!((ended.exit, ended.output.as_str()), (sandbox::Exit::Code(0), ""));
            }
            gate.finish();
        }
        // The scene's own servers end when they see that their connection is gone.
        for _ in 0..1200 {
            if (entries("/proc/self/fd"), entries("/proc/self/task")) == before {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        assert_eq!((entries("/proc/self/fd"), entries("/proc/self/task")), before);
    });
}

fn entries(dir: &str) -> usize {
    std::fs::read_dir(dir).expect("proc is there").count()
}

#[test]
fn a_list_with_an_entry_that_nobody_reaches_is_refused() {
    for entry in ["127.0.0.1:80", "localhost:80", "169.254.169.254:80"] {
        let error = open(policy(only(&["a.example.com:443", entry]))).map(|_| ()).expect_err("refused").to_string();
        assert!(error.contains(&format!("`{entry}` is in the step's network list, but no step reaches it")), "{error}");
    }
}

#[test]
fn curl_and_git_need_no_proxy() {
    on_a_host("curl_and_git_need_no_proxy", |host| {
        let folder = host.file("x", "").parent().expect("a folder").to_path_buf();
        let mut servers = [
            "openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=a.example.com \
             -addext subjectAltName=DNS:a.example.com 2>/dev/null && exec openssl s_server -quiet -www -accept 203.0.113.1:443 \
             -key key.pem -cert cert.pem",
            "git init -q repo && cd repo && git -c user.name=a -c user.email=a@example.com commit -q --allow-empty -m one && \
             exec \"$(git --exec-path)/git-daemon\" --export-all --base-path=.. --listen=203.0.113.1 --reuseaddr --port=9418 ..",
        ]
        .map(|script| {
            let mut shell = std::process::Command::new("sh");
            shell.args(["-c", script]).current_dir(&folder).stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::null()).spawn().expect("a shell")
        });
        for port in [443, 9418] {
            let up = || std::net::TcpStream::connect((HOST, port)).is_ok();
            assert!(
                (0..1200).any(|_| up() || {
                    std::thread::sleep(std::time::Duration::from_millis(50));
                    false
                }),
                "{port}"
            );
        }
        let (net, gate) = open(policy(only(&["a.example.com:443", "git.example.com:9418"]))).expect("a gate");
        let script = "cd /tmp; curl -sS --cacert /run/scene/cert.pem https://a.example.com/ -o page; grep -c -m1 'TLSv1.3' page
            curl -sS --cacert /run/scene/cert.pem --proxy $PACE_PROXY https://a.example.com/ -o page; grep -c -m1 'TLSv1.3' page
            curl -sS https://b.example.com/ 2>&1 | head -c 47; echo
            git clone -q git://git.example.com/repo && git -C repo log --format=%s";
        let ended = host.runs(Arc::new(net), &gate, &["sh", "-c", script]);
        for server in &mut servers {
            let _ = (server.kill(), server.wait());
        }
        assert_eq!(ended.output, "1\n1\ncurl: (6) Could not resolve host: b.example.com\none\n");
        let traffic = gate.finish();
        let names: Vec<_> = traffic.hosts.iter().map(|host| (host.host.as_str(), host.connections)).collect();
        assert_eq!(names, [("a.example.com", 2), ("git.example.com", 1)]);
    });
}
