//! Forges and git: what a webhook says, what a status is told, and how a repository is fetched, read and served.
#![forbid(unsafe_code)]
