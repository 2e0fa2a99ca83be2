//! `pgvalet login` without a token: the person signs in at the daemon's identity provider, on this machine or on
//! any other that has a browser, while the command waits here.

use std::time::Duration;

use crate::{
    api::people::{ReceivedDeviceProgress, ReceivedDeviceSignIn},
    cli::{
        Io,
        call::Call,
        client::Client,
        failure::Failure,
        output::{instant, plain},
    },
    secret::Secret,
};

/// Whether a browser is opened for the person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Browser {
    /// The person does that.
    LeftAlone,
    /// Here, if there is a program for it.
    Opened,
}

/// Lets a person sign in; gives the session's token. None if this daemon has no identity provider.
///
/// # Errors
/// If the person says no, or takes too long.
pub async fn sign_in(
    client: &Client,
    browser: Browser,
    io: &mut Io<'_>,
) -> Result<Option<Secret<String>>, Failure> {
    let begin = Call::post(&["v1", "sign-in", "device"], &serde_json::json!({}))?;
    let begun = match client.read::<ReceivedDeviceSignIn>(begin).await {
        Ok(answer) => answer.value,
        // A daemon without a provider says so; an older one knows of no such route.
        Err(Failure::Refused(problem))
            if problem.code == "no_provider" || problem.status == 404 =>
        {
            return Ok(None);
        }
        Err(failure) => return Err(failure),
    };
    say_where(&begun, browser, io)?;
    let mut wait = begun.interval_seconds;
    loop {
        tokio::time::sleep(Duration::from_secs(wait.clamp(1, 120).unsigned_abs())).await;
        let answer = match poll(client, &begun.secret).await {
            // The way to the daemon breaks now and then; the sign-in waits there.
            Err(failure) if failure.is_passing() && io.clock.now() < begun.ends_at => continue,
            answer => answer?,
        };
        match (answer.secret, answer.interval_seconds) {
            (Some(secret), _) => return Ok(Some(secret)),
            (None, Some(seconds)) => wait = seconds,
            (None, None) => {
                return Err(Failure::NotSignedIn("the daemon's answer has no session".to_owned()));
            }
        }
    }
}

async fn poll(client: &Client, secret: &Secret<String>) -> Result<ReceivedDeviceProgress, Failure> {
    #[derive(serde::Serialize)]
    struct Sent<'a> {
        secret: &'a str,
    }
    let call = Call::post(&["v1", "sign-in", "device", "poll"], &Sent { secret: secret.expose() })?;
    Ok(client.read(call).await?.value)
}

fn say_where(
    begun: &ReceivedDeviceSignIn,
    browser: Browser,
    io: &mut Io<'_>,
) -> Result<(), Failure> {
    let (address, code) = (plain(&begun.address), plain(&begun.user_code));
    writeln!(io.err, "To sign in, open in a browser, here or on another machine:\n")?;
    writeln!(io.err, "  {address}\n\nand enter the code\n\n  {code}\n")?;
    let whole = begun.address_with_code.as_deref();
    if let Some(whole) = whole {
        writeln!(io.err, "or open {}\n", plain(whole))?;
    }
    let until = instant(begun.ends_at);
    if browser == Browser::Opened && !open(whole.unwrap_or(&begun.address)) {
        writeln!(io.err, "(no browser could be opened here)")?;
    }
    writeln!(io.err, "Waiting until {until}; Ctrl-C gives up.")?;
    Ok(io.err.flush()?)
}

/// Opens a browser, if the address is one that a browser may be sent to.
fn open(address: &str) -> bool {
    let is_page =
        reqwest::Url::parse(address).is_ok_and(|url| ["https", "http"].contains(&url.scheme()));
    let opener = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let nothing = std::process::Stdio::null;
    is_page
        && std::process::Command::new(opener)
            .arg(address)
            .stdin(nothing())
            .stdout(nothing())
            .stderr(nothing())
            .spawn()
            .is_ok()
}
