//! All directories below one, however they are nested.

use bazel_remote_apis::build::bazel::remote::execution::v2 as api;
use prost::Message as _;
use tonic::Code;

use crate::world::{World, digest, parts, upload_name};

fn directory(name: &str, children: &[&api::Directory]) -> api::Directory {
    let node = |(at, child): (usize, &&api::Directory)| api::DirectoryNode {
        name: at.to_string(),
        digest: Some(digest(&child.encode_to_vec())),
    };
    let link = api::SymlinkNode { name: name.into(), target: "t".into(), ..Default::default() };
    api::Directory {
        directories: children.iter().enumerate().map(node).collect(),
        symlinks: vec![link],
        ..Default::default()
    }
}

impl World {
    async fn knows(&self, directories: &[&api::Directory]) {
        for some in directories.chunks(2000) {
            let blobs: Vec<Vec<u8>> = some.iter().map(|directory| directory.encode_to_vec()).collect();
            self.has(&blobs.iter().map(Vec::as_slice).collect::<Vec<_>>()).await;
        }
    }

    async fn pages(
        &self,
        root: &api::Directory,
        page_size: i32,
        token: &str,
    ) -> Result<Vec<api::GetTreeResponse>, Code> {
        let request = api::GetTreeRequest {
            root_digest: Some(digest(&root.encode_to_vec())),
            page_size,
            page_token: token.into(),
            ..Default::default()
        };
        let mut stream = self.cas().get_tree(request).await.map_err(|told| told.code())?.into_inner();
        let mut pages = Vec::new();
        while let Some(page) = stream.message().await.map_err(|told| told.code())? {
            pages.push(page);
        }
        Ok(pages)
    }

    async fn tree(&self, root: &api::Directory) -> Result<Vec<api::Directory>, Code> {
        let pages = self.pages(root, 0, "").await?;
        Ok(pages.into_iter().flat_map(|page| page.directories).collect())
    }
}

#[tokio::test]
async fn a_tree_of_ten_thousand_levels_is_told() {
    let world = World::new().await;
    let mut chain = vec![directory("end", &[])];
    for at in 1..10_000 {
        let next = directory(&at.to_string(), &[&chain[at - 1]]);
        chain.push(next);
    }
    world.knows(&chain.iter().collect::<Vec<_>>()).await;
    chain.reverse();
    assert!(world.tree(&chain[0]).await.unwrap() == chain);
}

#[tokio::test]
async fn a_wide_tree_comes_in_pages_that_can_be_taken_up_again() {
    let world = World::new().await;
    let leaves: Vec<_> = (0..25).map(|at: u32| directory(&at.to_string(), &[])).collect();
    let root = directory("root", &leaves.iter().collect::<Vec<_>>());
    world.knows(&leaves.iter().chain([&root]).collect::<Vec<_>>()).await;
    let pages = world.pages(&root, 10, "").await.unwrap();
    assert_eq!(pages.iter().map(|page| page.directories.len()).collect::<Vec<_>>(), [10, 10, 6]);
    assert_eq!(pages[0].directories[0], root);
    let again = world.pages(&root, 10, &pages[0].next_page_token).await.unwrap();
    assert_eq!(again, pages[1..]);
    assert_eq!(pages[2].next_page_token, "");
    assert_eq!(world.pages(&root, 0, "rubbish").await, Err(Code::InvalidArgument));
    assert_eq!(world.pages(&root, 0, "1000000").await.unwrap()[0].directories, []);
}

#[tokio::test]
async fn pages_stay_below_what_clients_read() {
    let world = World::new().await;
    let leaves: Vec<_> = (0..12).map(|at| directory(&format!("{at}{}", "x".repeat(1 << 20)), &[])).collect();
    let root = directory("root", &leaves.iter().collect::<Vec<_>>());
    for leaf in &leaves {
        world.knows(&[leaf]).await;
    }
    world.knows(&[&root]).await;
    let pages = world.pages(&root, 0, "").await.unwrap();
    assert!(pages.len() >= 4);
    let again = world.pages(&root, 0, &pages[1].next_page_token).await.unwrap();
    assert!(again == pages[2..]);
    let all: Vec<_> = pages.into_iter().flat_map(|page| page.directories).collect();
    assert!(all[0] == root && all[1..] == leaves);
}

#[tokio::test]
async fn equal_directories_are_told_once_so_that_no_tree_is_endless() {
    let world = World::new().await;
    let mut all = vec![directory("end", &[])];
    for at in 1..60 {
        let below = &all[at - 1];
        let next = directory(&at.to_string(), &[below, below]);
        all.push(next);
    }
    world.knows(&all.iter().collect::<Vec<_>>()).await;
    all.reverse();
    assert_eq!(world.tree(&all[0]).await.unwrap(), all, "2^60 paths");
}

#[tokio::test]
async fn what_is_missing_below_is_left_out_and_a_missing_root_is_not_found() {
    let world = World::new().await;
    let (absent, here) = (directory("absent", &[]), directory("here", &[]));
    let root = directory("root", &[&absent, &here]);
    assert_eq!(world.tree(&root).await, Err(Code::NotFound));
    world.knows(&[&root, &here]).await;
    assert_eq!(world.tree(&root).await, Ok(vec![root, here]));
    let blob = b"\xffnot a directory";
    world.write(parts(&upload_name(&digest(blob)), blob, 100, 0, true)).await.unwrap();
    let request = api::GetTreeRequest { root_digest: Some(digest(blob)), ..Default::default() };
    let mut stream = world.cas().get_tree(request).await.unwrap().into_inner();
    assert_eq!(stream.message().await.unwrap_err().code(), Code::InvalidArgument);
}
