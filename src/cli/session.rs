//! Signing in: which daemon, with which token; and the client's folder.

use std::{
    fs,
    io::{Read, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use crate::{
    api::people::SignedOut,
    cli::{
        Globals, Io,
        address::Transport,
        call::Call,
        certificates::{Certificates, named_ca_file},
        client::Client,
        daemons::{Daemon, Daemons},
        device::{self, Browser},
        failure::Failure,
        job_token::GithubRunner,
        login_arguments::{Login, Logout},
        output::{self, facts, instant, plain},
        password,
    },
    domain::administration::Right,
    secret::Secret,
};

/// A token file holds one line; this is many times that.
const LONGEST_TOKEN_FILE: u64 = 4096;

/// Which daemon is meant.
enum Meant {
    /// The one at this address.
    At(String),
    /// The one that is kept under this name.
    Named(String),
    /// The one that is asked when nobody says.
    Usual,
}

impl Meant {
    /// What is on the command line wins over the environment, and in each an address over a name.
    fn by(globals: &Globals, io: &Io<'_>) -> Self {
        let by = |url: Option<String>, name: Option<String>| {
            url.map(Self::At).or_else(|| name.map(Self::Named))
        };
        let variable = |name| io.environment.text(name);
        by(globals.url.clone(), globals.daemon.clone())
            .or_else(|| by(variable("PGVALET_URL"), variable("PGVALET_DAEMON")))
            .unwrap_or(Self::Usual)
    }
}

/// A client for the daemon that the flags, the environment or the last login name, in this order.
///
/// # Errors
/// If there is no address or no token, or the kept one can be read by others.
pub fn sign_in(globals: &Globals, io: &Io<'_>) -> Result<Client, Failure> {
    let meant = Meant::by(globals, io);
    if let Meant::At(url) = &meant
        && let Some(runner) = GithubRunner::of(&io.environment, url)?
    {
        let ca_file = named_ca_file(globals.ca_file.as_deref(), &io.environment);
        let certificates = Certificates::read(ca_file.as_deref(), &io.environment)?;
        let token = Some(runner.token().duplicate());
        let client = Client::over((transport(globals), certificates), url, token)?;
        return Ok(client.in_trace(io.environment.trace()).with_runner(runner));
    }
    let given = match io.environment.secret("PGVALET_TOKEN") {
        Some(token) => Some(token),
        None => match io.environment.text("PGVALET_TOKEN_FILE") {
            Some(file) => Some(token_from_file(Path::new(&file))?),
            None => None,
        },
    };
    let own = Certificates::read(None, &io.environment)?;
    // With an address and a token at hand, a file that cannot be read is nobody's trouble.
    let daemons = match (&meant, &given) {
        (Meant::At(_), Some(_)) => Daemons::read(io).unwrap_or_default(),
        _ => Daemons::read(io)?,
    };
    let (url, token) = match (meant, given) {
        (Meant::At(url), Some(token)) => (url, Some(token)),
        // The client's certificate says who asks, where no token is kept for the address.
        (Meant::At(url), None) if own.has_own() && daemons.at(&url).is_none() => (url, None),
        (meant, given) => {
            let kept = kept_one(&daemons, &meant)?;
            (kept.url.clone(), Some(given.unwrap_or_else(|| kept.token.duplicate())))
        }
    };
    let ca_file = named_ca_file(globals.ca_file.as_deref(), &io.environment)
        .or_else(|| daemons.at(&url)?.ca_file.clone());
    let certificates = Certificates::read(ca_file.as_deref(), &io.environment)?;
    let client = Client::over((transport(globals), certificates), &url, token)?;
    Ok(client.in_trace(io.environment.trace()))
}

/// A client for the same daemon that says nothing of who asks, for what needs no sign-in.
///
/// # Errors
/// If there is no address.
pub fn nobody(globals: &Globals, io: &Io<'_>) -> Result<Client, Failure> {
    let meant = Meant::by(globals, io);
    let daemons = match &meant {
        Meant::At(_) => Daemons::read(io).unwrap_or_default(),
        Meant::Named(_) | Meant::Usual => Daemons::read(io)?,
    };
    let url = match &meant {
        Meant::At(url) => url.clone(),
        meant => kept_one(&daemons, meant)?.url.clone(),
    };
    let ca_file = named_ca_file(globals.ca_file.as_deref(), &io.environment)
        .or_else(|| daemons.at(&url)?.ca_file.clone());
    let certificates = Certificates::read(ca_file.as_deref(), &io.environment)?;
    let client = Client::over((transport(globals), certificates), &url, None)?;
    Ok(client.in_trace(io.environment.trace()))
}

/// `--url` with another address does not hand a kept token to whoever answers there.
fn kept_one<'a>(daemons: &'a Daemons, meant: &Meant) -> Result<&'a Daemon, Failure> {
    match meant {
        Meant::Named(name) => daemons.named(name),
        Meant::Usual => {
            daemons.usual()?.ok_or_else(|| Failure::NotSignedIn("no daemon is known".to_owned()))
        }
        Meant::At(url) => daemons.at(url).ok_or_else(|| {
            let kept = daemons.addresses();
            Failure::NotSignedIn(if kept.is_empty() {
                format!("there is no token for {url}")
            } else {
                format!("the token that is kept is for {kept}, not for {url}")
            })
        }),
    }
}

/// `pgvalet login`: checks the token first, so that what is kept worked once.
///
/// # Errors
/// If the daemon does not take the token, or it cannot be kept.
pub async fn login(given: Login, globals: &Globals, io: &mut Io<'_>) -> Result<u8, Failure> {
    let url = match Meant::by(globals, io) {
        Meant::At(url) => url,
        Meant::Named(name) => Daemons::read(io)?.named(&name)?.url.clone(),
        Meant::Usual => {
            return Err(Failure::Usage(
                "login needs --url: the daemon's address; or --daemon, for one that is known"
                    .to_owned(),
            ));
        }
    };
    // The command may be run from another folder the next time.
    let ca_file = named_ca_file(globals.ca_file.as_deref(), &io.environment);
    let ca_file = ca_file.map(|file| {
        std::path::absolute(&file).map_err(Failure::file(format!("find {}", file.display())))
    });
    let ca_file = ca_file.transpose()?;
    let certificates = Certificates::read(ca_file.as_deref(), &io.environment)?;
    let way = (transport(globals), certificates);
    let token = match (given.token, given.token_file) {
        (Some(_), _) => read_token(&mut *io.input, "standard input")?,
        (None, Some(file)) => token_from_file(&file)?,
        (None, None) => by_person(&url, given.open, way.clone(), io).await?,
    };
    let client = Client::over(way, &url, Some(token.duplicate()))?;
    let answer = output::watched(io, "checking the token", client.whoami()).await?;
    let mut daemons = Daemons::read(io)?;
    let named = given.name.as_deref().or(globals.daemon.as_deref());
    let daemon = Daemon { url: client.url().to_owned(), token, ca_file };
    let name = daemons.keep(named, daemon)?;
    let path = daemons.write(io)?;
    if globals.json {
        output::json(io, &answer.value)?;
    } else {
        let who = plain(&answer.value.principal);
        writeln!(
            io.err,
            "signed in to {name} ({}) as {who}; the token is in {}",
            client.url(),
            path.display()
        )?;
    }
    Ok(0)
}

/// A person signs in at the daemon's identity provider; without one, they type a token.
async fn by_person(
    url: &str,
    open: bool,
    way: (Transport, Certificates),
    io: &mut Io<'_>,
) -> Result<Secret<String>, Failure> {
    let nobody = Client::over(way, url, None)?;
    let browser = if open { Browser::Opened } else { Browser::LeftAlone };
    match device::sign_in(&nobody, browser, io).await? {
        Some(token) => Ok(token),
        None if io.terminals.input && io.terminals.err => {
            password::read_unseen(&format!("Token for {}: ", plain(url)), &mut *io.err)
        }
        None => Err(Failure::Usage(
            "this daemon has no identity provider, and there is no terminal to ask for a token on: use --token - or --token-file"
                .to_owned(),
        )),
    }
}

/// Ends the session that is kept, or all of them. An API token is left as it is: it may be in use elsewhere.
async fn end_session(everywhere: bool, client: &Client, io: &mut Io<'_>) -> Result<(), Failure> {
    let who = output::watched(io, "asking the daemon", client.whoami()).await?.value;
    match (who.token_id, who.session) {
        _ if everywhere => {
            let ending = client.read::<SignedOut>(Call::delete(&["v1", "sessions"]));
            let ended = output::watched(io, "signing out", ending).await?.value.sessions;
            writeln!(io.err, "signed out everywhere: {ended} sessions ended")?;
        }
        (Some(id), Some(_)) => {
            output::watched(io, "signing out", client.revoke_token(id)).await?;
            writeln!(io.err, "the session is ended")?;
        }
        _ => writeln!(
            io.err,
            "the API token stays valid until it ends or is revoked (`pgvalet token revoke`)"
        )?,
    }
    Ok(())
}

/// `pgvalet logout`: of the daemon that is named, or of the one that is asked when none is.
///
/// # Errors
/// If the file cannot be read, or not be changed.
pub async fn logout(given: Logout, globals: &Globals, io: &mut Io<'_>) -> Result<u8, Failure> {
    let mut daemons = Daemons::read_to_forget(io)?;
    let Some((name, daemon)) = daemons.forget(globals.daemon.as_deref())? else {
        writeln!(io.err, "no token was kept")?;
        return Ok(0);
    };
    let name = plain(&name);
    let ca_file = named_ca_file(globals.ca_file.as_deref(), &io.environment).or(daemon.ca_file);
    let certificates = Certificates::read(ca_file.as_deref(), &io.environment)?;
    let way = (transport(globals), certificates);
    let client = Client::over(way, &daemon.url, Some(daemon.token))?;
    match end_session(given.everywhere, &client, io).await {
        Ok(()) => {}
        // It is over already.
        Err(Failure::Refused(problem)) if problem.status == 401 => {}
        Err(failure) if given.everywhere => return Err(failure),
        Err(failure) => writeln!(
            io.err,
            "the daemon was not told ({failure}): a session stays open until it ends"
        )?,
    }
    daemons.write(io)?;
    writeln!(io.err, "forgot the token for {name}")?;
    Ok(0)
}

/// `pgvalet whoami`.
///
/// # Errors
/// If the daemon is unavailable, or refuses.
pub async fn whoami(globals: &Globals, io: &mut Io<'_>) -> Result<u8, Failure> {
    let client = sign_in(globals, io)?;
    let who = output::watched(io, "asking the daemon", client.whoami()).await?.value;
    if globals.json {
        output::json(io, &who)?;
        return Ok(0);
    }
    let ends = who.token_expires_at.map_or_else(|| "never".to_owned(), instant);
    let claims = who.claims.iter().map(|(name, value)| format!("{name}={value}"));
    let claims: Vec<_> = claims.collect();
    let lines = [
        ("principal", who.principal),
        ("issuer", who.issuer),
        ("groups", who.groups.join(", ")),
        ("claims", claims.join(", ")),
        ("administers", rights(&who.rights)),
        ("certificate", who.certificate.unwrap_or_default()),
        ("token", who.token_id.map_or_else(|| "none".to_owned(), |id| id.to_string())),
        (
            "for",
            who.session
                .map_or_else(String::new, |client| format!("a session ({})", client.as_str())),
        ),
        ("token ends", ends),
        ("daemon", client.url().to_owned()),
    ];
    facts(io, &lines)?;
    Ok(0)
}

fn rights(rights: &[Right]) -> String {
    let words: Vec<_> = rights.iter().map(|right| right.as_str()).collect();
    if words.is_empty() { "nothing".to_owned() } else { words.join(", ") }
}

/// The client's folder, made if need be, for its owner alone.
///
/// # Errors
/// If there is no home, or the folder cannot be made.
pub fn folder(io: &Io<'_>) -> Result<PathBuf, Failure> {
    let folder = folder_path(io)?;
    make_folder(&folder)?;
    Ok(folder)
}

/// Where the client's folder is, or would be.
///
/// # Errors
/// If there is no home.
pub fn folder_path(io: &Io<'_>) -> Result<PathBuf, Failure> {
    io.environment.folder().ok_or_else(|| {
        Failure::Usage(
            "there is no folder for the client's file: set HOME or XDG_CONFIG_HOME".to_owned(),
        )
    })
}

/// Makes a folder for its owner alone.
///
/// # Errors
/// If it cannot be made.
pub fn make_folder(folder: &Path) -> Result<(), Failure> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(Failure::file(format!("make the folder {}", folder.display())))
}

/// Writes a file for its owner alone, whole or not at all.
///
/// # Errors
/// If it cannot be written.
pub fn write_private(path: &Path, text: &str) -> Result<(), Failure> {
    let fault = || Failure::file(format!("write {}", path.display()));
    let folder = path.parent().unwrap_or(Path::new("."));
    // tempfile makes it with mode 0600.
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(fault())?;
    file.write_all(text.as_bytes()).map_err(fault())?;
    file.as_file().sync_all().map_err(fault())?;
    file.persist(path).map(drop).map_err(|e| fault()(e.error))
}

const fn transport(globals: &Globals) -> Transport {
    if globals.insecure_http { Transport::PlainHttp } else { Transport::Protected }
}

fn token_from_file(path: &Path) -> Result<Secret<String>, Failure> {
    let what = path.display().to_string();
    let file = fs::File::open(path).map_err(Failure::file(format!("read {what}")))?;
    read_token(file, &what)
}

fn read_token(from: impl Read, what: &str) -> Result<Secret<String>, Failure> {
    read_secret(from, "token", what)
}

/// Reads one line that nobody else may see: a token, or a `kind` of such a thing.
///
/// # Errors
/// If it cannot be read, or is empty.
pub(in crate::cli) fn read_secret(
    from: impl Read,
    kind: &str,
    what: &str,
) -> Result<Secret<String>, Failure> {
    let mut text = Secret::new(String::new());
    from.take(LONGEST_TOKEN_FILE)
        .read_to_string(text.expose_mut())
        .map_err(Failure::file(format!("read the {kind} from {what}")))?;
    let secret = text.expose().trim();
    if secret.is_empty() {
        return Err(Failure::Usage(format!("{what} holds no {kind}")));
    }
    Ok(Secret::new(secret.to_owned()))
}
