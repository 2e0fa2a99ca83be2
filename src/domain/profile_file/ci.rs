//! Reading whose CI jobs are let in: `[issuer.NAME]` and `[ci.NAME]`.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    document::Table,
    domain::{
        ci::{
            self, DEFAULT_MAX_AGE, IssuerKind, IssuerSpec, MOST_MAX_AGE, TokenReview,
            rule::{self, RuleSpec},
            system::Unsaid,
        },
        name::Name,
        profile_file::checked_name,
    },
};

/// The longest age that may be written.
const MOST: Duration = Duration::from_secs(MOST_MAX_AGE.unsigned_abs());

/// `[issuer.NAME]`.
pub(super) fn read_issuers(root: &mut Table) -> Vec<IssuerSpec> {
    let issuers = root.map_of_tables("issuer").into_iter();
    issuers.filter_map(|(name, table)| read_issuer(&name, table)).collect()
}

fn read_issuer(name: &str, mut table: Table) -> Option<IssuerSpec> {
    let name = checked_name(name, &table);
    table.require(&["kind"]);
    let kind = table.one_of("kind", IssuerKind::ALL).and_then(IssuerKind::from_text);
    let usual = kind.and_then(|kind| kind.system().url).map(str::to_owned);
    let needs_url = kind.is_some() && usual.is_none();
    let url = if needs_url { table.required_string("url") } else { table.optional_string("url") };
    let audience = table.optional_string("audience");
    let jwks_url = table.optional_string("jwks_url");
    let authority = table.optional_string("ca");
    let max_age = table.duration_in("max_age", Duration::from_secs(1)..=MOST);
    let max_age = max_age.and_then(|age| i64::try_from(age.as_secs()).ok());
    let token_review = table.table("token_review").and_then(read_token_review);
    let issuer = IssuerSpec {
        name: name?,
        kind: kind?,
        url: url.or(usual)?,
        audience,
        jwks_url,
        ca: authority,
        max_age: max_age.unwrap_or(DEFAULT_MAX_AGE),
        token_review,
    };
    for (key, message) in ci::faults(&issuer) {
        table.fault(key, &message);
    }
    Some(issuer)
}

fn read_token_review(mut table: Table) -> Option<TokenReview> {
    table.require(&["url", "token_file"]);
    let (url, token_file) = (table.optional_string("url"), table.optional_string("token_file"));
    let authority = table.optional_string("ca");
    Some(TokenReview { url: url?, token_file: token_file?, ca: authority })
}

/// `[ci.NAME]`, each under an issuer of the same file: what may be written goes by the issuer's kind.
pub(super) fn read_rules(root: &mut Table, issuers: &[IssuerSpec]) -> Vec<RuleSpec> {
    let rules = root.map_of_tables("ci").into_iter();
    rules.filter_map(|(name, table)| read_rule(&name, table, issuers)).collect()
}

fn read_rule(name: &str, mut table: Table, issuers: &[IssuerSpec]) -> Option<RuleSpec> {
    let name = checked_name(name, &table);
    table.require(&["issuer"]);
    let description = table.optional_string("description").unwrap_or_default();
    let issuer = table.parsed("issuer", "the name of an issuer", str::parse::<Name>);
    let known = issuer.as_ref().and_then(|name| issuers.iter().find(|one| one.name == *name));
    let Some(issuer) = known else {
        if let Some(issuer) = issuer {
            let message = format!(
                "there is no sound [issuer.{issuer}] in this file: write it beside its rules (`pgvalet export` shows those that are recorded)"
            );
            table.fault("issuer", &message);
        }
        table.leave_unread();
        return None;
    };
    let audience = table.optional_string("audience");
    let system = issuer.kind.system();
    for refused in system.refused {
        if table.has(refused.key) {
            table.not_for(refused.key, refused.instead);
        }
    }
    let mut matchers = BTreeMap::new();
    for field in system.fields.iter().filter(|field| !matches!(field.unsaid, Unsaid::Always(_))) {
        if let Some(texts) = table.texts(field.key) {
            matchers.insert(field.key.to_owned(), texts);
        }
    }
    let mut claims = BTreeMap::new();
    if issuer.kind == IssuerKind::Generic {
        claims.extend(table.strings_by_name("claims").unwrap_or_default());
    }
    let rule = RuleSpec {
        name: name?,
        description,
        issuer: issuer.name.clone(),
        audience,
        matchers,
        claims,
    };
    for (key, message) in rule::faults(&rule, issuer) {
        table.fault(&key, &message);
    }
    Some(rule)
}
