//! SIGKILL at random moments of a loaded run.

use std::time::Duration;

use crate::scene::{Moments, Scene, kills};

/// Between two deaths at most.
const LIFE: Duration = Duration::from_millis(1500);

#[test]
fn a_server_that_is_killed_loses_no_run_and_no_line() {
    let (scene, mut moments) = (Scene::new(), Moments::new());
    let mut server = scene.serve(&["--agent-slots", "4"]);
    let mut runs = Vec::new();
    for death in 0..kills(6) {
        runs.extend((0..3).map(|n| scene.trigger(&format!("{death}-{n}"))));
        std::thread::sleep(moments.below(LIFE));
        server.kill();
        server = scene.serve(&["--agent-slots", "4"]);
    }
    scene.all_is_there(&runs);
    server.kill();
    scene.store_is_whole(runs.len());
}

#[test]
fn an_agent_that_is_killed_loses_no_run_and_no_line() {
    let (scene, mut moments) = (Scene::new(), Moments::new());
    let mut server = scene.serve(&["--no-agent"]);
    let mut agent = scene.agent("worker");
    let mut runs = Vec::new();
    for death in 0..kills(6) {
        runs.extend((0..3).map(|n| scene.trigger(&format!("{death}-{n}"))));
        std::thread::sleep(moments.below(LIFE));
        agent.kill();
        agent = scene.agent("worker");
    }
    scene.all_is_there(&runs);
    agent.kill();
    server.kill();
    scene.store_is_whole(runs.len());
}

#[test]
fn server_and_agents_that_are_killed_together_lose_no_run_and_no_line() {
    let (scene, mut moments) = (Scene::new(), Moments::new());
    let mut server = scene.serve(&["--no-agent"]);
    let mut agents = [scene.agent("first"), scene.agent("second")];
    let mut runs = Vec::new();
    for death in 0..kills(4) {
        runs.extend((0..3).map(|n| scene.trigger(&format!("{death}-{n}"))));
        std::thread::sleep(moments.below(LIFE));
        server.kill();
        let [first, second] = &mut agents;
        first.kill();
        std::thread::sleep(moments.below(LIFE / 4));
        second.kill();
        server = scene.serve(&["--no-agent"]);
        agents = [scene.agent("first"), scene.agent("second")];
    }
    scene.all_is_there(&runs);
    agents.iter_mut().for_each(|agent| agent.kill());
    server.kill();
    scene.store_is_whole(runs.len());
}
