//! What row-level security sees of a lease: claims, made from templates when it is issued.
//!
//! They are kept on the target in a table that no session can write, and looked up there by
//! `session_user`, which no session can change. What a template names and the caller does not have is a
//! reason to issue nothing: an empty claim might mean "all" to somebody's policy.

use std::{collections::BTreeMap, fmt, str::FromStr};

use crate::domain::{
    principal::Principal,
    profile::{Profile, ProfileSpec},
};

/// A text with places to fill in: `{claim.tenant_id}`, `{principal.subject}`, `{lease.tool}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Template {
    text: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Part {
    Text(String),
    Claim(String),
    Subject,
    Issuer,
    Kind,
    Groups,
    LeaseId,
    Profile,
    Tool,
    Context,
}

/// What a template may name.
const NAMES: [&str; 8] = [
    "principal.subject",
    "principal.issuer",
    "principal.kind",
    "principal.groups",
    "lease.id",
    "lease.profile",
    "lease.tool",
    "context",
];

/// A text that is no template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotATemplate {
    /// A place that nothing is known for.
    #[error("`{{{0}}}` is not known; write {{claim.NAME}}, {{{names}}}{1}", names = NAMES.join("}, {"))]
    Unknown(String, String),
    /// A brace without its other half.
    #[error("`{0}` has a brace without its other half; write `{{{{` for the letter `{{`")]
    Unbalanced(String),
    /// It is too long.
    #[error("a template has at most 1000 bytes in one line")]
    TooLong,
}

/// What the places are filled with.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Who asks, and what is claimed of them.
    pub principal: &'a Principal,
    /// Claims in place of the profile's templates and of the principal's own, for a check.
    pub given: &'a BTreeMap<String, String>,
    /// The lease's id.
    pub lease_id: &'a str,
    /// The profile's name.
    pub profile: &'a str,
    /// The tool's name.
    pub tool: &'a str,
}

/// A claim that a template needs and the caller does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingClaim(pub String);

/// What a lease gets: what policies see of it, and the settings that its sessions begin with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filled {
    /// By name: `pgvalet.claim(name)`. Empty if the profile has no context.
    pub context: BTreeMap<String, String>,
    /// By name.
    pub settings: BTreeMap<String, String>,
}

/// Claims that every context has, so that no profile can say something else.
pub const RESERVED: [&str; 4] = ["lease_id", "principal", "profile", "tool"];

/// Fills in what a profile says for one lease. `user_id` is the subject if the profile does not say.
///
/// # Errors
/// The claim that the caller does not have.
pub fn fill(profile: &Profile, facts: &Facts<'_>) -> Result<Filled, MissingClaim> {
    let spec = &profile.spec;
    let mut context = BTreeMap::new();
    if !spec.rights.context.is_empty() {
        context.insert("user_id".to_owned(), facts.principal.subject.to_string());
        for (name, template) in &spec.rights.context {
            let value = match facts.given.get(name) {
                Some(value) => value.clone(),
                None => template.fill(facts, &BTreeMap::new())?,
            };
            context.insert(name.clone(), value);
        }
        let own = [facts.lease_id, &facts.principal.to_string(), facts.profile, facts.tool];
        context.extend(RESERVED.map(str::to_owned).into_iter().zip(own.map(str::to_owned)));
    }
    // What the server's log is to hold of it, where our admin may say so.
    let log = spec.rights.log.iter().filter(|(name, _)| profile.settable.contains(name));
    let mut settings: BTreeMap<_, _> =
        log.map(|(name, value)| (name.clone(), value.clone())).collect();
    for (name, value) in &spec.settings {
        settings.insert(name.clone(), value.fill(facts, &context)?);
    }
    Ok(Filled { context, settings })
}

/// Does a profile name claims at all?
#[must_use]
pub fn is_filled_with_claims(spec: &ProfileSpec) -> bool {
    let mut templates = spec.rights.context.values().chain(spec.settings.values());
    templates.any(|template| template.claims().next().is_some())
}

/// The first claim that a profile needs and this principal does not have.
#[must_use]
pub fn missing(spec: &ProfileSpec, principal: &Principal) -> Option<MissingClaim> {
    let templates = spec.rights.context.values().chain(spec.settings.values());
    let mut claims = templates.flat_map(Template::claims);
    let missing = claims.find(|claim| !principal.claims.contains_key(*claim))?;
    Some(MissingClaim(missing.to_owned()))
}

/// May a claim be called this? It is a key of the context, and stands in SQL as a text.
#[must_use]
pub fn is_claim_name(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

impl FromStr for Template {
    type Err = NotATemplate;

    fn from_str(text: &str) -> Result<Self, NotATemplate> {
        if text.len() > 1000 || text.contains(['\0', '\n', '\r']) {
            return Err(NotATemplate::TooLong);
        }
        let unbalanced = || NotATemplate::Unbalanced(text.chars().take(64).collect());
        let (mut parts, mut literal, mut rest) = (Vec::new(), String::new(), text);
        while let Some(at) = rest.find(['{', '}']) {
            literal.push_str(&rest[..at]);
            let found = &rest[at..];
            if let Some(after) = found.strip_prefix("{{").or_else(|| found.strip_prefix("}}")) {
                literal.push_str(&found[..1]);
                rest = after;
                continue;
            }
            let inside = found.strip_prefix('{').ok_or_else(unbalanced)?;
            let (name, after) = inside.split_once('}').ok_or_else(unbalanced)?;
            if !literal.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut literal)));
            }
            parts.push(part(name)?);
            rest = after;
        }
        literal.push_str(rest);
        if !literal.is_empty() || parts.is_empty() {
            parts.push(Part::Text(literal));
        }
        Ok(Self { text: text.to_owned(), parts })
    }
}

fn part(name: &str) -> Result<Part, NotATemplate> {
    Ok(match name {
        "principal.subject" => Part::Subject,
        "principal.issuer" => Part::Issuer,
        "principal.kind" => Part::Kind,
        "principal.groups" => Part::Groups,
        "lease.id" => Part::LeaseId,
        "lease.profile" => Part::Profile,
        "lease.tool" => Part::Tool,
        "context" => Part::Context,
        _ => match name.strip_prefix("claim.").filter(|claim| is_claim_name(claim)) {
            Some(claim) => Part::Claim(claim.to_owned()),
            None => {
                let shown: String = name.chars().take(64).collect();
                let hint = crate::document::did_you_mean(&shown, NAMES);
                return Err(NotATemplate::Unknown(shown, hint));
            }
        },
    })
}

impl Template {
    /// Fills the places in. `context` is what `{context}` stands for, as JSON: the claims of the lease,
    /// for settings that existing policies read.
    ///
    /// # Errors
    /// The claim that the caller does not have.
    pub fn fill(
        &self,
        facts: &Facts<'_>,
        context: &BTreeMap<String, String>,
    ) -> Result<String, MissingClaim> {
        let mut filled = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => filled.push_str(text),
                Part::Claim(name) => {
                    let value = facts.given.get(name).or_else(|| facts.principal.claims.get(name));
                    filled.push_str(value.ok_or_else(|| MissingClaim(name.clone()))?);
                }
                Part::Subject => filled.push_str(facts.principal.subject.as_str()),
                Part::Issuer => filled.push_str(&facts.principal.issuer),
                Part::Kind => filled.push_str(facts.principal.kind.as_str()),
                Part::Groups => {
                    let groups: Vec<_> =
                        facts.principal.groups.iter().map(|name| name.as_str()).collect();
                    filled.push_str(&groups.join(","));
                }
                Part::LeaseId => filled.push_str(facts.lease_id),
                Part::Profile => filled.push_str(facts.profile),
                Part::Tool => filled.push_str(facts.tool),
                Part::Context => {
                    filled.push_str(&serde_json::to_string(context).unwrap_or_default())
                }
            }
        }
        Ok(filled)
    }

    /// The claims of the caller that it needs.
    fn claims(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Claim(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// Is it the same for everybody?
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Text(_)))
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Does it name the whole context? A claim may not: it is part of it.
    #[must_use]
    pub fn names_context(&self) -> bool {
        self.parts.contains(&Part::Context)
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl serde::Serialize for Template {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> serde::Deserialize<'de> for Template {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::principal::{Kind, LOCAL_ISSUER},
        ids::PrincipalId,
    };

    fn filled(template: &str) -> Result<String, MissingClaim> {
        let principal = Principal {
            id: PrincipalId::new(),
            issuer: LOCAL_ISSUER.to_owned(),
            subject: "alice".parse().unwrap(),
            kind: Kind::Person,
            groups: vec!["dba".parse().unwrap(), "ops".parse().unwrap()],
            admin: false,
            claims: [("tenant_id".to_owned(), "7".to_owned())].into(),
            acts_for: None,
        };
        let facts = Facts {
            principal: &principal,
            given: &BTreeMap::new(),
            lease_id: "lse_1",
            profile: "shop-read",
            tool: "psql",
        };
        let context = [("tenant_id".to_owned(), "7\"".to_owned())].into();
        template.parse::<Template>().unwrap().fill(&facts, &context)
    }

    #[test]
    fn places_are_filled_and_what_is_missing_is_named() {
        for (template, text) in [
            ("1", "1"),
            ("", ""),
            ("{claim.tenant_id}", "7"),
            ("t-{claim.tenant_id}-{principal.subject}", "t-7-alice"),
            ("{principal.kind}:{principal.groups}", "person:dba,ops"),
            ("{lease.tool} {lease.profile} {lease.id}", "psql shop-read lse_1"),
            ("{{x}}", "{x}"),
            ("{context}", r#"{"tenant_id":"7\""}"#),
        ] {
            assert_eq!(filled(template).unwrap(), text, "{template}");
        }
        assert_eq!(filled("{claim.role}"), Err(MissingClaim("role".to_owned())));
    }

    #[test]
    fn what_is_no_template_says_what_to_write() {
        for (text, says) in [
            ("{claim.}", "is not known"),
            ("{principal.subjet}", "did you mean `principal.subject`"),
            ("{claim.Tenant}", "is not known"),
            ("a}", "other half"),
            ("{claim.x", "other half"),
            ("a\nb", "one line"),
        ] {
            let error = text.parse::<Template>().unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
