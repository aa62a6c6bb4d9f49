//! Runs a command behind a gate, with the host's tools, and prints what went over it:
//! `through example.com:443 -- curl -s https://example.com`; `through -- COMMAND` reaches everything.
//! `through measure` says what a gate costs and how fast it is, against a server in this very process (it needs a host
//! address that is not loopback: `unshare --net`, then `ip addr add 203.0.113.1/24 dev lo`).

use std::error::Error;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::time::Instant;

use model::Traffic;
use network::{Allow, CONNECTIONS_MAX, Gate, Policy, open};
use sandbox::{Bind, HostView, Net, Network, Root, Spec};

const HOST: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const MEASURED_BYTES: usize = 2 << 30;

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words == ["measure"] {
        return measure();
    }
    let split = words.iter().position(|word| word == "--").ok_or("`--` stands before the command")?;
    let (entries, command) = (&words[..split], &words[split + 1..]);
    let listed: Vec<_> = entries.iter().map(|entry| entry.parse()).collect::<Result<_, _>>()?;
    let allow = if listed.is_empty() { Allow::All } else { Allow::Hosts(listed) };
    let (net, gate) = open(Policy { allow, rate: None, connections_max: CONNECTIONS_MAX })?;
    run(net, &gate, command)?;
    show(&gate.finish());
    Ok(())
}

fn show(traffic: &Traffic) {
    for host in &traffic.hosts {
        eprintln!(
            "{}:{}: {} connections, {} bytes sent, {} received",
            host.host, host.port, host.connections, host.sent, host.received
        );
    }
    for refusal in &traffic.refused {
        eprintln!("refused {} times: {}: {}", refusal.count, refusal.what, refusal.why);
    }
}

fn run(net: Net, gate: &Gate, command: &[String]) -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let env: std::collections::BTreeMap<String, String> = std::env::vars().collect();
    let detected = sandbox::host_view::detect(&env.clone().into_iter().collect());
    let view = HostView { private: ["/run", "/var/tmp"].map(Into::into).to_vec(), ..detected.view };
    let mut step = Spec::new(command.iter().map(Into::into).collect(), Root::Host(view));
    step.env = env.into_iter().chain(gate.environment()).map(|(name, value)| (name.into(), value.into())).collect();
    step.env.push(("HOME".into(), "/tmp".into()));
    for (at, text) in [("/etc/resolv.conf", gate.resolv_conf()), ("/etc/hosts", network::hosts_file([]))] {
        let from = dir.path().join(at.replace('/', "_"));
        std::fs::write(&from, text)?;
        step.binds.push(Bind { from, to: at.into(), writable: false });
    }
    step.network = Network::Shared(Arc::new(net));
    step.stdout = Some(std::os::fd::AsFd::as_fd(&std::io::stdout()).try_clone_to_owned()?);
    step.stderr = Some(std::os::fd::AsFd::as_fd(&std::io::stderr()).try_clone_to_owned()?);
    let (exit, _) = step.spawn()?.wait()?;
    eprintln!("{exit:?}");
    Ok(())
}

fn measure() -> Result<(), Box<dyn Error>> {
    let policy = || Policy { allow: Allow::All, rate: None, connections_max: CONNECTIONS_MAX };
    let mut times: Vec<_> = (0..200)
        .map(|_| {
            let begun = Instant::now();
            let opened = open(policy());
            let opening = begun.elapsed();
            opened.map(|(_, gate)| drop(gate)).map(|()| (opening, begun.elapsed() - opening))
        })
        .collect::<Result<_, _>>()?;
    times.sort_unstable();
    println!(
        "open: min {:?}, median {:?}; close there: {:?}, {:?}",
        times[0].0, times[100].0, times[0].1, times[100].1
    );
    let listener = TcpListener::bind((HOST, 9000))?;
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let (piece, mut left) = (vec![7; 256 << 10], MEASURED_BYTES);
                while left > 0 && stream.write_all(&piece[..left.min(piece.len())]).is_ok() {
                    left -= left.min(piece.len());
                }
            });
        }
    });
    let hear = "import socket,time\nb=bytearray(1<<20)\ns=socket.create_connection(('203.0.113.1',9000))\nt=time.time()\nn=0\n\
                while (r:=s.recv_into(b)): n+=r\nd=time.time()-t\nprint(f'{n/d*8/1e9:.1f} Gbit/s')";
    let command = ["/usr/bin/python3", "-c", hear].map(str::to_owned);
    print!("directly: ");
    std::io::stdout().flush()?;
    std::process::Command::new(&command[0]).args(&command[1..]).status()?;
    print!("through the gate: ");
    std::io::stdout().flush()?;
    let (net, gate) = open(policy())?;
    run(net, &gate, &command)?;
    show(&gate.finish());
    Ok(())
}
