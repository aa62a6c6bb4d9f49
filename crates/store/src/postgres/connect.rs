//! Connections to PostgreSQL: how they are made, what is set on them, what their errors mean.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::runtime::{Handle, Runtime, RuntimeFlavor};
use tokio_postgres::config::{SslMode, TargetSessionAttrs};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::StoreError;

/// How long one attempt to connect may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long nothing may come back before a connection counts as gone.
const SILENCE: Duration = Duration::from_secs(10);
/// Set on each session. A transaction of ours that is idle belongs to a process that stands still, and it holds the end of the
/// log: it must go sooner than anybody waits for it.
const SETTINGS: &str = "SET idle_in_transaction_session_timeout = '3s'; SET lock_timeout = '10s';
    SET statement_timeout = '60s'; SET synchronous_commit = on; SET client_min_messages = warning";

/// How connections are made.
pub(super) struct Way {
    config: Config,
    tls: Option<MakeRustlsConnect>,
}

impl std::fmt::Debug for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Way").field("hosts", &self.config.get_hosts()).finish_non_exhaustive()
    }
}

impl Way {
    /// Reads a URL. `sslmode=require`, `verify-ca` and `verify-full` all encrypt and verify the server, by what the system trusts or
    /// by the certificates of `sslrootcert`; the other modes do not encrypt.
    pub(super) fn new(url: &str) -> Result<Way, StoreError> {
        let (url, verify, roots) = own_parameters(url);
        let bad = |why: String| StoreError::Unavailable(format!("the address of the database makes no sense: {why}"));
        let mut config: Config = url.parse().map_err(|error: tokio_postgres::Error| bad(reason(&error)))?;
        if verify {
            config.ssl_mode(SslMode::Require);
        }
        let encrypted = config.get_ssl_mode() == SslMode::Require;
        let tls = encrypted.then(|| trust(roots.as_deref())).transpose().map_err(bad)?;
        config.target_session_attrs(TargetSessionAttrs::ReadWrite).keepalives_idle(SILENCE).tcp_user_timeout(SILENCE);
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT);
        }
        if config.get_application_name().is_none() {
            config.application_name("paceline");
        }
        Ok(Way { config, tls })
    }

    /// A connection to a server that takes writes; the other half of it runs on the runtime until it is gone.
    pub(super) async fn connect(&self) -> Result<Client, StoreError> {
        let connecting = async {
            let client = match &self.tls {
                Some(tls) => {
                    let (client, connection) = self.config.connect(tls.clone()).await?;
                    // How it ended says the client that it was for.
                    tokio::spawn(async { drop(connection.await) });
                    client
                }
                None => {
                    let (client, connection) = self.config.connect(NoTls).await?;
                    tokio::spawn(async { drop(connection.await) });
                    client
                }
            };
            client.batch_execute(SETTINGS).await?;
            Ok(client)
        };
        match tokio::time::timeout(3 * CONNECT, connecting).await {
            Ok(client) => client.map_err(|error| told(&error)),
            Err(_) => Err(StoreError::Unavailable("the database does not answer".into())),
        }
    }
}

/// Takes what the client library does not know out of a URL: whether to verify, and whom to trust.
fn own_parameters(url: &str) -> (String, bool, Option<String>) {
    let Some((base, query)) = url.split_once('?') else { return (url.into(), false, None) };
    let (mut verify, mut roots) = (false, None);
    let rest: Vec<_> = query
        .split('&')
        .filter(|pair| match pair.split_once('=') {
            Some(("sslmode", "verify-ca" | "verify-full")) => {
                verify = true;
                false
            }
            Some(("sslrootcert", file)) => {
                roots = Some(file.replace("%2F", "/"));
                false
            }
            _ => true,
        })
        .collect();
    let url = if rest.is_empty() { base.to_owned() } else { format!("{base}?{}", rest.join("&")) };
    (url, verify, roots)
}

fn trust(roots: Option<&str>) -> Result<MakeRustlsConnect, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let config = match roots {
        None => builder.with_platform_verifier().map_err(|error| error.to_string())?.with_no_client_auth(),
        Some(file) => {
            let bad = |why: String| format!("{file}: {why}");
            let mut store = rustls::RootCertStore::empty();
            for certificate in CertificateDer::pem_file_iter(file).map_err(|error| bad(error.to_string()))? {
                let certificate = certificate.map_err(|error| bad(error.to_string()))?;
                store.add(certificate).map_err(|error| bad(error.to_string()))?;
            }
            if store.is_empty() {
                return Err(bad("there is no certificate in it".into()));
            }
            builder.with_root_certificates(store).with_no_client_auth()
        }
    };
    Ok(MakeRustlsConnect::new(config))
}

/// What an error of PostgreSQL means for whoever asked.
pub(super) fn told(error: &tokio_postgres::Error) -> StoreError {
    match error.code() {
        Some(&SqlState::DISK_FULL) => StoreError::Full(reason(error)),
        Some(&SqlState::DATA_CORRUPTED | &SqlState::INDEX_CORRUPTED) => StoreError::Damaged(reason(error)),
        _ => StoreError::Unavailable(reason(error)),
    }
}

/// The whole sentence: of the server, or of what lies below.
fn reason(error: &tokio_postgres::Error) -> String {
    if let Some(db) = error.as_db_error() {
        return db.message().into();
    }
    let below = std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default();
    format!("{error}{below}")
}

/// A runtime that may be dropped anywhere, even where nobody may block.
#[derive(Debug)]
pub(super) struct Tokio(Option<Runtime>);

impl Tokio {
    /// One thread: it only carries bytes.
    pub(super) fn new() -> Result<Tokio, StoreError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("store-wire")
            .enable_all()
            .build()
            .map_err(|error| StoreError::Unavailable(format!("no thread can be started: {error}")))?;
        Ok(Tokio(Some(runtime)))
    }

    pub(super) fn wait<T>(&self, future: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let Some(runtime) = &self.0 else { return Err(StoreError::Unavailable("it was closed".into())) };
        // A caller may be a worker of a runtime of its own, which would not allow to wait without a word.
        match Handle::try_current().map(|caller| caller.runtime_flavor()) {
            Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(|| runtime.block_on(future)),
            _ => runtime.block_on(future),
        }
    }
}

impl Drop for Tokio {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_of_another_runtime_may_wait_for_it() {
        let (ours, theirs) = (Tokio::new().unwrap(), Runtime::new().unwrap());
        let answer = theirs.block_on(async move {
            let asked = tokio::spawn(async move { (ours.wait(async { Ok(7) }), ours) });
            asked.await.map(|(answer, _ours)| answer).unwrap()
        });
        assert_eq!(answer, Ok(7));
    }

    #[test]
    fn ways_to_verify_are_taken_out_of_the_address() {
        let (url, verify, roots) =
            own_parameters("postgres://a@b/c?sslmode=verify-full&connect_timeout=3&sslrootcert=/x.pem");
        assert_eq!(
            (url.as_str(), verify, roots.as_deref()),
            ("postgres://a@b/c?connect_timeout=3", true, Some("/x.pem"))
        );
        assert_eq!(own_parameters("postgres://a@b/c"), ("postgres://a@b/c".into(), false, None));
    }

    #[test]
    fn nobody_is_told_the_password() {
        let way = Way::new("postgres://anna:hunter2@127.0.0.1/x").unwrap();
        assert!(!format!("{way:?}").contains("hunter2"));
    }
}
