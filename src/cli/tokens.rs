//! API tokens: made, listed, ended.

use crate::{
    api::admin::{CreateToken as CreateBody, Token as Record},
    cli::{
        Globals, Io,
        admin_arguments::{CreateToken, Token, TokenCommand},
        client::Client,
        failure::Failure,
        output::{self, ends_in, instant, plain, watched},
        session,
    },
};

/// Tokens are listed all at once; this bounds a daemon that never stops.
const MOST: usize = 10_000;

/// `pgvalet token`.
///
/// # Errors
/// If the daemon is unavailable, or refuses.
pub async fn token(given: Token, globals: &Globals, io: &mut Io<'_>) -> Result<u8, Failure> {
    let client = session::sign_in(globals, io)?;
    match given.command {
        TokenCommand::Create(given) => create(given, &client, globals, io).await,
        TokenCommand::List => list(&client, globals, io).await,
        TokenCommand::Revoke { id } => {
            watched(io, "revoking", client.revoke_token(id)).await?;
            writeln!(io.err, "token {id} is revoked")?;
            Ok(0)
        }
    }
}

async fn create(
    given: CreateToken,
    client: &Client,
    globals: &Globals,
    io: &mut Io<'_>,
) -> Result<u8, Failure> {
    let wish = CreateBody {
        name: given.name,
        principal: given.principal,
        groups: (!given.groups.is_empty()).then_some(given.groups),
        claims: (!given.claims.is_empty()).then(|| given.claims.into_iter().collect()),
        admin: given.admin.then_some(true),
        acts_for: given.acts_for,
        ttl: given.ttl,
        scopes: (!given.scopes.is_empty()).then_some(given.scopes),
    };
    let answer = watched(io, "making the token", client.create_token(&wish)).await?;
    if globals.json {
        io.out.write_all(answer.body.expose())?;
        writeln!(io.out)?;
        return Ok(0);
    }
    let token = &answer.value.token;
    let (id, who) = (token.id, plain(&token.principal));
    let ends = token
        .expires_at
        .map_or_else(|| "never ends".to_owned(), |at| format!("ends at {}", instant(at)));
    writeln!(io.err, "token {id} for {who}, {ends}; its secret is shown this once:")?;
    writeln!(io.out, "{}", answer.value.secret.expose())?;
    Ok(0)
}

async fn list(client: &Client, globals: &Globals, io: &mut Io<'_>) -> Result<u8, Failure> {
    let items = watched(io, "asking the daemon", client.list("tokens", &[], MOST)).await?;
    if globals.json {
        output::json(io, &serde_json::json!({ "items": items }))?;
        return Ok(0);
    }
    let now = io.clock.now();
    let tokens = output::read_items::<Record>(items)?;
    let rows = tokens.iter().map(|token| {
        let ends = match (token.revoked_at, token.expires_at) {
            (Some(_), _) => "revoked".to_owned(),
            (None, Some(at)) => ends_in(at, now),
            (None, None) => "never".to_owned(),
        };
        vec![
            token.id.to_string(),
            token.name.clone(),
            token.kind.clone(),
            token.principal.clone(),
            if token.admin { "yes" } else { "" }.to_owned(),
            token.groups.join(", "),
            token.last_used_at.map_or_else(|| "never".to_owned(), instant),
            ends,
        ]
    });
    let header = ["id", "name", "kind", "whose", "admin", "groups", "last used", "ends in"];
    let rows = rows.collect();
    output::table(io, &header, rows)?;
    Ok(0)
}
