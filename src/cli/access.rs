//! Leases whose credential is printed: `get`, `rotate`, `standing get`. Those that are lent to a program are in
//! `lend`.

use std::time::Duration;

use aws_lc_rs::digest;

use crate::{
    api::{
        leases::{AskForLease, Lease, ReceivedCredential, ReceivedIssued},
        standing::ReceivedStandingCredential,
    },
    cli::{
        Globals, Io,
        access_arguments::{Form, Get, Wish},
        client::{Answer, Client},
        destination::{Destination, Plain},
        failure::Failure,
        format::{Access, Format},
        kept_lease::{self, KeptLease},
        output::{ends_in, instant, plain, watched},
        requests, session,
    },
    domain::{lease::State, name::Name},
    ids::LeaseId,
    secret::Secret,
};

/// The tool of a lease whose credential is printed: which program it is for is not known.
pub(in crate::cli) const PRINTED: &str = "cli";

/// `pgvalet get`.
///
/// # Errors
/// If there is no lease, or its credential cannot be written; the lease is then revoked.
pub async fn get(given: Get, globals: &Globals, io: &mut Io<'_>) -> Result<u8, Failure> {
    if given.field.is_some() || given.form.format == Format::CredentialProcess {
        return get_kept(given, globals, io).await;
    }
    if given.fresh {
        return Err(Failure::Usage(
            "--fresh is for a lease that is kept: --format credential-process, or --field"
                .to_owned(),
        ));
    }
    let client = session::sign_in(globals, io)?;
    let destination = Destination::open(&given.form, globals, io)?;
    let how = (given.idempotency_key, given.wish.wait);
    let wish = ask_for(given.wish, PRINTED);
    let answer = requests::ask(&wish, how, &client, io).await?;
    hand_out_or_give_back(&answer, (&given.form, destination), &client, globals, io).await
}

/// Prints a credential. One that cannot be written is nobody's, so that nobody should be able to use it.
pub(in crate::cli) async fn hand_out_or_give_back(
    answer: &Answer<ReceivedIssued>,
    (form, destination): (&Form, Destination),
    client: &Client,
    globals: &Globals,
    io: &mut Io<'_>,
) -> Result<u8, Failure> {
    let written = hand_out(answer, form, destination, globals, io);
    if written.is_err() && answer.value.credential.is_some() {
        give_back(client, &answer.value.lease, io).await;
    }
    written
}

/// `pgvalet get` of a lease that is kept on this machine, and given out again.
async fn get_kept(given: Get, globals: &Globals, io: &mut Io<'_>) -> Result<u8, Failure> {
    let Get { wish, form, field, fresh, idempotency_key } = given;
    if globals.json || idempotency_key.is_some() {
        return Err(Failure::Usage(
            "a lease that is kept (--format credential-process, or --field) goes with neither --json nor --idempotency-key".to_owned(),
        ));
    }
    let client = session::sign_in(globals, io)?;
    let destination = Destination::open(&form, globals, io)?.plain()?;
    let kept = kept_lease::obtain(&ask_for(wish, PRINTED), fresh, &client, io).await?;
    let KeptLease { lease, credential, .. } = &kept;
    let certificate = root_certificate(credential, io)?;
    let access = Access {
        credential,
        lease_id: lease.id,
        profile: &lease.profile,
        expires_at: lease.expires_at,
        root_certificate: certificate.as_deref(),
    };
    match field {
        Some(field) => destination.write_field(&access.field(field), io)?,
        None => {
            let text = access.write(form.format).map_err(|e| Failure::NotSo(e.to_string()))?;
            destination.write(text.expose().as_bytes(), io)?;
        }
    }
    if io.terminals.err {
        tell_the_end(lease, io)?;
    }
    Ok(0)
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
    let destination = Destination::open(form, globals, io)?;
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
    let destination = Destination::open(form, globals, io)?;
    let asked =
        client.part::<ReceivedStandingCredential>(["standing-roles", name.as_str(), "credential"]);
    let answer = watched(io, "asking the daemon", asked).await?;
    if globals.json {
        write_body(&answer.body, destination.plain()?, io)?;
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

/// How often a revocation is tried before the lease is left to its end.
const ATTEMPTS: u32 = 3;

/// Revokes a lease that is not needed any more, and says so if that cannot be done.
pub(in crate::cli) async fn give_back(client: &Client, lease: &Lease, io: &mut Io<'_>) {
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

/// Prints the credential of an answer: it alone on standard output, the rest on standard error.
pub(in crate::cli) fn hand_out(
    answer: &Answer<ReceivedIssued>,
    form: &Form,
    destination: Destination,
    globals: &Globals,
    io: &mut Io<'_>,
) -> Result<u8, Failure> {
    let issued = &answer.value;
    if globals.json {
        write_body(&answer.body, destination.plain()?, io)?;
        return Ok(u8::from(issued.credential.is_none()));
    }
    let credential = credential_of(issued)?;
    write_credential(access(issued, credential, None), form, destination, io)?;
    if io.terminals.err {
        tell(issued, io)?;
        tell_the_way_out(issued.lease.id, io)?;
    }
    Ok(0)
}

/// The answer as it came.
fn write_body(body: &Secret<Vec<u8>>, destination: Plain, io: &mut Io<'_>) -> Result<(), Failure> {
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
    let access = Access { root_certificate: certificate.as_deref(), ..access };
    destination.hand_over(&access, form.format, io)
}

pub(in crate::cli) fn credential_of(
    issued: &ReceivedIssued,
) -> Result<&ReceivedCredential, Failure> {
    issued.credential.as_ref().ok_or_else(|| handed_out_before(issued.lease.id))
}

pub(in crate::cli) fn handed_out_before(id: LeaseId) -> Failure {
    Failure::NotSo(format!(
        "the credential of {id} was handed out before, to the first request with this key: `pgvalet rotate {id}` gives a fresh one"
    ))
}

pub(in crate::cli) fn access<'a>(
    issued: &'a ReceivedIssued,
    credential: &'a ReceivedCredential,
    root_certificate: Option<&'a str>,
) -> Access<'a> {
    let Lease { id, profile, expires_at, .. } = &issued.lease;
    Access { credential, lease_id: *id, profile, expires_at: *expires_at, root_certificate }
}

/// When a lease that was there already ends, and how to end it now.
fn tell_the_end(lease: &Lease, io: &mut Io<'_>) -> Result<(), Failure> {
    let (at, left) = (instant(lease.expires_at), ends_in(lease.expires_at, io.clock.now()));
    writeln!(io.err, "lease {} ends at {at} (in {left})", lease.id)?;
    tell_the_way_out(lease.id, io)
}

fn tell_the_way_out(id: LeaseId, io: &mut Io<'_>) -> Result<(), Failure> {
    Ok(writeln!(io.err, "to end it sooner: pgvalet revoke {id}")?)
}

/// When it ends, as whom, and by which rule.
pub(in crate::cli) fn tell(issued: &ReceivedIssued, io: &mut Io<'_>) -> Result<(), Failure> {
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
pub(in crate::cli) fn root_certificate(
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

/// What is asked for; the tool is this one if none is named.
pub(in crate::cli) fn ask_for(wish: Wish, tool: &str) -> AskForLease {
    let Wish { profile, ttl, tool: named, reason, ticket, start, wait: _ } = wish;
    let tool = named.or_else(|| Some(tool.to_owned()));
    AskForLease { profile, ttl, tool, reason, ticket, start_at: start }
}

/// A key that nobody used.
pub(in crate::cli) fn fresh_key() -> String {
    uuid::Uuid::now_v7().to_string()
}
