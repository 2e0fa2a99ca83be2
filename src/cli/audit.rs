//! The audit: the latest entries, an export, and whether it is intact.

use std::{
    collections::{HashSet, VecDeque},
    fs,
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    time::Duration,
};

use serde_json::Value;

use crate::{
    api::audit::Verification,
    cli::{
        Globals, Io,
        admin_arguments::{Audit, AuditCommand, Tail, Verify},
        client::Client,
        failure::Failure,
        output::{self, facts, plain, watched},
        session, verify,
    },
};

/// How often new entries are asked for.
const INTERVAL: Duration = Duration::from_secs(1);

/// How many entries a look for new ones takes in: more than a second's.
const LOOK: usize = 200;

/// `pgvalet audit`.
///
/// # Errors
/// If the daemon is unavailable, refuses, or a file cannot be read or written.
pub async fn audit(given: Audit, globals: &Globals, io: &mut Io<'_>) -> Result<u8, Failure> {
    match given.command {
        AuditCommand::Tail(given) => tail(given, globals, io).await,
        AuditCommand::Export { out } => export(out, globals, io).await,
        AuditCommand::Verify(given) => check(given, globals, io).await,
    }
}

async fn tail(given: Tail, globals: &Globals, io: &mut Io<'_>) -> Result<u8, Failure> {
    let client = session::sign_in(globals, io)?;
    let filter = [("kind", given.kind.as_deref())];
    let latest = client.list("audit", &filter, given.lines);
    let mut entries = watched(io, "asking the daemon", latest).await?;
    entries.reverse();
    if globals.json && !given.follow {
        output::json(io, &serde_json::json!({ "items": entries }))?;
        return Ok(0);
    }
    let mut seen = Seen::default();
    if given.follow {
        // What is older than the first page must not be taken for new by the next look.
        for entry in client.list("audit", &filter, LOOK).await? {
            if !entries.contains(&entry) {
                seen.is_new(&entry);
            }
        }
    }
    loop {
        for entry in &entries {
            if seen.is_new(entry) {
                write_entry(entry, globals, io)?;
            }
        }
        io.out.flush()?;
        if !given.follow {
            return Ok(0);
        }
        tokio::time::sleep(INTERVAL).await;
        entries = match client.list("audit", &filter, LOOK).await {
            Ok(entries) => entries,
            // A daemon that restarts is waited for.
            Err(failure) if failure.is_passing() => Vec::new(),
            Err(failure) => return Err(failure),
        };
        entries.reverse();
    }
}

/// The entries that were shown, as many as a few looks can bring.
#[derive(Default)]
struct Seen {
    ids: HashSet<String>,
    order: VecDeque<String>,
}

impl Seen {
    fn is_new(&mut self, entry: &Value) -> bool {
        let id = text(entry.pointer("/entry/id"));
        if !self.ids.insert(id.clone()) {
            return false;
        }
        self.order.push_back(id);
        if self.order.len() > 8 * LOOK {
            self.order.pop_front().map(|old| self.ids.remove(&old));
        }
        true
    }
}

fn write_entry(entry: &Value, globals: &Globals, io: &mut Io<'_>) -> Result<(), Failure> {
    if globals.json {
        writeln!(io.out, "{entry}")?;
        return Ok(());
    }
    writeln!(io.out, "{}", entry_line(entry))?;
    Ok(())
}

/// An entry in one line: when, what, who, and what it says.
pub(in crate::cli) fn entry_line(entry: &Value) -> String {
    let at = text(entry.pointer("/entry/at"));
    let actor = entry.pointer("/entry/actor");
    let who = match actor.and_then(|actor| actor.get("name")) {
        Some(name) => text(Some(name)),
        None => text(actor.and_then(|actor| actor.get("by"))),
    };
    let event = entry.pointer("/entry/event").and_then(Value::as_object);
    let kind = text(event.and_then(|event| event.get("kind")));
    let details: Vec<String> = event
        .into_iter()
        .flatten()
        .filter(|(key, value)| *key != "kind" && !value.is_null())
        .map(|(key, value)| format!("{key}={}", text(Some(value))))
        .collect();
    let details = details.join(" ");
    format!("{at}  {kind:18}  {}  {}", plain(&who), plain(&details))
}

/// A text as it is, anything else as JSON.
fn text(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => plain(text),
        Some(other) => plain(&other.to_string()),
        None => String::new(),
    }
}

async fn export(out: Option<PathBuf>, globals: &Globals, io: &mut Io<'_>) -> Result<u8, Failure> {
    let client = session::sign_in(globals, io)?;
    match out {
        None => client.export_audit(|piece| Ok(io.out.write_all(piece)?)).await?,
        Some(path) => export_to_file(&client, path, io).await?,
    }
    Ok(0)
}

async fn export_to_file(client: &Client, path: PathBuf, io: &mut Io<'_>) -> Result<(), Failure> {
    if path.symlink_metadata().is_ok() {
        let path = path.display();
        return Err(Failure::NotSo(format!("{path} is there already, and is not overwritten")));
    }
    let fault = || Failure::file(format!("write {}", path.display()));
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(std::path::Path::new("."));
    // It gets its name when it is whole: half an export would look like a cut-off audit.
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(fault())?;
    let copying = client.export_audit(|piece| file.write_all(piece).map_err(fault()));
    watched(io, "exporting", copying).await?;
    file.as_file().sync_all().map_err(fault())?;
    file.persist_noclobber(&path).map(drop).map_err(|e| fault()(e.error))
}

async fn check(given: Verify, globals: &Globals, io: &mut Io<'_>) -> Result<u8, Failure> {
    let trusted = given.public_key.is_some();
    let found = match &given.file {
        None => {
            let client = session::sign_in(globals, io)?;
            watched(io, "checking the audit", client.verify_audit()).await?.value
        }
        Some(path) if path == std::path::Path::new("-") => {
            verify::export(&mut *io.input, given.public_key.as_deref())?
        }
        Some(path) => {
            let file =
                fs::File::open(path).map_err(Failure::file(format!("read {}", path.display())))?;
            let mut lines: Box<dyn BufRead> = Box::new(BufReader::new(file));
            verify::export(&mut *lines, given.public_key.as_deref())?
        }
    };
    if globals.json {
        output::json(io, &found)?;
    } else {
        report(&found, io)?;
    }
    if given.file.is_some() && !trusted && found.intact {
        writeln!(
            io.err,
            "note: checked against the key in the export itself; compare it with the copy you keep, or give --public-key"
        )?;
    }
    Ok(u8::from(!found.intact))
}

fn report(found: &Verification, io: &mut Io<'_>) -> Result<(), Failure> {
    let lines = [
        ("audit", if found.intact { "intact" } else { "NOT INTACT" }.to_owned()),
        ("fault", found.fault.clone().unwrap_or_default()),
        ("first bad entry", found.first_bad.map(|at| at.to_string()).unwrap_or_default()),
        ("entries", found.entries.to_string()),
        ("head", found.head.clone()),
        ("checkpoints", found.checkpoints.to_string()),
        ("not sealed yet", found.unsealed.to_string()),
        ("public key", found.public_key.clone()),
    ];
    Ok(facts(io, &lines)?)
}
