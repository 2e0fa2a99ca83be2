//! Signing in: which daemon, with which token, and where the token is kept.
//!
//! A token is kept together with the address that it is for, and is sent nowhere else: `--url` with
//! another address does not hand the kept token to whoever answers there.

use std::{
    fs,
    io::{Read, Write},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use crate::{
    api::people::SignedOut,
    cli::{
        Globals, Io,
        address::Transport,
        call::Call,
        client::Client,
        device::{self, Browser},
        failure::Failure,
        login_arguments::{Login, Logout},
        output::{self, facts, instant, plain},
        password,
    },
    domain::administration::Right,
    secret::Secret,
};

/// What `pgvalet login` keeps.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    url: String,
    token: Secret<String>,
}

/// A token file holds one line; this is many times that.
const LONGEST_TOKEN_FILE: u64 = 4096;

/// A client for the daemon that the flags, the environment or the last login name, in this order.
///
/// # Errors
/// If there is no address or no token, or the kept one can be read by others.
pub fn sign_in(globals: &Globals, io: &Io<'_>) -> Result<Client, Failure> {
    let named = globals.url.clone().or_else(|| io.environment.text("PGVALET_URL"));
    let given = match io.environment.secret("PGVALET_TOKEN") {
        Some(token) => Some(token),
        None => match io.environment.text("PGVALET_TOKEN_FILE") {
            Some(file) => Some(token_from_file(Path::new(&file))?),
            None => None,
        },
    };
    let (url, token) = match (named, given) {
        (Some(url), Some(token)) => (url, token),
        (None, Some(token)) => (read_kept(io)?.map(|kept| kept.url).ok_or_else(no_address)?, token),
        (named, None) => {
            let kept = read_kept(io)?.ok_or_else(|| match &named {
                Some(url) => Failure::NotSignedIn(format!("there is no token for {url}")),
                None => no_address(),
            })?;
            match named {
                Some(url) if !same_address(&url, &kept.url) => {
                    let kept = kept.url;
                    return Err(Failure::NotSignedIn(format!(
                        "the token that is kept is for {kept}, not for {url}"
                    )));
                }
                _ => (kept.url, kept.token),
            }
        }
    };
    let client = Client::over(transport(globals), &url, token)?;
    Ok(client.in_trace(io.environment.trace()))
}

/// `pgvalet login`: checks the token first, so that what is kept worked once.
///
/// # Errors
/// If the daemon does not take the token, or it cannot be kept.
pub async fn login(given: Login, globals: &Globals, io: &mut Io<'_>) -> Result<u8, Failure> {
    let url = globals
        .url
        .clone()
        .or_else(|| io.environment.text("PGVALET_URL"))
        .ok_or_else(|| Failure::Usage("login needs --url: the daemon's address".to_owned()))?;
    let token = match (given.token, given.token_file) {
        (Some(_), _) => read_token(&mut *io.input, "standard input")?,
        (None, Some(file)) => token_from_file(&file)?,
        (None, None) => by_person(&url, given.open, globals, io).await?,
    };
    let client = Client::over(transport(globals), &url, token.duplicate())?;
    let answer = output::watched(io, "checking the token", client.whoami()).await?;
    let path = keep(io, client.url(), &token)?;
    if globals.json {
        output::json(io, &answer.value)?;
    } else {
        let who = plain(&answer.value.principal);
        writeln!(
            io.err,
            "signed in to {} as {who}; the token is in {}",
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
    globals: &Globals,
    io: &mut Io<'_>,
) -> Result<Secret<String>, Failure> {
    let nobody = Client::of_nobody(transport(globals), url)?;
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

/// `pgvalet logout`.
///
/// # Errors
/// If the file is there and cannot be removed.
pub async fn logout(given: Logout, globals: &Globals, io: &mut Io<'_>) -> Result<u8, Failure> {
    let path = kept_path(io)?;
    if let Ok(Some(kept)) = read_kept(io) {
        let client = Client::over(transport(globals), &kept.url, kept.token)?;
        match end_session(given.everywhere, &client, io).await {
            Ok(()) => {}
            // It is over already.
            Err(Failure::Refused(problem)) if problem.status == 401 => {}
            Err(failure) if given.everywhere => return Err(failure),
            Err(failure) => {
                writeln!(
                    io.err,
                    "the daemon was not told ({failure}): a session stays open until it ends"
                )?;
            }
        }
    }
    match fs::remove_file(&path) {
        Ok(()) => writeln!(io.err, "forgot what was kept")?,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            writeln!(io.err, "no token was kept")?
        }
        Err(e) => return Err(Failure::file(format!("remove {}", path.display()))(e)),
    }
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
    let folder = kept_path(io)?.parent().map(Path::to_owned).unwrap_or_default();
    make_folder(&folder)?;
    Ok(folder)
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

fn no_address() -> Failure {
    Failure::NotSignedIn("no daemon is known".to_owned())
}

fn same_address(one: &str, other: &str) -> bool {
    let read = |text: &str| reqwest::Url::parse(text.trim_end_matches('/')).ok();
    read(one).is_some_and(|one| read(other) == Some(one))
}

fn kept_path(io: &Io<'_>) -> Result<PathBuf, Failure> {
    io.environment.folder().map(|folder| folder.join("client.toml")).ok_or_else(|| {
        Failure::Usage(
            "there is no folder for the client's file: set HOME or XDG_CONFIG_HOME".to_owned(),
        )
    })
}

/// Reads the kept token, unless others may read it too: then it is no secret any more.
fn read_kept(io: &Io<'_>) -> Result<Option<Kept>, Failure> {
    let Ok(path) = kept_path(io) else { return Ok(None) };
    let fault = || Failure::file(format!("read {}", path.display()));
    let mut file = match fs::File::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(fault()(e)),
    };
    let mode = file.metadata().map_err(fault())?.permissions().mode();
    if mode & 0o077 != 0 {
        let path = path.display();
        return Err(Failure::NotSignedIn(format!(
            "{path} can be read by others (mode {:04o}): revoke its token and sign in again, or `chmod 600 {path}` if nobody else uses this machine",
            mode & 0o7777
        )));
    }
    let mut text = Secret::new(String::new());
    file.read_to_string(text.expose_mut()).map_err(fault())?;
    // Of toml's fault only that there is one: its message quotes the line, and so the token.
    toml::from_str(text.expose()).map(Some).map_err(|_| {
        Failure::NotSignedIn(format!("{} is not what `pgvalet login` writes", path.display()))
    })
}

fn keep(io: &Io<'_>, url: &str, token: &Secret<String>) -> Result<PathBuf, Failure> {
    let path = folder(io)?.join("client.toml");
    // Both are of letters that a TOML literal may hold: an address is percent-encoded, and a token
    // was checked by the client; a quote is the one exception.
    if url.contains('\'') || token.expose().contains('\'') {
        return Err(Failure::Usage(
            "an address or a token with a quote in it cannot be kept".to_owned(),
        ));
    }
    let text = Secret::new(format!("url = '{url}'\ntoken = '{}'\n", token.expose()));
    write_private(&path, text.expose())?;
    Ok(path)
}

fn token_from_file(path: &Path) -> Result<Secret<String>, Failure> {
    let what = path.display().to_string();
    let file = fs::File::open(path).map_err(Failure::file(format!("read {what}")))?;
    read_token(file, &what)
}

fn read_token(from: impl Read, what: &str) -> Result<Secret<String>, Failure> {
    let mut text = Secret::new(String::new());
    from.take(LONGEST_TOKEN_FILE)
        .read_to_string(text.expose_mut())
        .map_err(Failure::file(format!("read the token from {what}")))?;
    let token = text.expose().trim();
    if token.is_empty() {
        return Err(Failure::Usage(format!("{what} holds no token")));
    }
    Ok(Secret::new(token.to_owned()))
}
