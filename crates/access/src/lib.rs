//! Who may do what: users, tokens with scopes, roles, sessions, sign-in, and secrets at rest. No HTTP server, no store: values
//! in, verdicts out.
//!
//! ```text
//! cookie ──▶ session ─┐
//! bearer ──▶ token ───┼─▶ user ─▶ Who ──may(action, on)──▶ yes, or Denied with the role that is missing
//! OIDC, password ─────┘
//! ```
#![forbid(unsafe_code)]

mod chance;
mod credential;
mod limit;
mod may;
mod oidc;
mod once;
mod password;
mod role;
mod seal;
mod secret;
mod session;
mod token;
mod user;
mod who;

pub use chance::{id, sha256};
pub use credential::{CREDENTIAL_BYTES_MAX, CredentialKind, Minted, Shown};
pub use limit::{SignInLimit, TooManyTries};
pub use may::{ACTIONS, Action, Denied, Least, On, may, may_approve};
pub use oidc::{ClientSecret, GroupRule, Identity, OidcConfig, OidcError, Pending, Provider, Started};
pub use once::{Link, Purpose, RegistrationToken};
pub use password::{PASSWORD_BYTES_MAX, PASSWORD_CHARS_MIN, PasswordHash, password_problem};
pub use role::{Role, Scope, UnknownWord};
pub use seal::{Keys, SealError};
pub use secret::{For, SECRET_BYTES_MAX, SECRET_VERSIONS_MAX, SecretRecord, SecretVersion, choose, secret_problem};
pub use session::{COOKIE, Cookie, Session, is_csrf_token};
pub use token::{TOKEN_DAYS_MAX, Token};
pub use user::{USER_NAME_BYTES_MAX, User, grants_for, user_name_problem};
pub use who::Who;

/// The clock says this many microseconds since 1970; 0: never.
pub type Micros = u64;

const DAY_US: u64 = 24 * 3600 * 1_000_000;
