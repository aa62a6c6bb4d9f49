//! Who may do what: users, tokens with scopes, roles, sessions, sign-in, and secrets at rest. No HTTP server, no store: values
//! in, verdicts out.
#![forbid(unsafe_code)]
