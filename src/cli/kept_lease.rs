//! A lease that is kept on this machine to be used again: for programs that run a command each time they
//! want a credential.
//!
//! It is a file in the client's own folder, readable by its owner alone, named after what was asked for, of
//! which daemon, and by whose token. It is given out until shortly before its end; then it is renewed, or
//! another one takes its place. Who asks at the same time waits: a lock makes one of them ask the daemon.

use std::{
    fs,
    io::{self, Read},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use aws_lc_rs::digest;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;

use crate::{
    api::leases::{AskForLease, Lease, ReceivedCredential, Renew},
    cli::{Io, access, client::Client, failure::Failure, output::watched, session},
    domain::lease::State,
    ids::LeaseId,
    secret::Secret,
};

/// For how long what the daemon said of a lease is believed. A lease that is revoked meanwhile refuses its
/// password.
const BELIEVED_FOR: TimeDelta = TimeDelta::seconds(60);

/// What is left of a lease is at least this when it is renewed, if it is that long.
const LEAST_LEFT: TimeDelta = TimeDelta::seconds(30);

/// A lease with its credential.
#[derive(Debug, serde::Deserialize)]
pub struct KeptLease {
    /// The lease.
    pub lease: Lease,
    /// Its credential.
    pub credential: ReceivedCredential,
    /// When the daemon last said that it is alive.
    seen_at: DateTime<Utc>,
    /// When it is to be renewed.
    renew_at: DateTime<Utc>,
}

/// What is to be done with a kept lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Use,
    Look,
    Renew,
    Replace,
}

impl KeptLease {
    fn new(lease: Lease, credential: ReceivedCredential, now: DateTime<Utc>) -> Self {
        let renew_at = renew_at(lease.expires_at, now);
        Self { lease, credential, seen_at: now, renew_at }
    }

    fn next(&self, now: DateTime<Utc>, fresh: bool) -> Next {
        let Self { lease, seen_at, renew_at, .. } = self;
        if now >= lease.expires_at {
            Next::Replace
        } else if now >= *renew_at {
            if lease.expires_at < lease.max_expires_at { Next::Renew } else { Next::Replace }
        } else if fresh || now - *seen_at >= BELIEVED_FOR || now < *seen_at {
            Next::Look
        } else {
            Next::Use
        }
    }

    /// Renews it; false if that leaves too little, as at the end of what its profile allows.
    async fn renew(
        &mut self,
        ttl: Option<String>,
        client: &Client,
        io: &mut Io<'_>,
    ) -> Result<bool, Failure> {
        let renewed = watched(io, "renewing", client.renew(self.lease.id, &Renew { ttl })).await?;
        let now = io.clock.now();
        self.lease = renewed.value.lease;
        (self.seen_at, self.renew_at) = (now, renew_at(self.lease.expires_at, now));
        Ok(self.lease.expires_at - now > LEAST_LEFT)
    }

    fn text(&self) -> Secret<String> {
        let Self { lease, credential: c, seen_at, renew_at } = self;
        let credential = json!({
            "host": c.host, "port": c.port, "database": c.database, "user": c.user,
            "password": c.password.expose(), "sslmode": c.sslmode,
            "sslrootcert_pem": c.sslrootcert_pem, "options": c.options,
            "valid_until": c.valid_until, "uri": c.uri.expose(),
        });
        let all = json!({
            "lease": lease, "credential": credential, "seen_at": seen_at, "renew_at": renew_at,
        });
        Secret::new(all.to_string())
    }
}

/// A fifth of the time before the end, and at least [`LEAST_LEFT`]; half of it for a lease of less than a
/// minute.
fn renew_at(expires_at: DateTime<Utc>, now: DateTime<Utc>) -> DateTime<Utc> {
    let lasts = expires_at - now;
    expires_at - (lasts / 5).max(LEAST_LEFT).min(lasts / 2)
}

/// The kept lease that answers a wish; another one if there is none, or it cannot be used any longer.
/// With `fresh`, the daemon is asked about it in any case.
///
/// # Errors
/// If there is none, and none is to be had.
pub async fn obtain(
    wish: &AskForLease,
    fresh: bool,
    client: &Client,
    io: &mut Io<'_>,
) -> Result<KeptLease, Failure> {
    let place = Place::of(wish, client, io)?;
    let _lock = watched(io, "waiting for another pgvalet", place.lock()).await?;
    let Some(mut kept) = place.read()? else { return place.replace(wish, client, io).await };
    let next = kept.next(io.clock.now(), fresh);
    let outcome = match next {
        Next::Use => return Ok(kept),
        Next::Replace => return place.replace(wish, client, io).await,
        Next::Look => {
            let looked = watched(io, "asking the daemon", client.lease(kept.lease.id)).await;
            looked.map(|answer| {
                (kept.lease, kept.seen_at) = (answer.value, io.clock.now());
                kept.lease.state == State::Active && kept.lease.expires_at > kept.seen_at
            })
        }
        Next::Renew => kept.renew(wish.ttl.clone(), client, io).await,
    };
    match outcome {
        Ok(true) => {
            place.write(&kept)?;
            Ok(kept)
        }
        Ok(false) => place.replace(wish, client, io).await,
        // The daemon is away; the lease is alive for all that is known.
        Err(failure) if failure.is_passing() && !fresh => Ok(kept),
        Err(Failure::Refused(problem)) if OVER.contains(&problem.status) => {
            place.replace(wish, client, io).await
        }
        Err(failure) => Err(failure),
    }
}

/// What the daemon says of a lease that is over, or that is not the caller's.
const OVER: [u16; 3] = [404, 409, 410];

/// Where one kept lease is.
struct Place {
    folder: PathBuf,
    name: String,
}

impl Place {
    fn of(wish: &AskForLease, client: &Client, io: &Io<'_>) -> Result<Self, Failure> {
        let folder = folder(io)?;
        session::make_folder(&folder)?;
        let all = json!([client.url(), client.fingerprint(), wish]).to_string();
        let hash = digest::digest(&digest::SHA256, all.as_bytes());
        let name = hash.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { folder, name })
    }

    fn path(&self, end: &str) -> PathBuf {
        self.folder.join(format!("{}.{end}", self.name))
    }

    /// Held until the file that comes back is dropped.
    async fn lock(&self) -> Result<fs::File, Failure> {
        let path = self.path(LOCK);
        let fault = Failure::file(format!("lock {}", path.display()));
        let locking = tokio::task::spawn_blocking(move || {
            let mut options = fs::OpenOptions::new();
            let file = options.create(true).append(true).mode(0o600).open(path)?;
            file.lock().map(|()| file)
        });
        locking.await.map_err(io::Error::other).flatten().map_err(fault)
    }

    fn read(&self) -> Result<Option<KeptLease>, Failure> {
        let path = self.path(LEASE);
        let fault = || Failure::file(format!("read {}", path.display()));
        let mut file = match fs::File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(fault()(e)),
        };
        let mode = file.metadata().map_err(fault())?.permissions().mode();
        if mode & 0o077 != 0 {
            let path = path.display();
            return Err(Failure::NotSo(format!(
                "{path} can be read by others (mode {:04o}), and holds a password: revoke its lease and remove it",
                mode & 0o7777
            )));
        }
        let mut text = Secret::new(String::new());
        file.read_to_string(text.expose_mut()).map_err(fault())?;
        // What another version wrote is as good as nothing.
        Ok(serde_json::from_str(text.expose()).ok())
    }

    fn write(&self, kept: &KeptLease) -> Result<(), Failure> {
        session::write_private(&self.path(LEASE), kept.text().expose())
    }

    async fn replace(
        &self,
        wish: &AskForLease,
        client: &Client,
        io: &mut Io<'_>,
    ) -> Result<KeptLease, Failure> {
        let key = access::fresh_key();
        let answer = watched(io, "waiting for the lease", client.ask(wish, &key)).await?;
        let (id, lease) = (answer.value.lease.id, answer.value.lease);
        let credential = answer.value.credential.ok_or_else(|| access::handed_out_before(id))?;
        let kept = KeptLease::new(lease, credential, io.clock.now());
        if let Err(failure) = self.write(&kept) {
            access::give_back(client, &kept.lease, io).await;
            return Err(failure);
        }
        Ok(kept)
    }
}

const LEASE: &str = "json";
const LOCK: &str = "lock";

fn folder(io: &Io<'_>) -> Result<PathBuf, Failure> {
    session::folder_path(io).map(|folder| folder.join("leases"))
}

/// Forgets these leases.
pub fn forget(ids: &[LeaseId], io: &Io<'_>) {
    remove_if(|kept| ids.contains(&kept.lease.id), io);
}

/// Forgets the leases that are over.
pub fn tidy(io: &Io<'_>) {
    let now = io.clock.now();
    remove_if(|kept| kept.lease.expires_at <= now, io);
}

/// A file that cannot be read or removed keeps no command from its work: what it holds ends by itself.
fn remove_if(is_over: impl Fn(&KeptLease) -> bool, io: &Io<'_>) {
    let Ok(folder) = folder(io) else { return };
    for path in fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
        let kept = path.extension().filter(|end| *end == LEASE).and_then(|_| read_any(&path));
        if kept.as_ref().is_some_and(&is_over) {
            let _ = fs::remove_file(&path);
        }
    }
}

fn read_any(path: &Path) -> Option<KeptLease> {
    let text = Secret::new(fs::read_to_string(path).ok()?);
    serde_json::from_str(text.expose()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifth_of_the_time_is_left_when_it_is_renewed() {
        let now = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        for (lasts, used_for) in [(3600, 2880), (100, 70), (60, 30), (40, 20), (2, 1), (0, 0)] {
            let renewed = renew_at(now + TimeDelta::seconds(lasts), now);
            assert_eq!((renewed - now).num_seconds(), used_for, "{lasts}");
        }
    }
}
