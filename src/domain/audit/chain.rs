//! The hash chain over the audit's entries, and what a checkpoint signs of it.

use std::fmt;

use aws_lc_rs::digest;

/// A hash of the chain: SHA-256.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Hash([u8; 32]);

impl Hash {
    /// What the first entry is chained to.
    pub const START: Self = Self([0; 32]);

    /// Takes 32 bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for Hash {
    type Err = NotAHash;

    fn from_str(text: &str) -> Result<Self, NotAHash> {
        let digit =
            |at: usize| text.get(at..at + 2).and_then(|two| u8::from_str_radix(two, 16).ok());
        let bytes: Option<Vec<u8>> = (0..32).map(|n| digit(2 * n)).collect();
        bytes.filter(|_| text.len() == 64).and_then(|b| Self::from_bytes(&b)).ok_or(NotAHash)
    }
}

/// A text that is not 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a hash: 64 hexadecimal digits are needed")]
pub struct NotAHash;

/// The hash of an entry at a position, chained to the one before. The position is part of it, so
/// that two entries cannot change places.
#[must_use]
pub fn chain(position: i64, previous: Hash, body: &str) -> Hash {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(b"pgvalet audit 1\n");
    context.update(&position.to_be_bytes());
    context.update(&previous.0);
    context.update(body.as_bytes());
    Hash::from_bytes(context.finish().as_ref()).unwrap_or(Hash::START)
}

/// What a checkpoint signs.
#[must_use]
pub fn checkpoint_bytes(position: i64, head: Hash) -> Vec<u8> {
    format!("pgvalet audit checkpoint 1\n{position}\n{head}\n").into_bytes()
}

/// One sealed entry, as read back or as exported.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Sealed {
    /// Its place in the chain, from 1.
    pub position: i64,
    /// Its hash as recorded.
    #[serde(with = "hex")]
    pub hash: Hash,
    /// Its canonical bytes.
    pub body: String,
}

/// A hash in JSON: hexadecimal text.
mod hex {
    use serde::Deserialize;

    use crate::domain::audit::chain::Hash;

    pub(super) fn serialize<S: serde::Serializer>(hash: &Hash, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(hash)
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Hash, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What is wrong with a chain, at its first bad entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// The entry's bytes or place are not those that were sealed.
    #[error("entry {position} was altered: its hash should be {expected}, and is {found}")]
    Altered {
        /// Where.
        position: i64,
        /// What the entry's bytes hash to.
        expected: Hash,
        /// What is recorded.
        found: Hash,
    },
    /// An entry is missing.
    #[error("entry {position} is missing")]
    Missing {
        /// Where.
        position: i64,
    },
}

/// Walks a chain, a page at a time.
#[derive(Debug, Clone, Copy)]
pub struct Walk {
    /// The last position that was good.
    pub position: i64,
    /// Its hash.
    pub head: Hash,
}

impl Walk {
    /// Before the first entry.
    pub const START: Self = Self { position: 0, head: Hash::START };

    /// Checks the next entry.
    ///
    /// # Errors
    /// If it is not the next one, or was altered.
    pub fn step(&mut self, entry: &Sealed) -> Result<(), Broken> {
        let position = self.position + 1;
        if entry.position != position {
            return Err(Broken::Missing { position });
        }
        let expected = chain(position, self.head, &entry.body);
        if expected != entry.hash {
            return Err(Broken::Altered { position, expected, found: entry.hash });
        }
        *self = Self { position, head: expected };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(bodies: &[&str]) -> Vec<Sealed> {
        let mut walk = Walk::START;
        let mut seal = |body: &&str| {
            let position = walk.position + 1;
            let hash = chain(position, walk.head, body);
            walk = Walk { position, head: hash };
            Sealed { position, hash, body: (*body).to_owned() }
        };
        bodies.iter().map(&mut seal).collect()
    }

    fn verify(entries: &[Sealed]) -> Result<(), Broken> {
        let mut walk = Walk::START;
        entries.iter().try_for_each(|entry| walk.step(entry))
    }

    #[test]
    fn a_whole_chain_passes() {
        assert_eq!(verify(&sealed(&["a", "b", "c"])), Ok(()));
    }

    #[test]
    fn the_first_bad_entry_is_named() {
        let mut altered = sealed(&["a", "b", "c"]);
        altered[1].body = "B".to_owned();
        assert!(matches!(verify(&altered), Err(Broken::Altered { position: 2, .. })));

        let mut cut = sealed(&["a", "b", "c"]);
        cut.remove(1);
        assert!(matches!(verify(&cut), Err(Broken::Missing { position: 2 })));

        let mut swapped = sealed(&["a", "b", "c"]);
        let (first, second) = (swapped[0].body.clone(), swapped[1].body.clone());
        swapped[0].body = second;
        swapped[1].body = first;
        assert!(matches!(verify(&swapped), Err(Broken::Altered { position: 1, .. })));
    }

    #[test]
    fn a_hash_reads_back_from_its_text() {
        let hash = chain(1, Hash::START, "a");
        assert_eq!(hash.to_string().parse(), Ok(hash));
        assert!("xyz".parse::<Hash>().is_err());
    }
}
