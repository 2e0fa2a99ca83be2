//! A first rule from a token: the ids that it holds, with the names beside them.

use serde_json::{Map, Value};

use crate::domain::ci::{
    IssuerKind,
    system::{Field, Form, Unsaid, cut, said},
};

/// Keys that narrow a rule to what the token is about, where the token says them.
const NARROWING: [&str; 10] = [
    "ref",
    "environment",
    "event",
    "runner_environment",
    "pipeline_source",
    "ref_type",
    "ref_protected",
    "vcs_ref",
    "build_branch",
    "serviceaccount",
];

/// Claims that say what an id is called.
const NAMES: [(&str, &str); 9] = [
    ("repository_id", "repository"),
    ("repository_owner_id", "repository_owner"),
    ("actor_id", "actor"),
    ("project_id", "project_path"),
    ("namespace_id", "namespace_path"),
    ("user_id", "user_login"),
    ("organization_id", "organization_slug"),
    ("pipeline_id", "pipeline_slug"),
    ("context_ids", "oidc.circleci.com/context-names"),
];

/// Whose token it is, by what it says.
#[must_use]
pub fn kind_of(claims: &Map<String, Value>) -> IssuerKind {
    let has = |name: &str| claims.contains_key(name);
    if has("repository_id") && has("repository_owner_id") {
        IssuerKind::Github
    } else if has("project_path") && has("namespace_path") {
        IssuerKind::Gitlab
    } else if has("kubernetes.io") {
        IssuerKind::Kubernetes
    } else if has("pipeline_slug") && has("organization_slug") {
        IssuerKind::Buildkite
    } else if has("oidc.circleci.com/project-id") {
        IssuerKind::Circleci
    } else {
        IssuerKind::Generic
    }
}

/// Writes the rule, and its issuer for whom there is none yet.
#[must_use]
pub fn propose(claims: &Map<String, Value>, name: &str) -> String {
    let kind = kind_of(claims);
    let system = kind.system();
    let text = |claim: &[&str]| said(claims, claim).first().map(|text| cut(text));
    let issuer = text(&["iss"]).unwrap_or_default();
    let mut out =
        vec![format!("[issuer.{}]", kind.as_str()), format!("kind = {}", quoted(kind.as_str()))];
    if system.url != Some(issuer.as_str()) {
        out.push(format!("url = {}", quoted(&issuer)));
    }
    let audience = text(&["aud"]).unwrap_or_default();
    out.push(format!(
        "audience = {}    # as this token has it; nobody else may have it",
        quoted(&audience)
    ));
    out.push(format!("\n[ci.{name}]"));
    out.push(format!("issuer = {}", quoted(kind.as_str())));
    for field in system.fields {
        out.extend(line(field, claims));
    }
    out.push(String::new());
    out.join("\n")
}

fn line(field: &Field, claims: &Map<String, Value>) -> Option<String> {
    let differs = |these: &[&str], seen: &str| !these.contains(&seen);
    let seen = said(claims, field.claim);
    let first = cut(seen.first()?);
    let is_telling = match field.unsaid {
        Unsaid::Refused => true,
        Unsaid::OneOf(these) => differs(these, &first),
        Unsaid::Anything => NARROWING.contains(&field.key),
        Unsaid::Always(_) => false,
    };
    if !is_telling {
        return None;
    }
    let name = NAMES.iter().find(|(key, _)| *key == field.key);
    let name = name.and_then(|(_, claim)| said(claims, &[claim]).first().map(|text| cut(text)));
    let name = name.map(|name| format!("    # {name}")).unwrap_or_default();
    let is_number = field.form == Form::Number && first.bytes().all(|b| b.is_ascii_digit());
    let value = if is_number { first } else { quoted(&first) };
    Some(format!("{} = {value}{name}", field.key))
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
