//! Encrypted connections, with an authority made by `openssl`.

use std::path::Path;
use std::process::Command;

use crate::server::{Place, blob, digest};

fn openssl(folder: &Path, args: &str) {
    let output = Command::new("openssl").current_dir(folder).args(args.split_whitespace()).output().expect("openssl");
    assert!(output.status.success(), "openssl {args}: {}", String::from_utf8_lossy(&output.stderr));
}

/// An authority `ca.pem`, and `server.pem` with `server.key` for 127.0.0.1; the same for `client`.
fn authority(place: &Place) {
    let folder = place.folder.path();
    let new = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(folder, &format!("req -x509 {new} -keyout ca.key -out ca.pem -subj /CN=authority -days 2"));
    for name in ["server", "client"] {
        openssl(folder, &format!("req {new} -keyout {name}.key -out {name}.csr -subj /CN={name}"));
        std::fs::write(folder.join("ext"), "subjectAltName=IP:127.0.0.1\n").expect("written");
        let sign = format!("x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ext");
        openssl(folder, &format!("{sign} -out {name}.pem"));
    }
}

#[test]
fn a_connection_is_encrypted_and_the_server_is_who_it_says() {
    let place = Place::new();
    authority(&place);
    let server = place.serves(&["--tls-cert", &place.arg("server.pem"), "--tls-key", &place.arg("server.key")]);
    let client = server.client_with("", None, "grpcs", Some(&place.path("ca.pem")));
    client.upload(&[blob(b"content".to_vec())]).expect("uploaded");
    assert_eq!(client.missing(&[digest(b"content")]).expect("asked"), []);
    assert!(server.client("", None).limits().is_err(), "it talks without encryption");
    assert!(server.client_with("", None, "grpcs", None).limits().is_err(), "a stranger's certificate is believed");
    let url = format!("https://{}", server.address);
    let ca = place.arg("ca.pem");
    place.pace(&["cache", "stats", "--url", &url, "--ca", &ca]).code(0);
    place.pace(&["cache", "stats", "--url", &url]).code(11);
}

#[test]
fn clients_show_a_certificate_where_that_is_asked_for() {
    let place = Place::new();
    authority(&place);
    let (cert, key, ca) = (place.arg("server.pem"), place.arg("server.key"), place.arg("ca.pem"));
    let server = place.serves(&["--tls-cert", &cert, "--tls-key", &key, "--tls-client-ca", &ca]);
    assert!(server.client_with("", None, "grpcs", Some(Path::new(&ca))).limits().is_err(), "anybody comes in");
    let asks = |with_certificate: bool| {
        let mut command = Command::new("openssl");
        command.current_dir(place.folder.path());
        command.args(["s_client", "-quiet", "-verify_return_error", "-CAfile", "ca.pem", "-connect", &server.address]);
        if with_certificate {
            command.args(["-cert", "client.pem", "-key", "client.key"]);
        }
        let mut child = command
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("openssl");
        let request = b"GET /paceline/v1/stats HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        // Without a certificate the connection may be gone before anything is written.
        let _ = std::io::Write::write_all(child.stdin.as_mut().expect("piped"), request);
        String::from_utf8_lossy(&child.wait_with_output().expect("openssl ends").stdout).into_owned()
    };
    assert!(asks(true).starts_with("HTTP/1.1 200"));
    assert!(!asks(false).contains("200"));
}
