//! A rule: what a token must say for its job to be `ci:NAME`. Pure: claims go in, each matcher's outcome comes out.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::domain::{
    ci::{
        IssuerKind, IssuerSpec, JobSeen, audience_fault, github,
        system::{Field, Form, Unsaid, cut, said, shown},
    },
    name::Name,
};

/// What a job must be.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct RuleSpec {
    /// Its name: the job is `ci:NAME`.
    pub name: Name,
    /// What it is for.
    pub description: String,
    /// The issuer whose tokens it is about.
    pub issuer: Name,
    /// For whom its tokens have to be made, if not for whom the issuer says.
    pub audience: Option<String>,
    /// What a token has to say, by the keys of its CI system: one of these.
    pub matchers: BTreeMap<String, Vec<String>>,
    /// Further claims that must be so, to the letter.
    pub claims: BTreeMap<String, String>,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct ClaimOutcome {
    /// The key, as a file writes it.
    pub key: String,
    /// Where the token says it.
    pub claim: String,
    /// What it has to say: one of these.
    pub wanted: Vec<String>,
    /// What it says.
    pub seen: Vec<String>,
    /// Is it so?
    pub holds: bool,
}

impl RuleSpec {
    /// The audience that its tokens must have.
    #[must_use]
    pub fn audience<'a>(&'a self, issuer: &'a IssuerSpec) -> Option<&'a str> {
        self.audience.as_deref().or(issuer.audience.as_deref())
    }

    /// Everything that is looked at, in the order of the system's keys.
    #[must_use]
    pub fn outcomes(&self, issuer: &IssuerSpec, claims: &Map<String, Value>) -> Vec<ClaimOutcome> {
        let audience = self.audience(issuer).map(str::to_owned);
        let aud = said(claims, &["aud"]);
        let audience = ClaimOutcome {
            key: "audience".to_owned(),
            claim: "aud".to_owned(),
            holds: audience.as_ref().is_some_and(|wanted| aud.contains(wanted)),
            wanted: audience.into_iter().collect(),
            seen: shortened(aud),
        };
        let fields = issuer.kind.system().fields.iter();
        let fields = fields.filter_map(|field| self.outcome(field, claims));
        let further = self.claims.iter().map(|(name, wanted)| {
            let seen = said(claims, &[name]);
            ClaimOutcome {
                key: format!("claims.{name}"),
                claim: name.clone(),
                wanted: vec![wanted.clone()],
                holds: seen.contains(wanted),
                seen: shortened(seen),
            }
        });
        std::iter::once(audience).chain(fields).chain(further).collect()
    }

    /// None if the rule does not ask for it.
    fn outcome(&self, field: &Field, claims: &Map<String, Value>) -> Option<ClaimOutcome> {
        let written = self.matchers.get(field.key).filter(|written| !written.is_empty());
        let wanted: Vec<String> = match (field.unsaid, written) {
            (Unsaid::Always(this), _) => vec![this.to_owned()],
            (_, Some(written)) => written.clone(),
            (Unsaid::OneOf(these), None) => these.iter().map(|word| (*word).to_owned()).collect(),
            (Unsaid::Anything, None) => return None,
            // No file makes such a rule; if the record has one, nothing meets it.
            (Unsaid::Refused, None) => Vec::new(),
        };
        let seen = said(claims, field.claim);
        let meets = |wanted: &String| seen.iter().any(|seen| field.form.holds(wanted, seen));
        let holds = wanted.iter().any(meets);
        let (key, claim) = (field.key.to_owned(), shown(field.claim));
        Some(ClaimOutcome { key, claim, wanted, seen: shortened(seen), holds })
    }

    /// Does a token meet all of it?
    #[must_use]
    pub fn holds(&self, issuer: &IssuerSpec, claims: &Map<String, Value>) -> bool {
        self.outcomes(issuer, claims).iter().all(|outcome| outcome.holds)
    }

    /// What the audit keeps of a job that meets it.
    #[must_use]
    pub fn job_seen(&self, issuer: &IssuerSpec, claims: &Map<String, Value>) -> JobSeen {
        let told = issuer.kind.system().told.iter().filter_map(|claim| {
            let said = said(claims, claim);
            let name = claim.last()?;
            Some(((*name).to_owned(), cut(said.first()?)))
        });
        JobSeen {
            rule: self.name.to_string(),
            job: job(issuer, claims),
            subject: said(claims, &["sub"]).first().map(|text| cut(text)).unwrap_or_default(),
            told: told.collect(),
        }
    }
}

/// What tells a job from all others: its issuer, and the ids of its run, or its subject where the token lacks one.
/// As JSON, so that no value can look like two.
#[must_use]
pub fn job(issuer: &IssuerSpec, claims: &Map<String, Value>) -> String {
    let run = issuer.kind.system().run;
    let mut parts: Vec<String> = run.iter().flat_map(|claim| said(claims, claim)).collect();
    if parts.len() < run.len() {
        parts.extend(said(claims, &["sub"]));
    }
    parts.insert(0, issuer.url.clone());
    Value::from(parts).to_string()
}

fn shortened(texts: Vec<String>) -> Vec<String> {
    texts.iter().take(20).map(|text| cut(text)).collect()
}

impl Form {
    /// Is what a token says what is wanted?
    #[must_use]
    pub fn holds(self, wanted: &str, seen: &str) -> bool {
        match self {
            Self::Exact | Self::Number => wanted == seen,
            Self::Uuid => wanted.eq_ignore_ascii_case(seen),
            Self::Ref(_) => {
                let (wanted, seen) = (wanted.split('/'), seen.split('/'));
                wanted.clone().count() == seen.clone().count()
                    && wanted.zip(seen).all(|(wanted, seen)| segment_holds(wanted, seen))
            }
        }
    }

    /// Why this cannot be written, and what to write.
    fn fault(self, text: &str) -> Option<String> {
        let is_ref = matches!(self, Self::Ref(_));
        if text.contains('*') && !is_ref {
            return Some(format!(
                "`{text}` is taken to the letter, and `*` is no letter of it: write all of it"
            ));
        }
        match self {
            Self::Exact => None,
            Self::Number => (text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit())).then(|| {
                format!("`{text}` is not an id, and names are recycled: write the number; `pgvalet ci rule --from-token -` finds it")
            }),
            Self::Uuid => (!is_uuid(text)).then(|| {
                format!("`{text}` is not an id, and names are recycled: write the UUID; `pgvalet ci rule --from-token -` finds it")
            }),
            Self::Ref(front) if !text.starts_with(front) => Some(format!(
                "`{text}` is no whole ref: write \"refs/heads/{text}\" for a branch, or \"refs/tags/{text}\" for a tag"
            )),
            Self::Ref(_) if text.contains("**") => Some(format!(
                "`{text}`: `*` stands for a part of one segment, and never goes across a `/`; write the segments"
            )),
            Self::Ref(_) if text.split('/').all(|segment| segment.trim_matches('*').is_empty()) => {
                Some(format!("`{text}` is every ref: leave it out to say so, or name one"))
            }
            Self::Ref(_) => None,
        }
    }
}

/// `*` stands for any part of a segment; alone it stands for one that is there.
fn segment_holds(wanted: &str, seen: &str) -> bool {
    let mut parts = wanted.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = seen.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    rest.ends_with(last) && !seen.is_empty()
}

fn is_uuid(text: &str) -> bool {
    let lengths = text.split('-').map(str::len);
    lengths.eq([8, 4, 4, 4, 12]) && text.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit())
}

/// What is wrong with a rule: the key, and what to write instead.
#[must_use]
pub fn faults(rule: &RuleSpec, issuer: &IssuerSpec) -> Vec<(String, String)> {
    let mut faults = Vec::new();
    match (&rule.audience, &issuer.audience) {
        (Some(audience), _) => {
            faults.extend(audience_fault(audience, issuer).map(|f| ("audience".to_owned(), f)));
        }
        (None, None) => faults.push((
            "audience".to_owned(),
            format!(
                "tokens for anybody would be taken: write one here or in [issuer.{}] that nobody else has, such as this deployment's own address (\"https://pgvalet.example.org\")",
                issuer.name
            ),
        )),
        (None, Some(_)) => {}
    }
    for field in issuer.kind.system().fields {
        let written = rule.matchers.get(field.key).map(Vec::as_slice).unwrap_or_default();
        if written.is_empty() && matches!(field.unsaid, Unsaid::Refused) {
            let message = format!(
                "it is missing, and without it others' jobs would be taken: write {} = \"…\" (`pgvalet ci rule --from-token -` finds it in a token)",
                field.key
            );
            faults.push((field.key.to_owned(), message));
        }
        faults.extend(
            written.iter().filter_map(|text| Some((field.key.to_owned(), field.form.fault(text)?))),
        );
    }
    faults
}

/// What whoever applies a rule should know of it.
#[must_use]
pub fn notes(rule: &RuleSpec, kind: IssuerKind) -> Vec<String> {
    let mut notes = Vec::new();
    let written = |key: &str| rule.matchers.get(key).map(Vec::as_slice).unwrap_or_default();
    match kind {
        IssuerKind::Github => {
            let strangers: Vec<&String> = written("event")
                .iter()
                .filter(|event| !github::OWN_EVENTS.contains(&event.as_str()))
                .collect();
            for event in strangers {
                notes.push(format!(
                    "`{event}` can be started by people who may not write to the repository: what they send runs with this access"
                ));
            }
            if written("event").iter().any(|event| event.starts_with("pull_request"))
                && written("repository_visibility").is_empty()
            {
                notes.push("of a public repository anybody can fork it and open a pull request: repository_visibility = \"private\" keeps those out".to_owned());
            }
            if written("ref").is_empty() && written("environment").is_empty() {
                notes.push(
                    "every branch and tag of the repository is taken: write `ref` or `environment`"
                        .to_owned(),
                );
            }
            if written("runner_environment").iter().any(|runner| runner == "self-hosted") {
                notes.push(
                    "whoever gets onto a self-hosted runner gets what its jobs get".to_owned(),
                );
            }
        }
        IssuerKind::Gitlab => {
            if written("pipeline_source").iter().any(|source| source.contains("merge_request")) {
                notes.push("a merge request's pipeline runs what its author wrote, before anybody looked at it".to_owned());
            }
            if written("ref_protected").iter().any(|protected| protected != "true") {
                notes.push(
                    "who may push a branch that is not protected gets this access".to_owned(),
                );
            }
        }
        IssuerKind::Buildkite if written("build_branch").is_empty() => {
            notes.push("every branch is taken: write `build_branch`".to_owned());
        }
        IssuerKind::Circleci
            if written("vcs_ref").is_empty() && written("context_ids").is_empty() =>
        {
            notes.push("every branch is taken: write `vcs_ref` or `context_ids`".to_owned());
        }
        IssuerKind::Kubernetes
        | IssuerKind::Generic
        | IssuerKind::Buildkite
        | IssuerKind::Circleci => {}
    }
    notes
}
