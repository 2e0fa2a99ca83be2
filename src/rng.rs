//! Where randomness comes from: the operating system's generator, and nothing else.

use rand::{TryRng, rngs::SysRng};

use crate::secret::Secret;

/// Letters that need no quoting in a URI, a shell, a `.env` file, a `.pgpass` line or a JDBC URL:
/// RFC 3986 unreserved characters without `.` and `~`.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// 40 letters of 6 bits: 240 bits for a leased login's password.
const PASSWORD_LETTERS: usize = 40;

/// 43 letters of 6 bits: 258 bits for an API token's secret part.
const TOKEN_LETTERS: usize = 43;

/// Letters that are told apart when they are read aloud or typed from paper: Crockford's base 32.
const SPOKEN: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// 20 letters of 5 bits: 100 bits for a sealed code, which is hashed slowly, and typed.
const CODE_LETTERS: usize = 20;

/// The operating system did not give randomness.
#[derive(Debug, thiserror::Error)]
#[error("the operating system gave no randomness")]
pub struct NoRandomness(#[source] rand::rngs::SysError);

/// `N` random bytes.
///
/// # Errors
/// If the system's generator fails.
pub fn bytes<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut buffer = [0_u8; N];
    SysRng.try_fill_bytes(&mut buffer).map_err(NoRandomness)?;
    Ok(buffer)
}

/// A password for a leased login, of 240 bits. It begins with a letter, so that no program takes it
/// for an option.
///
/// # Errors
/// If the system's generator fails.
pub fn password() -> Result<Secret<String>, NoRandomness> {
    loop {
        let candidate = text::<PASSWORD_LETTERS>()?;
        if candidate.expose().starts_with(|first: char| first.is_ascii_alphabetic()) {
            return Ok(candidate);
        }
    }
}

/// The secret part of an API token, of 258 bits.
///
/// # Errors
/// If the system's generator fails.
pub fn token_secret() -> Result<Secret<String>, NoRandomness> {
    text::<TOKEN_LETTERS>()
}

/// The secret part of a sealed code, of 100 bits, to be typed by a person.
///
/// # Errors
/// If the system's generator fails.
pub fn code_secret() -> Result<Secret<String>, NoRandomness> {
    let random = Secret::new(bytes::<CODE_LETTERS>()?);
    // 32 letters divide 256 evenly.
    let letter = |byte: &u8| SPOKEN.get(usize::from(byte & 31)).copied().map(char::from);
    Ok(Secret::new(random.expose().iter().filter_map(letter).collect()))
}

fn text<const N: usize>() -> Result<Secret<String>, NoRandomness> {
    let random = Secret::new(bytes::<N>()?);
    // 64 letters divide 256 evenly, so taking six bits of each byte favours none.
    let letter = |byte: &u8| ALPHABET.get(usize::from(byte & 63)).copied().map(char::from);
    Ok(Secret::new(random.expose().iter().filter_map(letter).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_has_at_least_190_bits_and_needs_no_quoting() {
        let password = password().unwrap();
        assert!(password.expose().len() * 6 >= 190);
        assert!(password.expose().bytes().all(|b| ALPHABET.contains(&b)));
    }

    #[test]
    fn two_passwords_differ() {
        assert_ne!(password().unwrap(), password().unwrap());
    }
}
