//! The measures of a server of plain HTTP: PUT and GET of `/cas/<hash>`.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::Load;
use crate::content;
use crate::drive::{Failed, Measure, drive};

type Client = SendRequest<Full<Bytes>>;

const SIZES: [(&str, usize, usize); 3] =
    [("http_1KiB", 1 << 10, 20_000), ("http_64KiB", 64 << 10, 4000), ("http_16MiB", 16 << 20, 48)];

/// Measures everything; a line of JSON each.
pub(crate) async fn measure(load: &Load) -> Result<(), Failed> {
    for (name, len, most) in SIZES {
        for clients in &load.clients {
            if load.wants(&format!("put_{name}")) || load.wants(&format!("get_{name}")) {
                blobs(load, name, len, most, *clients).await?;
            }
        }
    }
    Ok(())
}

async fn blobs(load: &Load, name: &str, len: usize, most: usize, clients: usize) -> Result<(), Failed> {
    let most = if len > 1 << 20 { most.min(clients * 8).max(clients) } else { most };
    let blobs = Arc::new(content::blobs(most, len));
    let measure = |verb: &str| Measure {
        name: format!("{verb}_{name}"),
        items: 1,
        bytes: len as u64,
        limit: load.limit(),
        pid: load.pid,
    };
    let all = blobs.clone();
    let measured = measure("put");
    let put = drive(&measured, connect(load, clients).await?, most, move |mut client: Client, at| {
        let blob = all[at].clone();
        async move {
            ask(&mut client, Method::PUT, &blob.digest.hash, blob.bytes).await?;
            Ok(client)
        }
    });
    let put = put.await;
    put.print();
    let stored = put.calls;
    let calls = if stored == 0 { 0 } else { usize::MAX / 2 };
    let measured = measure("get");
    let get = drive(&measured, connect(load, clients).await?, calls, move |mut client: Client, at| {
        let blob = blobs[at % stored].clone();
        async move {
            let seen = ask(&mut client, Method::GET, &blob.digest.hash, Bytes::new()).await?;
            if seen == len { Ok(client) } else { Err(format!("{seen} bytes came back, expected {len}").into()) }
        }
    });
    get.await.print();
    Ok(())
}

async fn connect(load: &Load, count: usize) -> Result<Vec<Client>, Failed> {
    let mut clients = Vec::new();
    for _ in 0..count {
        let stream = TcpStream::connect(&load.target).await?;
        stream.set_nodelay(true)?;
        let (client, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        clients.push(client);
    }
    Ok(clients)
}

/// The bytes of the answer.
async fn ask(client: &mut Client, method: Method, hash: &str, body: Bytes) -> Result<usize, Failed> {
    client.ready().await?;
    let request = Request::builder().method(method).uri(format!("/cas/{hash}")).header("host", "127.0.0.1");
    let answer = client.send_request(request.body(Full::new(body))?).await?;
    let status = answer.status();
    let mut body = answer.into_body();
    let mut seen = 0;
    while let Some(frame) = body.frame().await {
        seen += frame?.data_ref().map_or(0, Bytes::len);
    }
    if status.is_success() { Ok(seen) } else { Err(format!("answered {status}").into()) }
}
