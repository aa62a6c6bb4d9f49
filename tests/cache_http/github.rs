//! GitHub's cache service: by hand, and as `@actions/cache` speaks it.

use std::process::Command;

use serde_json::{Value, json};

use crate::server::{Server, program, run, tool, write};

fn call(server: &Server, instance: &str, method: &str, body: &Value) -> Value {
    let path = format!("{instance}/twirp/github.actions.results.api.v1.CacheService/{method}");
    server.ask_with("POST", &path, &[("content-type", "application/json")], body.to_string()).code(200).json()
}

/// Path of a URL of the server.
fn path_of(url: &Value) -> String {
    let url = url.as_str().expect("a URL");
    let at = url.match_indices('/').nth(2).expect("a path").0;
    url[at..].to_string()
}

fn save(server: &Server, instance: &str, key: &str, content: &str) {
    let created = call(server, instance, "CreateCacheEntry", &json!({ "key": key, "version": "v" }));
    assert_eq!(created["ok"], true, "{created}");
    server.ask("PUT", &path_of(&created["signed_upload_url"]), content).code(201);
    let size = content.len().to_string();
    let ended =
        call(server, instance, "FinalizeCacheEntryUpload", &json!({ "key": key, "version": "v", "size_bytes": size }));
    assert!(ended["ok"] == true && ended["entry_id"].is_string(), "{ended}");
}

fn restore(server: &Server, instance: &str, key: &str, fallbacks: &[&str]) -> Option<(String, String)> {
    let question = json!({ "key": key, "restore_keys": fallbacks, "version": "v" });
    let told = call(server, instance, "GetCacheEntryDownloadURL", &question);
    let found = told["ok"] == true;
    found.then(|| {
        let body = server.ask("GET", &path_of(&told["signed_download_url"]), "").code(200).text();
        (told["matched_key"].as_str().expect("a key").to_string(), body)
    })
}

#[test]
fn keys_are_matched_whole_then_by_their_beginning_the_newest_first_and_survive_a_crash() {
    let mut server = Server::start();
    save(&server, "", "linux-a", "a");
    save(&server, "", "linux-b", "b");
    save(&server, "", "linux-c-long", &"c".repeat(100_000));
    server.restart();
    let found = |key: &str, fallbacks: &[&str]| restore(&server, "", key, fallbacks).map(|found| found.0);
    assert_eq!(restore(&server, "", "linux-a", &["linux-"]), Some(("linux-a".into(), "a".into())));
    assert_eq!(found("linux-z", &["mac-", "linux-"]).as_deref(), Some("linux-c-long"));
    assert_eq!(found("linux-c", &[]).as_deref(), Some("linux-c-long"));
    assert_eq!(found("mac", &[]), None);
    let other = json!({ "key": "linux-a", "restore_keys": [], "version": "other" });
    assert_eq!(call(&server, "", "GetCacheEntryDownloadURL", &other)["ok"], false);
    let again = json!({ "key": "linux-a", "version": "v" }).to_string();
    let path = "/twirp/github.actions.results.api.v1.CacheService/CreateCacheEntry";
    assert_eq!(server.ask("POST", path, again).code(409).json()["code"], "already_exists");
}

#[test]
fn a_pull_request_restores_what_main_saved_and_saves_for_itself() {
    let server = Server::start();
    save(&server, "/main", "deps-1", "main");
    save(&server, "/main/pr/7", "deps-2", "pull request");
    assert_eq!(restore(&server, "/main/pr/7", "deps-1", &[]).map(|found| found.1).as_deref(), Some("main"));
    assert_eq!(restore(&server, "/main/pr/7", "x", &["deps-"]).map(|found| found.1).as_deref(), Some("pull request"));
    assert_eq!(restore(&server, "/main", "x", &["deps-"]).map(|found| found.1).as_deref(), Some("main"));
}

#[test]
fn an_upload_in_blocks_is_put_together_in_the_order_of_its_list() {
    let server = Server::start();
    let created = call(&server, "", "CreateCacheEntry", &json!({ "key": "k", "version": "v" }));
    let path = path_of(&created["signed_upload_url"]);
    let parts = [vec![b'x'; 200_000], vec![b'y'; 100_000]];
    server.ask("PUT", &format!("{path}?comp=block&blockid=QkJC"), &parts[1]).code(201);
    server.ask("PUT", &format!("{path}?comp=block&blockid=QUFB%3D"), &parts[0]).code(201);
    let lacking = "<BlockList><Latest>Q0ND</Latest></BlockList>";
    server.ask("PUT", &format!("{path}?comp=blocklist"), lacking).code(400);
    let list = "<?xml version=\"1.0\"?><BlockList><Latest>QUFB=</Latest><Latest>QkJC</Latest></BlockList>";
    server.ask("PUT", &format!("{path}?comp=blocklist"), list).code(201);
    let wrong = json!({ "key": "k", "version": "w", "sizeBytes": "300000" }).to_string();
    let finalize = "/twirp/github.actions.results.api.v1.CacheService/FinalizeCacheEntryUpload";
    server.ask("POST", finalize, wrong).code(404);
    let ended =
        call(&server, "", "FinalizeCacheEntryUpload", &json!({ "key": "k", "version": "v", "sizeBytes": "300000" }));
    assert_eq!(ended["ok"], true, "{ended}");
    let told = call(&server, "", "GetCacheEntryDownloadURL", &json!({ "key": "k", "restoreKeys": [], "version": "v" }));
    let url = path_of(&told["signed_download_url"]);
    assert_eq!(server.ask("GET", &url, "").code(200).body, parts.concat());
    let part = server.ask_with("GET", &url, &[("range", "bytes=199998-200001")], "").code(206);
    assert_eq!(part.text(), "xxyy");
    assert_eq!(server.ask("HEAD", &url, "").code(200).header("content-length"), Some("300000"));
    server.ask("PUT", &url, "x").code(404);
    server.ask("GET", &path, "").code(404);
    server.ask("GET", &format!("/github/blobs/{}", "0".repeat(64)), "").code(404);
}

/// Saves, removes the folder, and restores by a key that is only like it.
const SCRIPT: &str = r#"
const fs = require('fs');
const { createRequire } = require('module');
(async () => {
  const cache = await import(process.argv[2]);
  process.chdir(process.argv[3]);
  const saved = await cache.saveCache(['deps'], 'linux-abc');
  if (!(saved >= 0)) throw new Error('not saved');
  fs.rmSync('deps', { recursive: true });
  const exact = await cache.restoreCache(['deps'], 'linux-abc');
  const small = fs.readFileSync('deps/small', 'utf8');
  fs.rmSync('deps', { recursive: true });
  const near = await cache.restoreCache(['deps'], 'linux-zzz', ['mac-', 'linux-']);
  const none = await cache.restoreCache(['deps'], 'mac-zzz', ['mac-']);
  console.log(`FOUND ${exact} ${near} ${none} ${small} ${fs.statSync('deps/large').size}`);
})().catch(error => { console.error(error); process.exit(1); });
"#;

#[test]
fn actions_cache_restores_what_it_saved() {
    let (Some(modules), Some(node)) = (tool("actions-cache"), program("node")) else { return };
    let server = Server::start();
    let folder = server.folder.path();
    write(folder, "deps/small", "small");
    // More than Azure's client asks for at a time, and of bytes that do not compress.
    let noise: Vec<u8> =
        (0..2_000_000u64).flat_map(|at| at.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23).to_le_bytes()).collect();
    write(folder, "deps/large", &noise);
    write(folder, "script.cjs", SCRIPT);
    let mut command = Command::new(node);
    command.arg("script.cjs").arg(modules.join("@actions/cache/lib/cache.js")).arg(folder).current_dir(folder);
    command.env("ACTIONS_CACHE_SERVICE_V2", "true").env("ACTIONS_RESULTS_URL", format!("{}/", server.url()));
    command.env("ACTIONS_RUNTIME_TOKEN", "token").env("RUNNER_TEMP", folder.join("temp"));
    command.env("GITHUB_WORKSPACE", folder).env_remove("GITHUB_SERVER_URL");
    std::fs::create_dir(folder.join("temp")).expect("a folder");
    let said = run(&mut command);
    assert!(said.contains("FOUND linux-abc linux-abc undefined small 16000000"), "{said}");
}
