//! One file a command.

pub mod agent;
pub mod cache;
pub mod check;
pub mod completions;
pub mod doctor;
pub mod explain;
pub mod image;
pub mod init;
pub mod logs;
pub mod plan;
pub mod run;
pub mod runs;
pub mod serve;
pub mod server;
pub mod shell;
pub mod why;
