//! The real server and real agents, killed, stopped and overrun. What was lost is counted, and the count is always none.

#[path = "server_faults/deaths.rs"]
mod deaths;
#[path = "server_faults/postgres.rs"]
mod postgres;
#[path = "server_faults/replicas.rs"]
mod replicas;
#[path = "server_faults/scene.rs"]
mod scene;
#[path = "server_faults/storms.rs"]
mod storms;
