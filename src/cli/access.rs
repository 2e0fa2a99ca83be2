//! Leases with their credential: printed (`get`, `rotate`), or lent to a program (`connect`, `run`).

use std::{ffi::OsStr, io::Write, path::PathBuf, time::Duration};

use aws_lc_rs::digest;
use chrono::TimeDelta;
use tokio::process::Command;

use crate::{
    api::{
        leases::{AskForLease, Lease, ReceivedCredential, ReceivedIssued, Renew},
        standing::ReceivedStandingCredential,
    },
    cli::{
        Globals, Io,
        arguments::{Connect, Form, Get, Run, Wish},
        child::{self, Manners, Signals},
        client::{Answer, Client},
        failure::Failure,
        format::{Access, Format},
        output::{ends_in, instant, plain, watched},
        session,
    },
    clock::Clock,
    domain::{lease::State, name::Name},
    ids::LeaseId,
    secret::Secret,
};

/// The tool of a lease whose credential is printed: which program it is for is not known.
const PRINTED: &str = "cli";

/// `pgvalet get`.
///
/// # Errors
/// If there is no lease, or its credential cannot be written; the lease is then revoked.
pub async fn get(given: Get, globals: &Globals, io: &mut Io<'_>) -> Result<u8, Failure> {
    let client = session::sign_in(globals, io)?;
    let destination = Destination::open(given.form.out.clone())?;
    let key = given.idempotency_key.unwrap_or_else(fresh_key);
    let wish = ask_for(given.wish, PRINTED);
    let answer = watched(io, "waiting for the lease", client.ask(&wish, &key)).await?;
    let written = hand_out(&answer, &given.form, destination, globals, io);
    if written.is_err() && answer.value.credential.is_some() {
        // Nobody has the credential now, so that nobody should be able to use it.
        give_back(&client, &answer.value.lease, io).await;
    }
    written
}

/// `pgvalet rotate ID`.
///
/// # Errors
/// If the lease cannot be rotated, or the credential cannot be written: rotate again then.
pub async fn rotate(
    id: LeaseId,
    form: &Form,
    globals: &Globals,
    io: &mut Io<'_>,
) -> Result<u8, Failure> {
    let client = session::sign_in(globals, io)?;
    let destination = Destination::open(form.out.clone())?;
    let answer = watched(io, "waiting for the fresh login", client.rotate(id)).await?;
    hand_out(&answer, form, destination, globals, io)
}

/// `pgvalet standing get`.
///
/// # Errors
/// If the caller may not read it, there is no login yet, or the credential cannot be written.
pub async fn standing(
    name: &Name,
    form: &Form,
    client: &Client,
    globals: &Globals,
    io: &mut Io<'_>,
) -> Result<u8, Failure> {
    let destination = Destination::open(form.out.clone())?;
    let asked =
        client.part::<ReceivedStandingCredential>(["standing-roles", name.as_str(), "credential"]);
    let answer = watched(io, "asking the daemon", asked).await?;
    if globals.json {
        write_body(&answer.body, destination, io)?;
        return Ok(0);
    }
    let ReceivedStandingCredential { standing_role, credential } = &answer.value;
    let lease_id = standing_role.lease_id.ok_or_else(|| {
        Failure::NotSo(format!("standing role {name} has no login yet: ask again"))
    })?;
    let (profile, expires_at) = (standing_role.spec.name.as_str(), credential.valid_until);
    let access = Access { credential, lease_id, profile, expires_at, root_certificate: None };
    write_credential(access, form, destination, io)?;
    if io.terminals.err {
        let (due, until) = (instant(standing_role.due_at), instant(credential.valid_until));
        let generation = standing_role.generation;
        writeln!(
            io.err,
            "standing role {name}, generation {generation}: rotated next at {due}, valid until {until}"
        )?;
    }
    Ok(0)
}

/// `pgvalet connect`.
///
/// # Errors
/// If there is no lease or no psql.
pub async fn connect(given: Connect, globals: &Globals, io: &mut Io<'_>) -> Result<u8, Failure> {
    if !io.environment.finds_program("psql") {
        return Err(Failure::NotSo(
            "psql is not on the search path: install the PostgreSQL client, or use `pgvalet run` with another program".to_owned(),
        ));
    }
    let mut command = Command::new("psql");
    command.args(given.psql);
    lend(ask_for(given.wish, "psql"), command, Manners::Interactive, globals, io).await
}

/// `pgvalet run`.
///
/// # Errors
/// If there is no lease, or the program cannot be started.
pub async fn run(given: Run, globals: &Globals, io: &mut Io<'_>) -> Result<u8, Failure> {
    let mut words = given.command.into_iter();
    let program = words.next().ok_or_else(|| Failure::Usage("a program is needed".to_owned()))?;
    let tool = tool_of(&program);
    let mut command = Command::new(program);
    command.args(words);
    lend(ask_for(given.wish, &tool), command, Manners::Passing, globals, io).await
}

/// A lease for as long as a program runs. Signals are caught from before it is asked for until after
/// it is revoked, so that none of them leaves it behind.
async fn lend(
    wish: AskForLease,
    mut command: Command,
    manners: Manners,
    globals: &Globals,
    io: &mut Io<'_>,
) -> Result<u8, Failure> {
    let client = session::sign_in(globals, io)?;
    let mut signals = Signals::catch().map_err(Failure::file("catch signals"))?;
    let key = fresh_key();
    let answer = watched(io, "waiting for the lease", client.ask(&wish, &key)).await?;
    let lease = &answer.value.lease;
    let outcome = match signals.came().await {
        Some(status) => Ok(status),
        None => {
            command.env("PGVALET_LEASE_ID", lease.id.to_string());
            let how = Attendance { client: &client, wish: &wish, manners };
            how.attend(&answer.value, command, &mut signals, io).await
        }
    };
    give_back(&client, lease, io).await;
    outcome
}

/// A program in its lease.
struct Attendance<'a> {
    client: &'a Client,
    wish: &'a AskForLease,
    manners: Manners,
}

impl Attendance<'_> {
    async fn attend(
        &self,
        issued: &ReceivedIssued,
        command: Command,
        signals: &mut Signals,
        io: &mut Io<'_>,
    ) -> Result<u8, Failure> {
        let lease = &issued.lease;
        let credential = credential_of(issued)?;
        let certificate = root_certificate(credential, io)?;
        let variables = access(issued, credential, certificate.as_deref()).variables();
        let program = command.as_std().get_program().to_string_lossy().into_owned();
        let mut child = child::start(command, &variables)
            .map_err(|e| Failure::file(format!("start {program}"))(e))?;
        drop(variables);
        if io.terminals.err {
            tell(issued, io)?;
        }
        let ttl = self.wish.ttl.clone();
        let clock = io.clock;
        let renewing = async {
            if self.manners == Manners::Passing {
                keep_renewed(self.client, lease.clone(), ttl, clock, &mut *io.err).await;
            }
        };
        child::attend(&mut child, signals, self.manners, renewing)
            .await
            .map_err(Failure::file(format!("wait for {program}")))
    }
}

/// Renews when two thirds of the remaining time are over, until the lease cannot last longer. A
/// daemon that is away is asked again; what is left of the last third is for that.
async fn keep_renewed(
    client: &Client,
    mut lease: Lease,
    ttl: Option<String>,
    clock: Clock,
    err: &mut dyn Write,
) {
    let renew = Renew { ttl };
    while lease.expires_at < lease.max_expires_at {
        let left = lease.expires_at - clock.now();
        let due = clock.now() + (left * 2 / 3).max(TimeDelta::seconds(1));
        while clock.now() < due {
            // In steps: a machine that slept looks at its clock again soon after it wakes.
            let step = (due - clock.now()).to_std().unwrap_or_default();
            tokio::time::sleep(step.min(Duration::from_secs(30))).await;
        }
        match client.renew(lease.id, &renew).await {
            Ok(answer) if answer.value.lease.expires_at <= lease.expires_at => return,
            Ok(answer) => lease = answer.value.lease,
            Err(failure) if failure.is_passing() && clock.now() < lease.expires_at => {}
            Err(failure) => {
                let ends = instant(lease.expires_at);
                // The program goes on; it is told on its standard error, if that is still there.
                let _ = writeln!(err, "pgvalet: the lease is not renewed and ends at {ends}");
                let _ = failure.print(err);
                return;
            }
        }
    }
}

/// How often a revocation is tried before the lease is left to its end.
const ATTEMPTS: u32 = 3;

/// Revokes a lease that is not needed any more, and says so if that cannot be done.
async fn give_back(client: &Client, lease: &Lease, io: &mut Io<'_>) {
    let mut attempt = 1;
    let outcome = loop {
        match watched(io, "revoking the lease", client.revoke(lease.id)).await {
            Err(failure) if failure.is_passing() && attempt < ATTEMPTS => {
                tokio::time::sleep(Duration::from_secs(1) * attempt).await;
                attempt += 1;
            }
            other => break other,
        }
    };
    let id = lease.id;
    // The last words of a command whose exit status is the program's: there is nobody else to tell.
    let _ = match outcome {
        Ok(answer) => {
            let gone = answer.value.leases.iter().all(|lease| lease.state == State::Revoked);
            match (gone, io.terminals.err) {
                (true, true) => writeln!(io.err, "lease {id} is revoked"),
                (true, false) => Ok(()),
                (false, _) => writeln!(io.err, "lease {id} is being revoked"),
            }
        }
        Err(failure) => {
            let ends = instant(lease.expires_at);
            let _ = failure.print(io.err);
            writeln!(
                io.err,
                "pgvalet: lease {id} is not revoked: `pgvalet revoke {id}`; without that it ends at {ends}"
            )
        }
    };
}

/// Where a credential goes. A file is made before the lease is asked for, so that a folder that
/// cannot be written costs no lease; it gets its name when it is whole.
enum Destination {
    Standard,
    File { file: tempfile::NamedTempFile, path: PathBuf },
}

impl Destination {
    fn open(path: Option<PathBuf>) -> Result<Self, Failure> {
        let Some(path) = path else { return Ok(Self::Standard) };
        if path.symlink_metadata().is_ok() {
            let path = path.display();
            return Err(Failure::NotSo(format!("{path} is there already, and is not overwritten")));
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        // tempfile makes it with mode 0600.
        let file = tempfile::NamedTempFile::new_in(folder.unwrap_or(std::path::Path::new(".")))
            .map_err(Failure::file(format!("make {}", path.display())))?;
        Ok(Self::File { file, path })
    }

    fn write(self, text: &[u8], io: &mut Io<'_>) -> Result<(), Failure> {
        match self {
            Self::Standard => {
                io.out.write_all(text)?;
                io.out.flush()?;
            }
            Self::File { mut file, path } => {
                let fault = || Failure::file(format!("write {}", path.display()));
                file.write_all(text).map_err(fault())?;
                file.as_file().sync_all().map_err(fault())?;
                file.persist_noclobber(&path).map_err(|e| fault()(e.error))?;
            }
        }
        Ok(())
    }
}

/// Prints the credential of an answer: it alone on standard output, the rest on standard error.
fn hand_out(
    answer: &Answer<ReceivedIssued>,
    form: &Form,
    destination: Destination,
    globals: &Globals,
    io: &mut Io<'_>,
) -> Result<u8, Failure> {
    let issued = &answer.value;
    if globals.json {
        write_body(&answer.body, destination, io)?;
        return Ok(u8::from(issued.credential.is_none()));
    }
    let credential = credential_of(issued)?;
    write_credential(access(issued, credential, None), form, destination, io)?;
    if io.terminals.err {
        tell(issued, io)?;
    }
    Ok(0)
}

/// The answer as it came.
fn write_body(
    body: &Secret<Vec<u8>>,
    destination: Destination,
    io: &mut Io<'_>,
) -> Result<(), Failure> {
    let mut text = Secret::new(body.expose().clone());
    text.expose_mut().push(b'\n');
    destination.write(text.expose(), io)
}

fn write_credential(
    access: Access<'_>,
    form: &Form,
    destination: Destination,
    io: &mut Io<'_>,
) -> Result<(), Failure> {
    let certificate = match form.format {
        Format::Pgpass => None,
        _ => root_certificate(access.credential, io)?,
    };
    let text = Access { root_certificate: certificate.as_deref(), ..access }
        .write(form.format)
        .map_err(|e| Failure::NotSo(e.to_string()))?;
    destination.write(text.expose().as_bytes(), io)
}

fn credential_of(issued: &ReceivedIssued) -> Result<&ReceivedCredential, Failure> {
    let id = issued.lease.id;
    issued.credential.as_ref().ok_or_else(|| {
        Failure::NotSo(format!(
            "the credential of {id} was handed out before, to the first request with this key: `pgvalet rotate {id}` gives a fresh one"
        ))
    })
}

fn access<'a>(
    issued: &'a ReceivedIssued,
    credential: &'a ReceivedCredential,
    root_certificate: Option<&'a str>,
) -> Access<'a> {
    let Lease { id, profile, expires_at, .. } = &issued.lease;
    Access { credential, lease_id: *id, profile, expires_at: *expires_at, root_certificate }
}

/// When it ends, as whom, and by which rule.
fn tell(issued: &ReceivedIssued, io: &mut Io<'_>) -> Result<(), Failure> {
    let lease = &issued.lease;
    let (at, left) = (instant(lease.expires_at), ends_in(lease.expires_at, io.clock.now()));
    let role = plain(lease.role.as_deref().unwrap_or("?"));
    write!(io.err, "lease {} ends at {at} (in {left}), role {role}", lease.id)?;
    if let Some(ttl) = &issued.ttl {
        write!(io.err, ", ttl {}: {}", ttl.granted, plain(&ttl.because))?;
    }
    writeln!(io.err)?;
    Ok(())
}

/// The target's own certificates as a file, named after what is in it, because libpq takes no text.
fn root_certificate(
    credential: &ReceivedCredential,
    io: &Io<'_>,
) -> Result<Option<String>, Failure> {
    let Some(pem) = &credential.sslrootcert_pem else { return Ok(None) };
    let folder = session::folder(io)?.join("authorities");
    session::make_folder(&folder)?;
    let hash = digest::digest(&digest::SHA256, pem.as_bytes());
    let name: String = hash.as_ref().iter().take(12).map(|byte| format!("{byte:02x}")).collect();
    let path = folder.join(format!("{name}.pem"));
    // Written each time: what is in the folder is not trusted to be what its name says.
    session::write_private(&path, pem)?;
    let text = path.to_str().map(str::to_owned);
    text.map(Some).ok_or_else(|| {
        Failure::NotSo(format!("{} cannot stand in a connection string", path.display()))
    })
}

fn ask_for(wish: Wish, tool: &str) -> AskForLease {
    let Wish { profile, ttl, tool: named, reason, ticket } = wish;
    AskForLease { profile, ttl, tool: named.or_else(|| Some(tool.to_owned())), reason, ticket }
}

/// The program's name, if it can be a tool's.
fn tool_of(program: &OsStr) -> String {
    std::path::Path::new(program)
        .file_name()
        .map(|name| name.to_string_lossy().to_lowercase())
        .filter(|name| name.parse::<Name>().is_ok())
        .unwrap_or_else(|| PRINTED.to_owned())
}

fn fresh_key() -> String {
    uuid::Uuid::now_v7().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tool_is_the_program_if_it_can_be() {
        for (program, tool) in [
            ("/usr/bin/python3.12", "python3.12"),
            ("psql", "psql"),
            ("./My Script", PRINTED),
            ("./7z", PRINTED),
            ("..", PRINTED),
        ] {
            assert_eq!(tool_of(OsStr::new(program)), tool, "{program}");
        }
    }

    #[test]
    fn a_file_that_is_there_is_not_overwritten_and_a_new_one_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("credential");
        let Destination::File { mut file, path: to } =
            Destination::open(Some(path.clone())).unwrap()
        else {
            panic!("a file was asked for");
        };
        file.write_all(b"x").unwrap();
        file.persist_noclobber(&to).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let Err(refused) = Destination::open(Some(path)) else { panic!("it exists") };
        assert_eq!(refused.exit_status(), 1);
    }
}
