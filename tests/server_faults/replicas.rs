//! Two servers on one PostgreSQL, behind a balancer that sends everybody to the one that leads.

use std::io::copy;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use store::Location;

use crate::postgres::Postgres;
use crate::scene::{Moments, Process, Scene, free_port};

const A: &str = "data-a";
const B: &str = "data-b";

/// Sends every new connection to one port, which can change.
#[derive(Clone)]
struct Balancer(Arc<AtomicU16>);

impl Balancer {
    fn start(port: u16) -> Balancer {
        let balancer = Balancer(Arc::default());
        let (listener, target) = (TcpListener::bind(("127.0.0.1", port)).expect("the port"), balancer.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if let Ok(server) = TcpStream::connect(("127.0.0.1", target.0.load(Ordering::SeqCst))) {
                    pump(&client, &server);
                    pump(&server, &client);
                }
            }
        });
        balancer
    }

    fn send_to(&self, port: u16) {
        self.0.store(port, Ordering::SeqCst);
    }
}

fn pump(from: &TcpStream, to: &TcpStream) {
    let (mut from, mut to) = (from.try_clone().expect("a socket"), to.try_clone().expect("a socket"));
    std::thread::spawn(move || {
        let _ = copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    });
}

fn leads(scene: &Scene, port: u16) -> bool {
    scene.ready(port).contains("this server leads")
}

/// Waits for a server to lead, sends everybody there, and says how long that took.
fn wait_for_lead(scene: &Scene, balancer: &Balancer, port: u16, why: &str) {
    let began = Instant::now();
    scene.until(&format!("a server leads after {why}"), || leads(scene, port));
    balancer.send_to(port);
    println!("another server led {:.1} s after {why}", began.elapsed().as_secs_f64());
}

#[test]
fn a_leader_that_dies_or_sleeps_is_replaced_and_nothing_is_lost() {
    let Some(postgres) = Postgres::start() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let scene = Scene::on(folder, Location::Postgres(Postgres::url(&[&postgres])));
    let (balancer, ports) = (Balancer::start(scene.port), [free_port(), free_port()]);
    let mut first = scene.serve_at(ports[0], A, &["--no-agent"]);
    wait_for_lead(&scene, &balancer, ports[0], "the start");
    let mut second = scene.serve_at(ports[1], B, &["--no-agent"]);
    scene.until("the other one follows", || scene.ready(ports[1]).contains("another server leads"));
    let mut agent = scene.agent("worker");
    let mut moments = Moments::new();
    let mut runs: Vec<String> = (0..4).map(|n| scene.trigger(&format!("before-{n}"))).collect();

    std::thread::sleep(moments.below(Duration::from_secs(1)));
    first.kill();
    wait_for_lead(&scene, &balancer, ports[1], "the leader was killed");
    runs.extend((0..4).map(|n| scene.trigger(&format!("after-death-{n}"))));

    first = scene.serve_at(ports[0], A, &["--no-agent"]);
    scene.until("the first one follows", || scene.ready(ports[0]).contains("another server leads"));
    std::thread::sleep(moments.below(Duration::from_secs(1)));
    second.signal("STOP");
    wait_for_lead(&scene, &balancer, ports[0], "the leader was stopped");
    runs.extend((0..4).map(|n| scene.trigger(&format!("after-sleep-{n}"))));
    second.signal("CONT");
    // It wakes believing that it leads; what it would write is refused, and it says so.
    scene.until("the one that slept follows", || scene.ready(ports[1]).contains("another server leads"));
    assert!(leads(&scene, ports[0]));

    scene.all_is_there(&runs);
    agent.kill();
    first.kill();
    second.kill();
    scene.store_is_whole(runs.len());
}

#[test]
fn a_database_that_dies_is_replaced_by_its_standby_and_nothing_is_lost() {
    let Some(primary) = Postgres::start() else { return };
    let standby = primary.standby();
    let folder = tempfile::tempdir().expect("a folder");
    let scene = Scene::on(folder, Location::Postgres(Postgres::url(&[&primary, &standby])));
    let mut server: Process = scene.serve(&["--agent-slots", "4"]);
    let mut moments = Moments::new();
    let mut runs: Vec<String> = (0..6).map(|n| scene.trigger(&format!("before-{n}"))).collect();
    std::thread::sleep(moments.below(Duration::from_secs(1)));
    primary.stop();
    assert_ne!(scene.ready(scene.port), "");
    standby.promote();
    scene.until("the server leads on the standby", || leads(&scene, scene.port));
    runs.extend((0..4).map(|n| scene.trigger(&format!("after-{n}"))));
    scene.all_is_there(&runs);
    server.kill();
    scene.store_is_whole(runs.len());
}
