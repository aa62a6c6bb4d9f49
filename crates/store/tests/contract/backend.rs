//! Where a store of a test is.

use store::{Location, Store};

/// A place for one store, gone with the test.
pub struct Home {
    pub location: Location,
    _folder: tempfile::TempDir,
}

impl Home {
    pub fn sqlite() -> Home {
        let folder = tempfile::tempdir().unwrap();
        Home { location: Location::Sqlite(folder.path().join("store.db")), _folder: folder }
    }

    pub fn open(&self) -> Store {
        Store::open(&self.location).unwrap()
    }
}
