//! What a profile permits, in sentences for a person who decides about it. The file of the profile says the same
//! exactly; here nothing may sound smaller than it is.

use crate::domain::{
    letters::capital,
    profile::{Preset, ProfileSpec},
    rights::grant::{Grant, Kind, Privilege, Selection},
};

/// Names of one kind that are told: who needs more reads the profile.
const MOST_NAMES: usize = 12;

/// Each thing that it permits.
#[must_use]
pub fn permits(spec: &ProfileSpec) -> Vec<String> {
    let mut sentences = Vec::new();
    match &spec.group_role {
        Some(role) if spec.is_group_given() => sentences.push(format!(
            "Whatever the role {role} may do, which pgvalet neither gives nor knows.",
        )),
        _ => sentences.extend(of_preset(spec.preset, &spec.schemas)),
    }
    if !spec.is_group_given() {
        let is_told = |grant: &&Grant| grant.kind() != Some(Kind::Schema) || !only_usage(grant);
        sentences.extend(spec.rights.grants.iter().filter(is_told).filter_map(of_grant));
    }
    for table in &spec.rights.rls {
        let tables = match &table.tables {
            Selection::All(_) => "every table".to_owned(),
            Selection::Named(list) => names(list),
        };
        sentences.push(format!(
            "Of {tables} in schema {} only the rows that row-level security leaves to who asks.",
            table.schema
        ));
    }
    if sentences.is_empty() {
        sentences.push("Nothing but signing in.".to_owned());
    }
    sentences
}

fn of_preset(preset: Preset, schemas: &[String]) -> Option<String> {
    let place = match schemas {
        [] => return None,
        [one] => format!("schema {one}"),
        several => format!("the schemas {}", names(several)),
    };
    match preset {
        Preset::Readonly => {
            Some(format!("Read every table and view in {place}, those to come included."))
        }
        Preset::Readwrite => Some(format!(
            "Read, add, change and delete rows of every table in {place}, those to come included."
        )),
        Preset::Admin => Some(format!(
            "Everything in {place}: rows, and making, altering and dropping what is there."
        )),
        Preset::BreakGlass => Some(format!(
            "For an emergency, everything in {place}: rows, and making, altering and dropping what is there."
        )),
        Preset::Custom => None,
    }
}

fn only_usage(grant: &Grant) -> bool {
    grant.privileges().iter().all(|privilege| *privilege == Privilege::Usage)
}

fn of_grant(grant: &Grant) -> Option<String> {
    let kind = grant.kind()?;
    let verbs: Vec<&str> = grant.privileges().iter().map(|one| verb(*one)).collect();
    let mut sentence = format!("{} {}", capital(&joined(&verbs)), object(grant, kind));
    if let Some(columns) = &grant.columns {
        sentence.push_str(&format!(", of the columns {} alone", names(columns)));
    }
    if let Some(except) = &grant.columns_except {
        sentence.push_str(&format!(", without the columns {}", names(except)));
    }
    sentence.push('.');
    Some(sentence)
}

const fn verb(privilege: Privilege) -> &'static str {
    match privilege {
        Privilege::Select => "read",
        Privilege::Insert => "add to",
        Privilege::Update => "change",
        Privilege::Delete => "delete from",
        Privilege::Truncate => "empty",
        Privilege::References => "refer to",
        Privilege::Trigger => "put triggers on",
        Privilege::Maintain => "vacuum and reindex",
        Privilege::Usage => "use",
        Privilege::Create => "make objects in",
        Privilege::Connect => "sign in to",
        Privilege::Temporary => "make temporary tables in",
        Privilege::Execute => "call",
        Privilege::Set => "set",
        Privilege::AlterSystem => "set for the whole server",
    }
}

fn object(grant: &Grant, kind: Kind) -> String {
    let noun = match kind {
        Kind::Database => return "the database".to_owned(),
        Kind::Schema => {
            return format!("schema {}", grant.schema.as_deref().unwrap_or_default());
        }
        Kind::Table | Kind::Column => ("every table and view", "the tables"),
        Kind::Sequence => ("every sequence", "the sequences"),
        Kind::Function => ("every function", "the functions"),
        Kind::Type => ("every type", "the types"),
        Kind::Language => ("", "the languages"),
        Kind::ForeignServer => ("", "the foreign servers"),
        Kind::ForeignDataWrapper => ("", "the foreign-data wrappers"),
        Kind::Parameter => ("", "the parameters"),
    };
    let place = grant.schema.as_ref().map(|schema| format!(" in schema {schema}"));
    let place = place.unwrap_or_default();
    match grant.selection() {
        Some(Selection::All(_)) => format!("{}{place}, those to come included", noun.0),
        Some(Selection::Named(list)) => format!("{} {}{place}", noun.1, names(list)),
        None => format!("{} {}", noun.1, names(grant.names())),
    }
}

/// `a, b and c`.
fn joined(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

fn names(list: &[String]) -> String {
    let told: Vec<&str> = list.iter().take(MOST_NAMES).map(String::as_str).collect();
    match list.len().saturating_sub(MOST_NAMES) {
        0 => joined(&told),
        more => format!("{} and {more} more", told.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(more: serde_json::Value) -> ProfileSpec {
        let mut all = serde_json::json!({
            "name": "p", "target": "t", "database": "d", "preset": "custom", "ttl": "1h", "max_ttl": "1h",
            "connection_limit": 1,
        });
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(all).unwrap()
    }

    #[test]
    fn presets_say_what_they_are() {
        let of = |preset: &str| {
            permits(&spec(serde_json::json!({ "preset": preset, "schemas": ["public"] })))
        };
        assert_eq!(
            of("readonly"),
            ["Read every table and view in schema public, those to come included."]
        );
        assert!(of("readwrite")[0].starts_with("Read, add, change and delete rows"));
        assert!(of("admin")[0].contains("dropping"));
        assert!(of("break-glass")[0].starts_with("For an emergency"));
    }

    #[test]
    fn grants_policies_and_given_roles_are_told() {
        let grants = serde_json::json!({ "rights": {
            "grant": [
                { "schema": "public", "privileges": ["usage"] },
                { "schema": "public", "tables": ["orders", "items"], "privileges": ["select", "update"] },
                { "schema": "public", "tables": ["customers"], "columns_except": ["email"], "privileges": ["select"] },
                { "schema": "app", "functions": "all" },
                { "database": true, "privileges": ["temporary"] },
            ],
        }});
        assert_eq!(
            permits(&spec(grants)),
            [
                "Read and change the tables orders and items in schema public.",
                "Read the tables customers in schema public, without the columns email.",
                "Call every function in schema app, those to come included.",
                "Make temporary tables in the database.",
            ]
        );
        let given = permits(&spec(serde_json::json!({ "group_role": "legacy" })));
        assert!(given[0].contains("Whatever the role legacy may do"), "{given:?}");
        assert_eq!(permits(&spec(serde_json::json!({}))), ["Nothing but signing in."]);
    }
}
