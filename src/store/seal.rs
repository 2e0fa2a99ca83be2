//! Sealed columns: AES-256-GCM under the master key (NIST SP 800-38D), with table, row and column as
//! associated data, so that a sealed value copied to another place does not open there.
//!
//! `1` (format) + 4 bytes of the key's id + 12 bytes of nonce + ciphertext and tag. Nonces are
//! random: with 96 bits, billions of values may be sealed under one key before two meet, and we seal
//! a handful for each target.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use uuid::Uuid;

use crate::{config::MasterKeys, secret::Secret};

const FORMAT: u8 = 1;
const HEADER: usize = 1 + 4 + NONCE_LEN;

/// Why a value could not be sealed or opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It was sealed under a key that we do not have.
    #[error("sealed under master key {0}, which was not given")]
    MissingKey(String),
    /// The key is there, and the value is not what was sealed, or not here.
    #[error("the sealed value was altered, or belongs elsewhere")]
    Altered,
    /// Not a sealed value.
    #[error("not a sealed value")]
    Format,
    /// The cipher failed.
    #[error("could not seal")]
    Cipher,
}

/// Where a sealed value stands.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// The table.
    pub table: &'static str,
    /// The row.
    pub row: Uuid,
    /// The column.
    pub column: &'static str,
}

impl Place {
    fn associated_data(&self) -> Vec<u8> {
        format!("{}\0{}\0{}", self.table, self.row.simple(), self.column).into_bytes()
    }
}

/// The master keys: the first seals, all open.
pub struct KeyRing {
    keys: Vec<([u8; 4], LessSafeKey)>,
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyRing({} keys)", self.keys.len())
    }
}

impl KeyRing {
    /// Takes the configured keys.
    ///
    /// # Errors
    /// If a key is not 32 bytes, which the configuration has checked.
    pub fn new(master: &MasterKeys) -> Result<Self, Error> {
        let key = |bytes: &[u8]| UnboundKey::new(&AES_256_GCM, bytes).map(LessSafeKey::new);
        let keys = master
            .all()
            .map(|m| key(m.bytes.expose()).map(|key| (m.id, key)).map_err(|_| Error::Cipher))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self { keys })
    }

    /// Seals a value for one place. The nonce must never have been used before.
    ///
    /// # Errors
    /// If the cipher fails.
    pub fn seal(
        &self,
        place: Place,
        nonce: [u8; NONCE_LEN],
        clear: &Secret<String>,
    ) -> Result<Vec<u8>, Error> {
        let (id, key) = self.keys.first().ok_or(Error::Cipher)?;
        let mut sealed = vec![FORMAT];
        sealed.extend_from_slice(id);
        sealed.extend_from_slice(&nonce);
        let mut body = clear.expose().as_bytes().to_vec();
        key.seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(place.associated_data()),
            &mut body,
        )
        .map_err(|_| Error::Cipher)?;
        sealed.extend_from_slice(&body);
        Ok(sealed)
    }

    /// Opens a value where it stands.
    ///
    /// # Errors
    /// If the key is missing, or the value is not the one that was sealed here.
    pub fn open(&self, place: Place, sealed: &[u8]) -> Result<Secret<String>, Error> {
        let (header, body) = sealed.split_at_checked(HEADER).ok_or(Error::Format)?;
        let (format, rest) = header.split_first().ok_or(Error::Format)?;
        let (id, nonce) = rest.split_at_checked(4).ok_or(Error::Format)?;
        if *format != FORMAT {
            return Err(Error::Format);
        }
        let (_, key) =
            self.keys.iter().find(|(known, _)| known.as_slice() == id).ok_or_else(|| {
                Error::MissingKey(id.iter().map(|b| format!("{b:02x}")).collect())
            })?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| Error::Format)?;
        let mut clear = Secret::new(body.to_vec());
        let length = key
            .open_in_place(nonce, Aad::from(place.associated_data()), clear.expose_mut())
            .map_err(|_| Error::Altered)?
            .len();
        let text = clear.expose().get(..length).ok_or(Error::Format)?;
        String::from_utf8(text.to_vec()).map(Secret::new).map_err(|_| Error::Format)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
    const OTHER: &str = "YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXphYmNkZWY=";

    fn ring(text: &str) -> KeyRing {
        KeyRing::new(&MasterKeys::parse(text).unwrap()).unwrap()
    }

    fn place() -> Place {
        Place { table: "target", row: Uuid::from_u128(1), column: "admin_password" }
    }

    #[test]
    fn opens_where_it_was_sealed_and_nowhere_else() {
        let sealed =
            ring(KEY).seal(place(), [7; 12], &Secret::new("open sesame".to_owned())).unwrap();
        assert!(!sealed.windows(4).any(|w| w == b"open"));
        assert_eq!(ring(KEY).open(place(), &sealed).unwrap().expose(), "open sesame");
        for elsewhere in [
            Place { table: "login", ..place() },
            Place { row: Uuid::from_u128(2), ..place() },
            Place { column: "other", ..place() },
        ] {
            assert_eq!(ring(KEY).open(elsewhere, &sealed).unwrap_err(), Error::Altered);
        }
    }

    #[test]
    fn an_altered_value_does_not_open() {
        let mut sealed = ring(KEY).seal(place(), [7; 12], &Secret::new("x".to_owned())).unwrap();
        *sealed.last_mut().unwrap() ^= 1;
        assert_eq!(ring(KEY).open(place(), &sealed).unwrap_err(), Error::Altered);
        assert_eq!(ring(KEY).open(place(), &sealed[..5]).unwrap_err(), Error::Format);
    }

    #[test]
    fn an_old_key_still_opens_and_a_missing_one_is_named() {
        let sealed = ring(KEY).seal(place(), [7; 12], &Secret::new("x".to_owned())).unwrap();
        assert!(ring(&format!("{OTHER}\n{KEY}")).open(place(), &sealed).is_ok());
        assert!(matches!(ring(OTHER).open(place(), &sealed), Err(Error::MissingKey(_))));
    }
}
