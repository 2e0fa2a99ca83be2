//! `pgvalet ci`: rules for CI jobs, listed, removed, written from a token, and explained for one.

use std::io::{BufRead, Read};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use crate::{
    api::ci::CiRules,
    cli::{
        Globals, Io,
        call::Call,
        ci_arguments::{Ci, CiCommand, FromToken, RemoveRule},
        failure::Failure,
        output::{self, plain, watched},
        session,
    },
    domain::ci::{
        explanation::{RuleExplained, TokenExplanation},
        propose::propose,
        rule::RuleSpec,
    },
    secret::Secret,
};

/// Longer than any token.
const LONGEST_TOKEN: u64 = 64 * 1024;

/// `pgvalet ci`.
///
/// # Errors
/// If the daemon is unavailable or refuses, or the token cannot be read.
pub async fn ci(given: Ci, globals: &Globals, io: &mut Io<'_>) -> Result<u8, Failure> {
    match given.command {
        CiCommand::Explain(_) => explain(globals, io).await,
        CiCommand::Rule(given) => rule(&given, io),
        CiCommand::Rules => rules(globals, io).await,
        CiCommand::Remove(given) => remove(given, globals, io).await,
    }
}

async fn explain(globals: &Globals, io: &mut Io<'_>) -> Result<u8, Failure> {
    let client = session::sign_in(globals, io)?;
    let token = read_token(&mut *io.input)?;
    let call =
        Call::post(&["v1", "ci", "explain"], &serde_json::json!({ "token": token.expose() }))?;
    let asked = client.read::<TokenExplanation>(call.repeatable());
    let explained = watched(io, "asking the daemon", asked).await?.value;
    if globals.json {
        output::json(io, &explained)?;
    } else {
        show(&explained, io)?;
    }
    Ok(u8::from(explained.principal.is_none()))
}

fn show(explained: &TokenExplanation, io: &mut Io<'_>) -> Result<(), Failure> {
    writeln!(io.out, "{}", plain(&explained.verdict))?;
    for fault in &explained.faults {
        writeln!(io.out, "the token: {}", plain(fault))?;
    }
    for RuleExplained { rule, holds, outcomes } in &explained.rules {
        let met = if *holds { "is met" } else { "is not met" };
        writeln!(io.out, "\nci.{rule} {met}")?;
        let rows = outcomes.iter().map(|outcome| {
            let met = if outcome.holds { "yes" } else { "NO" };
            let seen = if outcome.seen.is_empty() {
                "nothing".to_owned()
            } else {
                outcome.seen.join(", ")
            };
            vec![met.to_owned(), outcome.key.clone(), outcome.wanted.join(" or "), seen]
        });
        let rows = rows.collect();
        output::table(io, &["MET", "KEY", "WANTED", "THE TOKEN SAYS"], rows)?;
    }
    Ok(())
}

/// Offline: what a token says is read and not believed.
fn rule(given: &FromToken, io: &mut Io<'_>) -> Result<u8, Failure> {
    let token = read_token(&mut *io.input)?;
    let claims = claims(token.expose()).ok_or_else(|| {
        Failure::Usage(
            "standard input holds no token: three parts with dots between them".to_owned(),
        )
    })?;
    write!(io.out, "{}", propose(&claims, given.name.as_str()))?;
    writeln!(
        io.err,
        "the token's signature was not checked: look at what it says, then `pgvalet plan -f`; a profile lets its jobs ask with allow = [\"ci:{}\"]",
        given.name
    )?;
    Ok(0)
}

async fn rules(globals: &Globals, io: &mut Io<'_>) -> Result<u8, Failure> {
    let client = session::sign_in(globals, io)?;
    let asked = client.read::<CiRules>(Call::get(&["v1", "ci", "rules"]));
    let found = watched(io, "asking the daemon", asked).await?.value;
    if globals.json {
        output::json(io, &found)?;
        return Ok(0);
    }
    let issuers = found.issuers.iter().map(|issuer| {
        let audience = issuer.audience.clone().unwrap_or_default();
        vec![issuer.name.to_string(), issuer.kind.as_str().to_owned(), issuer.url.clone(), audience]
    });
    let issuers = issuers.collect();
    output::table(io, &["issuer", "kind", "url", "audience"], issuers)?;
    let rows = found.rules.iter().map(|rule| {
        vec![
            format!("ci:{}", rule.name),
            rule.issuer.to_string(),
            wanted(rule),
            rule.description.clone(),
        ]
    });
    let rows = rows.collect();
    output::table(io, &["rule", "issuer", "wants", "description"], rows)?;
    Ok(0)
}

fn wanted(rule: &RuleSpec) -> String {
    let written = rule.matchers.iter().map(|(key, texts)| format!("{key}={}", texts.join("|")));
    let claims = rule.claims.iter().map(|(name, text)| format!("{name}={text}"));
    written.chain(claims).collect::<Vec<_>>().join(" ")
}

async fn remove(given: RemoveRule, globals: &Globals, io: &mut Io<'_>) -> Result<u8, Failure> {
    let client = session::sign_in(globals, io)?;
    let (kind, name) = match (&given.rule, &given.issuer) {
        (Some(rule), _) => ("rules", rule),
        (None, Some(issuer)) => ("issuers", issuer),
        (None, None) => return Err(Failure::Usage("say which rule, or which --issuer".to_owned())),
    };
    client.delete(&["v1", "ci", kind, name.as_str()]).await?;
    writeln!(io.err, "removed {name}")?;
    Ok(0)
}

fn read_token(from: &mut dyn BufRead) -> Result<Secret<String>, Failure> {
    let mut text = Secret::new(String::new());
    from.take(LONGEST_TOKEN)
        .read_to_string(text.expose_mut())
        .map_err(Failure::file("read the token from standard input"))?;
    Ok(Secret::new(text.expose().trim().to_owned()))
}

fn claims(token: &str) -> Option<Map<String, Value>> {
    let mut parts = token.split('.');
    let (Some(_), Some(payload), Some(_), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}
