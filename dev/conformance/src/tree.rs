//! `GetTree`.

use std::collections::BTreeSet;

use bazel_remote_apis::build::bazel::remote::execution::v2 as api;
use prost::Message;
use tonic::{Code, Status};

use crate::Server;
use crate::check::{Verdict, checks, holds, refused, same};

checks! { "tree":
    Must every_directory_below_the_root_is_returned
        "the server enumerates the tree recursively and returns every node descended from the root"
    Must a_root_that_is_not_there_is_not_found
        "NOT_FOUND: the requested tree root is not in the storage"
    Must what_is_missing_is_left_out
        "if part of the tree is missing, the server returns the portion present and omits the rest"
    Must a_directory_reached_twice_is_no_trouble
        "equal directories have equal digests, so a tree may name one many times"
    Should a_tree_of_many_paths_and_few_directories_is_quick
        "equal directories have equal digests, so a tree may name one many times"
    Should a_tree_a_thousand_deep_is_returned
        "the server enumerates the tree recursively"
    Must the_empty_directory_is_a_tree
        "empty blobs are always available, and the empty blob is the empty directory"
    Must pages_together_are_the_tree
        "next_page_token leads to the rest of the results, and is empty on the last page"
    Should a_page_has_no_more_than_was_asked_for
        "if page_size is given, the server returns no more than so many items"
    Must a_large_tree_comes_in_messages_that_fit
        "the server may limit the items of an answer by itself"
    Should a_root_that_is_no_directory_is_refused
        "the root must be an encoded Directory"
    Should a_token_that_nobody_gave_is_refused
        "page_token must be a value received in an earlier answer"
}

async fn every_directory_below_the_root_is_returned(server: &Server) -> Verdict {
    let leaf = directory(server, &[]);
    let middle = directory(server, &[&leaf]);
    let root = directory(server, &[&middle, &directory(server, &[])]);
    store(server, &[&leaf, &middle, &root]).await?;
    let other = root.directories[1].digest.clone().unwrap_or_default();
    // The second child was not stored above; only what is there comes back.
    holds(!server.has(&other).await?, "a directory is told to be present that was not stored")?;
    expect(server, &root, &[&leaf, &middle, &root]).await
}

async fn a_root_that_is_not_there_is_not_found(server: &Server) -> Verdict {
    refused(tree(server, &server.absent(100), 0).await, &[Code::NotFound])
}

async fn what_is_missing_is_left_out(server: &Server) -> Verdict {
    let (gone, leaf) = (directory(server, &[]), directory(server, &[]));
    let root = directory(server, &[&gone, &leaf]);
    store(server, &[&leaf, &root]).await?;
    expect(server, &root, &[&leaf, &root]).await
}

async fn a_directory_reached_twice_is_no_trouble(server: &Server) -> Verdict {
    let leaf = directory(server, &[]);
    let (left, right) = (directory(server, &[&leaf]), directory(server, &[&leaf]));
    let root = directory(server, &[&left, &right]);
    store(server, &[&leaf, &left, &right, &root]).await?;
    expect(server, &root, &[&leaf, &left, &right, &root]).await
}

async fn a_tree_of_many_paths_and_few_directories_is_quick(server: &Server) -> Verdict {
    // A quarter of a million paths lead to the leaf: who walks each of them takes long, but comes to an end some time.
    let mut all = vec![directory(server, &[])];
    for _ in 0..18 {
        let below = all[all.len() - 1].clone();
        all.push(directory(server, &[&below, &below]));
    }
    let all: Vec<&api::Directory> = all.iter().collect();
    store(server, &all).await?;
    expect(server, all[18], &all).await
}

async fn a_tree_a_thousand_deep_is_returned(server: &Server) -> Verdict {
    let mut all = vec![directory(server, &[])];
    for _ in 0..1000 {
        let below = all[all.len() - 1].clone();
        all.push(directory(server, &[&below]));
    }
    let all: Vec<&api::Directory> = all.iter().collect();
    store(server, &all).await?;
    expect(server, all[1000], &all).await
}

async fn the_empty_directory_is_a_tree(server: &Server) -> Verdict {
    let pages = tree(server, &server.digest(b""), 0).await?;
    same("the tree", pages.concat(), vec![api::Directory::default()])
}

async fn pages_together_are_the_tree(server: &Server) -> Verdict {
    let leaves: Vec<api::Directory> = (0..9).map(|_| directory(server, &[])).collect();
    let mut all: Vec<&api::Directory> = leaves.iter().collect();
    let root = directory(server, &all);
    all.push(&root);
    store(server, &all).await?;
    // Every page is asked for by a call of its own, from the token of the one before.
    let (mut token, mut seen) = (String::new(), BTreeSet::new());
    for _ in 0..100 {
        let request = request(server, &digest(server, &root), 2, &token);
        let first = server.cas().get_tree(request).await?.into_inner().message().await?;
        let first = first.unwrap_or_default();
        seen.extend(first.directories.iter().map(Message::encode_to_vec));
        token = first.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    same("the number of directories", seen.len(), all.len())
}

async fn a_page_has_no_more_than_was_asked_for(server: &Server) -> Verdict {
    let leaves: Vec<api::Directory> = (0..9).map(|_| directory(server, &[])).collect();
    let mut all: Vec<&api::Directory> = leaves.iter().collect();
    let root = directory(server, &all);
    all.push(&root);
    store(server, &all).await?;
    let largest = tree(server, &digest(server, &root), 3).await?.iter().map(Vec::len).max();
    holds(largest <= Some(3), format!("a page has {largest:?} directories, asked for were 3"))
}

async fn a_large_tree_comes_in_messages_that_fit(server: &Server) -> Verdict {
    // 60 directories of 100 KB are more than a message may have; a name of a file may be long.
    let leaf = |_| api::Directory {
        symlinks: vec![api::SymlinkNode {
            name: "link".into(),
            target: crate::data::hex(&server.bytes(50_000)),
            ..Default::default()
        }],
        ..Default::default()
    };
    let leaves: Vec<api::Directory> = (0..60).map(leaf).collect();
    let mut all: Vec<&api::Directory> = leaves.iter().collect();
    let root = directory(server, &all);
    all.push(&root);
    store(server, &all).await?;
    expect(server, &root, &all).await
}

async fn a_root_that_is_no_directory_is_refused(server: &Server) -> Verdict {
    let noise = server.store(&[0xff; 100]).await?;
    let codes = [Code::InvalidArgument, Code::FailedPrecondition, Code::NotFound];
    refused(tree(server, &noise, 0).await, &codes)
}

async fn a_token_that_nobody_gave_is_refused(server: &Server) -> Verdict {
    let root = directory(server, &[]);
    store(server, &[&root]).await?;
    let request = request(server, &digest(server, &root), 0, "no such token \u{1f980}");
    let answer = match server.cas().get_tree(request).await {
        Ok(mut pages) => pages.get_mut().message().await,
        Err(status) => Err(status),
    };
    refused(answer, &[Code::InvalidArgument])
}

/// A new directory with a file and these below it.
pub(crate) fn directory(server: &Server, below: &[&api::Directory]) -> api::Directory {
    let file = api::FileNode {
        name: "file".into(),
        digest: Some(server.absent(10)),
        is_executable: true,
        ..Default::default()
    };
    let node = |(at, below): (usize, &&api::Directory)| api::DirectoryNode {
        name: format!("d{at:06}"),
        digest: Some(digest(server, below)),
    };
    api::Directory {
        files: vec![file],
        directories: below.iter().enumerate().map(node).collect(),
        ..Default::default()
    }
}

fn digest(server: &Server, directory: &api::Directory) -> api::Digest {
    server.digest(&directory.encode_to_vec())
}

async fn store(server: &Server, directories: &[&api::Directory]) -> Result<(), Status> {
    let encoded: Vec<Vec<u8>> = directories.iter().map(|directory| directory.encode_to_vec()).collect();
    server.store_all(&encoded).await.map(|_| ())
}

fn request(server: &Server, root: &api::Digest, page_size: i32, page_token: &str) -> api::GetTreeRequest {
    api::GetTreeRequest {
        instance_name: server.instance.clone(),
        root_digest: Some(root.clone()),
        page_size,
        page_token: page_token.to_owned(),
        digest_function: server.function(),
    }
}

/// The tree, page by page, over as many calls as the server wants.
async fn tree(server: &Server, root: &api::Digest, page_size: i32) -> Result<Vec<Vec<api::Directory>>, Status> {
    let (mut pages, mut token) = (Vec::new(), String::new());
    // More pages than any tree here has directories: the server goes round in circles.
    while pages.len() < 10_000 {
        let request = request(server, root, page_size, &token);
        let mut stream = server.cas().get_tree(request).await?.into_inner();
        token.clear();
        while let Some(page) = stream.message().await? {
            pages.push(page.directories);
            token = page.next_page_token;
        }
        if token.is_empty() {
            return Ok(pages);
        }
    }
    Err(Status::out_of_range("the server has given ten thousand pages and a token to the next"))
}

async fn expect(server: &Server, root: &api::Directory, expected: &[&api::Directory]) -> Verdict {
    let seen = tree(server, &digest(server, root), 0).await?.concat();
    let seen: BTreeSet<Vec<u8>> = seen.iter().map(Message::encode_to_vec).collect();
    let expected: BTreeSet<Vec<u8>> = expected.iter().map(|directory| directory.encode_to_vec()).collect();
    let (more, fewer) = (seen.difference(&expected).count(), expected.difference(&seen).count());
    holds(more + fewer == 0, format!("{fewer} directories of {} are left out, {more} are strange", expected.len()))
}
