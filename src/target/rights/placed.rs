//! The grants of a profile, each with its place in the file.

use crate::{
    domain::{
        profile::ProfileSpec,
        rights::grant::{Grant, Kind},
    },
    target::rights::object::Privileges,
};

/// A grant, and where it stands in the profile.
pub(crate) struct Placed<'a> {
    pub(crate) grant: &'a Grant,
    pub(crate) kind: Kind,
    /// Its number among the profile's own; none if it is the preset's.
    number: Option<usize>,
}

impl Placed<'_> {
    /// The path of one of its keys.
    pub(crate) fn at(&self, key: &str) -> String {
        match self.number {
            Some(number) => format!("grant[{number}].{key}"),
            None => "schemas".to_owned(),
        }
    }

    /// As it is called in the fault of another.
    pub(crate) fn title(&self) -> String {
        self.number.map_or_else(|| "the preset".to_owned(), |number| format!("grant[{number}]"))
    }

    pub(crate) fn privileges(&self) -> Privileges {
        self.grant.privileges().into_iter().collect()
    }
}

/// The grants of a profile: its preset's, then its own.
pub(crate) struct Grants {
    all: Vec<Grant>,
    of_preset: usize,
}

impl Grants {
    pub(crate) fn of(spec: &ProfileSpec) -> Self {
        let all = spec.grants();
        let of_preset = all.len().saturating_sub(spec.rights.grants.len());
        Self { all, of_preset }
    }

    /// Grants of a profile without a preset.
    #[cfg(test)]
    pub(crate) const fn own(all: Vec<Grant>) -> Self {
        Self { all, of_preset: 0 }
    }

    pub(crate) fn as_slice(&self) -> &[Grant] {
        &self.all
    }

    pub(crate) fn placed(&self) -> impl Iterator<Item = Placed<'_>> {
        self.all.iter().enumerate().filter_map(|(place, grant)| {
            Some(Placed { grant, kind: grant.kind()?, number: place.checked_sub(self.of_preset) })
        })
    }
}

/// The key that names the things of a kind.
pub(crate) const fn key_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Column => Kind::Table.key(),
        other => other.key(),
    }
}
