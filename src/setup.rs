//! `pgvalet bootstrap-target`: prints the SQL that makes pgvalet's role on a target, or runs it. It
//! asks no daemon: whoever runs it has rights on the target that the daemon must not have.

use std::{fs, path::Path};

use crate::{
    causes::causes,
    cli::{Io, failure::Failure, password, target_setup::BootstrapTarget},
    domain::target::{Way, is_identifier},
    rng,
    secret::Secret,
    target::{
        bootstrap::{self, Bounds, Harden, Setup},
        printed, scram,
        superuser::{Address, Failed, Server},
    },
};

/// Does it, and tells the exit status: 0 done, 1 a statement was refused, 2 usage, 5 the server is
/// unavailable.
pub async fn run(given: BootstrapTarget, mut io: Io<'_>) -> u8 {
    match set_up(&given, &mut io).await {
        Ok(()) => 0,
        Err((status, text)) => {
            // Standard error is the last place to tell of a fault: if it is closed, the status remains.
            let _ = writeln!(io.err, "pgvalet: {text}");
            status
        }
    }
}

type Fault = (u8, String);

const NOT_SO: u8 = 1;
const USAGE: u8 = 2;
const UNAVAILABLE: u8 = 5;

async fn set_up(given: &BootstrapTarget, io: &mut Io<'_>) -> Result<(), Fault> {
    let lists = [&given.databases, &given.owners, &given.groups, &given.settings];
    let names = lists.into_iter().flatten();
    // A script with a name of two lines would not mean what it seems to.
    let is_name = |name: &str| is_identifier(name) && !name.contains(char::is_control);
    if let Some(wrong) = names.chain([&given.admin]).find(|name| !is_name(name)) {
        let message = format!("{wrong:?} cannot be a name: write 1 to 63 bytes in one line");
        return Err((USAGE, message));
    }
    let server = match &given.sign_in_as {
        Some(url) => Some(sign_in(url, io).await?),
        None => None,
    };
    let version = server
        .as_ref()
        .map_or_else(|| given.server_version.unwrap_or_default() * 10_000, |server| server.version);
    let password = new_password(given)?;
    let setup = setup_of(given, version, password.as_ref())?;
    let steps = bootstrap::steps(&setup).map_err(|e| (USAGE, e.to_string()))?;
    match server {
        Some(server) if given.apply => {
            server.apply(&steps).await.map_err(|e| (status_of(&e), causes(&e)))?;
            let chosen = steps.iter().filter(|step| step.is_chosen).count();
            say(&mut *io.err, &format!("{chosen} steps done; `{}` is ready", setup.admin))?;
            show_password(given, password.as_ref(), &mut *io.out)
        }
        _ => {
            let script = printed::script(&setup, &steps);
            write!(io.out, "{script}").map_err(output)?;
            show_password(given, password.as_ref(), &mut *io.err)
        }
    }
}

fn setup_of(
    given: &BootstrapTarget,
    version: i32,
    password: Option<&Secret<String>>,
) -> Result<Setup, Fault> {
    let verifier = match password {
        Some(password) => {
            let salt = rng::bytes().map_err(|e| (UNAVAILABLE, e.to_string()))?;
            Some(scram::verifier(password, salt, scram::DEFAULT_ITERATIONS))
        }
        None => None,
    };
    let way = Way::from_text(&given.way).unwrap_or(Way::Direct);
    let usual = Bounds::USUAL_SETTINGS.map(str::to_owned);
    let bounds = Bounds {
        longest_life: *given.longest_life,
        most_connections: given.most_connections,
        settings: usual.into_iter().chain(given.settings.clone()).collect(),
    };
    let chosen = |word: &str| given.harden.iter().any(|given| given == word);
    Ok(Setup {
        version,
        admin: given.admin.clone(),
        verifier,
        way,
        databases: given.databases.clone(),
        groups: given.groups.clone(),
        owners: given.owners.clone(),
        harden: Harden::ALL.into_iter().filter(|(word, _)| chosen(word)).map(|(_, h)| h).collect(),
        bounds,
    })
}

async fn sign_in(url: &str, io: &mut Io<'_>) -> Result<Server, Fault> {
    let address = Address::read(url).map_err(|e| (USAGE, causes(&e)))?;
    let mut password = io.environment.secret("PGPASSWORD");
    if password.is_none() && io.terminals.input && io.terminals.err {
        let question = format!("Password for {}: ", address.shown);
        password = match password::read_unseen(&question, &mut *io.err) {
            Ok(password) => Some(password),
            // Enter alone: the server may ask for none.
            Err(Failure::Usage(_)) => None,
            Err(e) => return Err((e.exit_status(), e.to_string())),
        };
    }
    address.sign_in(password.as_ref()).await.map_err(|e| (status_of(&e), causes(&e)))
}

fn new_password(given: &BootstrapTarget) -> Result<Option<Secret<String>>, Fault> {
    if given.generate_password {
        return rng::password().map(Some).map_err(|e| (UNAVAILABLE, e.to_string()));
    }
    given.password_file.as_deref().map(password_from).transpose()
}

/// Only what SASLprep (RFC 4013) leaves as it is: a verifier of anything else might not be the one
/// that a client computes.
fn password_from(file: &Path) -> Result<Secret<String>, Fault> {
    let shown = file.display();
    let text = fs::read_to_string(file)
        .map(Secret::new)
        .map_err(|e| (NOT_SO, format!("cannot read {shown}: {e}")))?;
    let password = text.expose().trim_end_matches(['\r', '\n']);
    if password.is_empty() || !password.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) {
        let message = format!("{shown} must hold one line of printable ASCII: the password");
        return Err((USAGE, message));
    }
    Ok(Secret::new(password.to_owned()))
}

fn show_password(
    given: &BootstrapTarget,
    password: Option<&Secret<String>>,
    to: &mut dyn std::io::Write,
) -> Result<(), Fault> {
    match password {
        Some(password) if given.generate_password => say(to, password.expose()),
        _ => Ok(()),
    }
}

fn say(to: &mut dyn std::io::Write, line: &str) -> Result<(), Fault> {
    writeln!(to, "{line}").map_err(output)
}

fn output(error: std::io::Error) -> Fault {
    (NOT_SO, format!("the output cannot be written: {error}"))
}

fn status_of(failed: &Failed) -> u8 {
    match failed {
        Failed::Address(_) => USAGE,
        Failed::SignIn { .. } => UNAVAILABLE,
        Failed::Step { .. } => NOT_SO,
    }
}
