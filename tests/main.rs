//! End to end: the real binary on real repositories. One binary, one file a subject.

mod docs;
mod examples;
mod faults;
mod images;
mod input;
mod isolation;
mod limits;
mod networks;
mod ordinary_user;
mod output;
mod runs;
mod services;
mod storms;
mod support;
