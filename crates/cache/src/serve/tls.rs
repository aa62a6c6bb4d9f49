//! Encryption: certificate and key from PEM files, client certificates where an authority for them is named.

use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio_rustls::TlsAcceptor;

use super::ServeError;
use crate::config::Tls;

/// Both protocols on one port: the client says in its first message which one it speaks.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

pub(super) fn acceptor(tls: &Tls) -> Result<TlsAcceptor, ServeError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| refused(&tls.cert, error))?;
    let builder = match &tls.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| refused(path, error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().map_err(|error| refused(path, error))?)
        }
    };
    let key = PrivateKeyDer::from_pem_file(&tls.key).map_err(|error| refused(&tls.key, error))?;
    let mut config =
        builder.with_single_cert(certificates(&tls.cert)?, key).map_err(|error| refused(&tls.cert, error))?;
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ServeError> {
    let read = CertificateDer::pem_file_iter(path).map_err(|error| refused(path, error))?;
    let certificates = read.collect::<Result<Vec<_>, _>>().map_err(|error| refused(path, error))?;
    match certificates.is_empty() {
        true => Err(refused(path, "there is no certificate in it; it must be PEM")),
        false => Ok(certificates),
    }
}

fn refused(path: &Path, problem: impl ToString) -> ServeError {
    ServeError::Tls { path: path.to_owned(), problem: problem.to_string() }
}
