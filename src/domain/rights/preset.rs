//! What the presets stand for, as grants: so there is one way from a profile to what is granted.

use crate::domain::{
    profile::Preset,
    rights::grant::{All, Grant, Privilege, Selection},
};

/// The grants of a preset on the schemas that a profile names.
#[must_use]
pub fn grants(preset: Preset, schemas: &[String]) -> Vec<Grant> {
    use Privilege as P;
    let (on_schema, on_tables, on_sequences, on_functions): (&[P], &[P], &[P], &[P]) = match preset
    {
        Preset::Custom => return Vec::new(),
        Preset::Readonly => (&[P::Usage], &[P::Select], &[], &[]),
        Preset::Readwrite => (
            &[P::Usage],
            &[P::Select, P::Insert, P::Update, P::Delete],
            &[P::Usage, P::Select],
            &[],
        ),
        Preset::Admin | Preset::BreakGlass => (
            &[P::Usage, P::Create],
            &[P::Select, P::Insert, P::Update, P::Delete, P::Truncate, P::References, P::Trigger],
            &[P::Usage, P::Select, P::Update],
            &[P::Execute],
        ),
    };
    let all = || Some(Selection::All(All::All));
    let mut grants = Vec::new();
    for schema in schemas {
        let on = |privileges: &[P]| Grant {
            schema: Some(schema.clone()),
            privileges: privileges.to_vec(),
            ..Grant::default()
        };
        grants.push(on(on_schema));
        let kinds = [
            Grant { tables: all(), ..on(on_tables) },
            Grant { sequences: all(), ..on(on_sequences) },
            Grant { functions: all(), ..on(on_functions) },
        ];
        grants.extend(kinds.into_iter().filter(|grant| !grant.privileges.is_empty()));
    }
    grants
}

/// What a profile of this preset may be granted at most; none if anything.
#[must_use]
pub const fn most(preset: Preset) -> Option<&'static [Privilege]> {
    use Privilege as P;
    match preset {
        Preset::Readonly => Some(&[P::Select, P::Usage, P::Connect, P::Execute]),
        Preset::Readwrite => Some(&[
            P::Select,
            P::Insert,
            P::Update,
            P::Delete,
            P::Usage,
            P::Connect,
            P::Temporary,
            P::Execute,
        ]),
        Preset::Admin | Preset::BreakGlass | Preset::Custom => None,
    }
}
