//! Each protocol by hand: what its clients rely on, and what they must not be able to do.

use std::io::Write;

use crate::server::{Answer, Server, sha256};

/// An action result of one file, as Bazel sends it.
fn result_of(path: &str, content: &[u8]) -> Vec<u8> {
    let mut digest = field(1, sha256(content).as_bytes());
    digest.push(0x10);
    let mut size = content.len();
    while size >= 0x80 {
        digest.push(size as u8 | 0x80);
        size >>= 7;
    }
    digest.push(size as u8);
    let file = [field(1, path.as_bytes()), field(2, &digest)].concat();
    field(2, &file)
}

/// A field of bytes in a protobuf message; less than 128 of them.
fn field(tag: u8, bytes: &[u8]) -> Vec<u8> {
    [&[tag << 3 | 2, u8::try_from(bytes.len()).expect("short")][..], bytes].concat()
}

#[test]
fn content_is_verified_and_found_under_any_instance_however_many_slashes() {
    let server = Server::start();
    let content = b"hello cache";
    let path = format!("/cas/{}", sha256(content));
    server.ask("GET", &path, "").code(404);
    let told = server.ask("PUT", &path, "hullo cache").code(400).text();
    assert!(told.contains("have the digest"), "{told}");
    server.ask("PUT", "/cas/abc", "x").code(400);
    server.ask("PUT", &path, content).code(200);
    for prefix in ["", "/main", "//team//main", "/a/b/c/d"] {
        assert_eq!(server.ask("GET", &format!("{prefix}{path}"), "").code(200).body, content, "{prefix}");
    }
    let head = server.ask("HEAD", &path, "").code(200);
    assert_eq!((head.header("content-length"), head.body.len()), (Some("11"), 0));
    let empty = format!("/cas/{}", sha256(b""));
    assert_eq!(server.ask("GET", &empty, "").code(200).body, b"", "nobody has to upload nothing");
    assert_eq!(server.metric("pace_cache_requests_total{protocol=\"bazel_http\",ending=\"miss\"}"), 1);
    assert_eq!(server.metric("pace_cache_sent_bytes_total{protocol=\"bazel_http\"}"), 4 * 11);
}

#[test]
fn content_travels_compressed_when_the_client_says_so() {
    let server = Server::start();
    let content = b"again and ".repeat(30_000);
    let path = format!("/main/cas/{}", sha256(&content));
    let zstd = [("content-encoding", "zstd")];
    let packed = zstd::bulk::compress(&content, 3).expect("zstd");
    server.ask_with("PUT", &path, &zstd, &content).code(400);
    server.ask_with("PUT", &path, &zstd, &packed[..packed.len() - 5]).code(400);
    server.ask_with("PUT", &path, &[("content-encoding", "br")], &packed).code(415);
    server.ask("GET", &path, "").code(404);
    server.ask_with("PUT", &path, &zstd, &packed).code(200);
    assert_eq!(server.ask("GET", &path, "").code(200).body, content);
    let answer = server.ask_with("GET", &path, &[("accept-encoding", "gzip, zstd")], "").code(200);
    assert_eq!(answer.header("content-encoding"), Some("zstd"));
    assert!(answer.body.len() < 5000, "{} bytes", answer.body.len());
    assert_eq!(zstd::bulk::decompress(&answer.body, 1 << 20).expect("zstd"), content);
    let part = server.ask_with("GET", &path, &[("range", "bytes=299990-")], "").code(206);
    assert_eq!(
        (part.body.as_slice(), part.header("content-range")),
        (&b"again and "[..], Some("bytes 299990-299999/300000"))
    );
    server.ask_with("GET", &path, &[("range", "bytes=300000-")], "").code(416);
}

/// A digest's promise is a stream's bound: 256 MiB go through a server that has not got them.
#[test]
fn bodies_larger_than_memory_go_both_ways() {
    const SIZE: usize = 256 << 20;
    let server = Server::start();
    let before = server.peak_kib();
    let block: Vec<u8> = (0..1 << 20).map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let hash = {
        use sha2::Digest as _;
        let mut sha = sha2::Sha256::new();
        (0..SIZE / block.len()).for_each(|_| sha.update(&block));
        sha.finalize().iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    // Once with its size, which makes it a blob at once; once without, which goes by way of a file.
    for (path, size) in [(format!("/cas/{hash}"), Some(SIZE as u64)), ("/dav/main/big".to_string(), None)] {
        let mut stream = server.open("PUT", &path, &[], size);
        for _ in 0..SIZE / block.len() {
            if size.is_none() {
                write!(stream, "{:x}\r\n", block.len()).expect("it reads");
            }
            stream.write_all(&block).expect("it reads");
            if size.is_none() {
                stream.write_all(b"\r\n").expect("it reads");
            }
        }
        if size.is_none() {
            stream.write_all(b"0\r\n\r\n").expect("it reads");
        }
        let status = Answer::read(stream, "PUT").status;
        assert!((200..300).contains(&status), "{path}: {status}");
    }
    let answer = server.ask("GET", "/dav/main/big", "").code(200);
    assert_eq!(answer.body.len(), SIZE);
    assert!(answer.body.chunks(block.len()).all(|part| part == block));
    let more = server.peak_kib().saturating_sub(before);
    assert!(more < 128 << 10, "it took {more} KiB more");
}

#[test]
fn a_connection_that_ends_early_leaves_nothing() {
    let server = Server::start();
    let content = vec![7; 3 << 20];
    let path = format!("/cas/{}", sha256(&content));
    for part in [0, 1000, 2 << 20] {
        let mut stream = server.open("PUT", &path, &[], Some(content.len() as u64));
        stream.write_all(&content[..part]).expect("it reads");
        drop(stream);
    }
    server.ask("GET", &path, "").code(404);
    server.ask("PUT", &path, &content).code(200);
    assert_eq!(server.ask("GET", &path, "").code(200).body, content);
}

#[test]
fn an_action_result_is_one_thing_as_protobuf_and_as_json_and_only_with_its_blobs() {
    let server = Server::start();
    let (content, action) = (b"output", sha256(b"action"));
    let (path, blob) = (format!("/main/ac/{action}"), format!("/main/cas/{}", sha256(content)));
    let told = server.ask("PUT", &path, result_of("a.o", content)).code(400).text();
    assert!(told.contains("upload it"), "{told}");
    server.ask("GET", &path, "").code(404);
    server.ask("PUT", &blob, content).code(200);
    server.ask("PUT", &path, result_of("a.o", content)).code(200);
    assert_eq!(server.ask("GET", &path, "").code(200).body, result_of("a.o", content));
    let json = server.ask_with("GET", &path, &[("accept", "application/json")], "").code(200).json();
    let digest = serde_json::json!({ "hash": sha256(content), "sizeBytes": "6" });
    assert_eq!(json, serde_json::json!({ "outputFiles": [{ "path": "a.o", "digest": digest }] }));
    let other = format!("/main/ac/{}", sha256(b"other"));
    server.ask_with("PUT", &other, &[("content-type", "application/json")], json.to_string()).code(200);
    assert_eq!(server.ask("GET", &other, "").code(200).body, result_of("a.o", content));
    server.ask("GET", &format!("/else/ac/{action}"), "").code(404);
}

#[test]
fn what_is_no_action_result_is_kept_apart_as_it_is() {
    let server = Server::start();
    let hash = "0123456789abcdef0123456789abcdef01234567".repeat(2)[..64].to_string();
    let path = format!("/ac/{hash}");
    for body in [b"cCaC\x00\x01 any bytes".to_vec(), vec![0; 70_000], Vec::new(), b"{\"a\": 1}".to_vec()] {
        server.ask("PUT", &path, &body).code(200);
        assert_eq!(server.ask("GET", &path, "").code(200).body, body);
    }
    server.ask("GET", &format!("/main/ac/{hash}"), "").code(404);
    server.ask("DELETE", &path, "").code(204);
    server.ask("GET", &path, "").code(404);
}

#[test]
fn an_overlay_reads_what_is_below_it_and_writes_to_itself() {
    let server = Server::start();
    server.ask("PUT", "/main/v1/cache/1", "main").code(200);
    server.ask("PUT", "/main/pr/17/v1/cache/2", "pull request").code(200);
    assert_eq!(server.ask("GET", "/main/pr/17/v1/cache/1", "").code(200).text(), "main");
    assert_eq!(server.ask("GET", "/main/pr/17/v1/cache/2", "").code(200).text(), "pull request");
    server.ask("GET", "/main/v1/cache/2", "").code(404);
    server.ask("GET", "/main/pr/18/v1/cache/2", "").code(404);
}

#[test]
fn webdav_has_files_and_says_yes_to_every_folder() {
    let server = Server::start();
    let propfind = server.ask_with("PROPFIND", "/dav/main/sc/6/b/", &[("depth", "0")], "").code(207).text();
    assert!(
        propfind.contains("<D:href>/dav/main/sc/6/b/</D:href>") && propfind.contains("<D:collection/>"),
        "{propfind}"
    );
    for folder in ["/dav/main/sc/6/", "/dav/main/sc/6/b/", "/dav/main/sc/6/b/a/"] {
        server.ask("MKCOL", folder, "").code(201);
    }
    server.ask("GET", "/dav/main/sc/.sccache_check", "").code(404);
    server.ask("PUT", "/dav/main/sc/.sccache_check", "Hello, World!").code(201);
    assert_eq!(server.ask("GET", "/dav/main/sc/.sccache_check", "").code(200).text(), "Hello, World!");
    server.ask("PUT", "/dav/main/6/b/a%3C%26%3E", "x").code(201);
    let propfind = server.ask("PROPFIND", "/dav/main/6/b/a%3C%26%3E", "").code(207).text();
    assert!(propfind.contains("<D:href>/dav/main/6/b/a%3C%26%3E</D:href>"), "{propfind}");
    assert!(propfind.contains("<D:getcontentlength>1</D:getcontentlength>"), "{propfind}");
    server.ask("GET", "/dav/other/6/b/a%3C%26%3E", "").code(404);
    server.ask("PUT", "/dav/team/main/-/f", "deep").code(201);
    assert_eq!(server.ask("GET", "/dav/team/main/-/f", "").code(200).text(), "deep");
    server.ask("DELETE", "/dav/team/main/-/f", "").code(204);
    server.ask("DELETE", "/dav/team/main/-/f", "").code(404);
    server.ask("PATCH", "/dav/main/f", "").code(405);
}

#[test]
fn turborepo_gets_back_its_signature_and_only_its_teams_artifacts() {
    let server = Server::start();
    assert_eq!(server.ask("GET", "/v8/artifacts/status?slug=a", "").code(200).json()["status"], "enabled");
    server.ask("GET", "/v8/artifacts/fc8b5ebe455baee2?teamId=a", "").code(404);
    let headers = [("x-artifact-tag", "c2lnbmVk"), ("x-artifact-duration", "1234")];
    let body = vec![9; 100_000];
    server.ask_with("PUT", "/v8/artifacts/fc8b5ebe455baee2?teamId=a", &headers, &body).code(202);
    let answer = server.ask("GET", "/v8/artifacts/fc8b5ebe455baee2?teamId=a", "").code(200);
    assert_eq!(
        (answer.header("x-artifact-tag"), answer.header("x-artifact-duration")),
        (Some("c2lnbmVk"), Some("1234"))
    );
    assert_eq!(answer.body, body);
    server.ask("HEAD", "/v8/artifacts/fc8b5ebe455baee2?teamId=a", "").code(200);
    server.ask("GET", "/v8/artifacts/fc8b5ebe455baee2?teamId=b", "").code(404);
    let question = r#"{"hashes":["fc8b5ebe455baee2","0000000000000000"]}"#;
    let told = server.ask("POST", "/v8/artifacts?teamId=a", question).code(200).json();
    assert_eq!(told["fc8b5ebe455baee2"]["size"], 100_000);
    assert_eq!(told["fc8b5ebe455baee2"]["taskDurationMs"], 1234);
    assert!(told["0000000000000000"].is_null());
    server.ask("POST", "/v8/artifacts/events", "[]").code(200);
}

#[test]
fn nx_never_overwrites_a_record() {
    let server = Server::start();
    server.ask("GET", "/v1/cache/123", "").code(404);
    server.ask("PUT", "/v1/cache/123", "first").code(200);
    server.ask("PUT", "/v1/cache/123", "second").code(409);
    assert_eq!(server.ask("GET", "/v1/cache/123", "").code(200).text(), "first");
}

#[test]
fn who_may_only_read_is_told_in_each_clients_own_way() {
    let server = Server::start_with(&["--anonymous", "read"]);
    let hash = sha256(b"x");
    server.ask("PUT", &format!("/cas/{hash}"), "x").code(403);
    server.ask("PUT", &format!("/ac/{hash}"), "x").code(403);
    server.ask("PUT", "/v1/cache/1", "x").code(403);
    server.ask("GET", "/dav/main/.sccache_check", "").code(404);
    server.ask("PUT", "/dav/main/.sccache_check", "x").code(403);
    server.ask("MKCOL", "/dav/main/6/", "").code(403);
    server.ask("DELETE", "/dav/main/6", "").code(403);
    let told = server.ask("PUT", "/v8/artifacts/1", "x").code(403).json();
    assert_eq!(told["error"]["code"], "forbidden");
    let created = r#"{"key":"k","version":"v"}"#;
    let told = server.ask("POST", "/twirp/github.actions.results.api.v1.CacheService/CreateCacheEntry", created);
    let told = told.code(200).json();
    assert!(
        told["ok"] == false && told["message"].as_str().is_some_and(|why| why.starts_with("cache write denied:")),
        "{told}"
    );
    server.ask("DELETE", "/paceline/v1/entries?writer=anonymous", "").code(403);
    server.ask("PUT", "/paceline/v1/caches?key=k", "{}").code(403);
}

#[test]
fn who_has_no_token_is_told_how_to_show_one() {
    let server = Server::start_with(&["--anonymous", "none"]);
    let answer = server.ask("GET", &format!("/cas/{}", sha256(b"")), "").code(401);
    assert!(answer.header("www-authenticate").is_some_and(|how| how.starts_with("Basic ")));
    server.ask("GET", "/v1/cache/1", "").code(401);
    server.ask("GET", "/healthz", "").code(200);
}

#[test]
fn writes_that_are_dropped_look_done_and_leave_nothing() {
    let server = Server::start_with(&["--anonymous", "read", "--denied-writes", "drop"]);
    let hash = sha256(b"x");
    server.ask("PUT", &format!("/cas/{hash}"), "x").code(200);
    server.ask("GET", &format!("/cas/{hash}"), "").code(404);
    server.ask("PUT", &format!("/ac/{hash}"), "x").code(200);
    server.ask("GET", &format!("/ac/{hash}"), "").code(404);
    server.ask("PUT", "/dav/main/f", "x").code(201);
    server.ask("GET", "/dav/main/f", "").code(404);
}

#[test]
fn a_named_snapshot_is_found_by_key_and_by_fallback_and_never_changes() {
    let mut server = Server::start();
    for content in ["manifest", "one", "two"] {
        server.ask("PUT", &format!("/cas/{}", sha256(content.as_bytes())), content).code(200);
    }
    let blob = |content: &str| serde_json::json!({ "hash": sha256(content.as_bytes()), "size": content.len() });
    let snapshot = serde_json::json!({ "manifest": blob("manifest"), "blobs": [blob("one"), blob("two")] }).to_string();
    let path = "/paceline/v1/caches?instance=main&scope=linux%20x86&key=";
    server.ask("GET", &format!("{path}go-1"), "").code(404);
    server.ask("PUT", &format!("{path}go-1"), &snapshot).code(200);
    server.ask("PUT", &format!("{path}go-1"), &snapshot).code(409);
    server.ask("PUT", &format!("{path}go-2"), &snapshot).code(200);
    let lacking = serde_json::json!({ "manifest": blob("manifest"), "blobs": [blob("lacking")] }).to_string();
    assert!(server.ask("PUT", &format!("{path}go-3"), &lacking).code(400).text().contains("upload it first"));
    server.restart();
    let found = server.ask("GET", &format!("{path}go-1&fallback=go-"), "").code(200).json();
    assert_eq!((&found["key"], &found["exact"]), (&"go-1".into(), &true.into()));
    assert_eq!(found["manifest"]["hash"], sha256(b"manifest"));
    assert_eq!(found["blobs"].as_array().map(Vec::len), Some(2));
    let found = server.ask("GET", &format!("{path}go-9&fallback=rust-&fallback=go-"), "").code(200).json();
    assert_eq!((&found["key"], &found["exact"]), (&"go-2".into(), &false.into()));
    server.ask("GET", &format!("{path}go-9"), "").code(404);
    server.ask("GET", "/paceline/v1/caches?instance=main&scope=mac&key=go-1&fallback=go-", "").code(404);
    server.ask("GET", "/paceline/v1/caches?instance=main/pr/1&scope=linux%20x86&key=go-1", "").code(200);
    let told = server.ask("GET", "/paceline/v1/entries?instance=main&writer=anonymous", "").code(200).json();
    assert_eq!(told["count"], 2);
    assert_eq!(
        server.ask("DELETE", "/paceline/v1/entries?instance=main&writer=anonymous", "").code(200).json()["count"],
        2
    );
    server.ask("GET", &format!("{path}go-1&fallback=go-"), "").code(404);
}

#[test]
fn the_server_says_what_it_is_and_how_it_does() {
    let server = Server::start();
    let told = server.ask("GET", "/", "").code(200).text();
    assert!(told.contains(&format!("SCCACHE_WEBDAV_ENDPOINT=http://{}/dav/main", server.host)), "{told}");
    assert!(server.ask("GET", "/status", "").code(200).json()["NumFiles"].is_u64());
    server.ask("GET", "/nothing/here", "").code(404);
    server.ask("POST", "/nothing/here", "x").code(404);
    server.ask("GET", &format!("/{}", "a".repeat(40_000)), "").code(414);
    server.ask("GET", "/cas/%ff", "").code(400);
}
