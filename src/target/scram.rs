//! The SCRAM-SHA-256 verifier of a password: what PostgreSQL keeps instead of it.
//!
//! Made here, so that the password itself never travels to a target, whose log and statistics keep
//! statements as they came. RFC 5802 names the steps, RFC 7677 the hash; the text form is
//! PostgreSQL's (`SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`).
//!
//! RFC 5802 prepares a password with SASLprep first. Ours are ASCII letters and digits, which
//! SASLprep leaves as they are, so that step is left out.

use std::{fmt, num::NonZeroU32};

use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::{Engine, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use crate::{domain::target::DEFAULT_SCRAM_ITERATIONS, secret::Secret};

/// For passwords that do not belong to a target's logins.
pub const DEFAULT_ITERATIONS: NonZeroU32 = DEFAULT_SCRAM_ITERATIONS;

/// A verifier. Only [`verifier`] makes one, because PostgreSQL takes a malformed text for a plain
/// password and lets everyone in who knows that text.
pub struct Verifier(Secret<String>);

impl Verifier {
    /// The text, for the statement that sets it.
    #[must_use]
    pub fn text(&self) -> &str {
        self.0.expose()
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier(…)")
    }
}

/// Computes the verifier of a password.
#[must_use]
pub fn verifier(password: &Secret<String>, salt: [u8; 16], iterations: NonZeroU32) -> Verifier {
    let mut salted = Zeroizing::new([0_u8; digest::SHA256_OUTPUT_LEN]);
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA256,
        iterations,
        &salt,
        password.expose().as_bytes(),
        salted.as_mut(),
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, salted.as_ref());
    let client_key = hmac::sign(&key, b"Client Key");
    let stored_key = digest::digest(&digest::SHA256, client_key.as_ref());
    let server_key = hmac::sign(&key, b"Server Key");
    Verifier(Secret::new(format!(
        "SCRAM-SHA-256${iterations}:{}${}:{}",
        STANDARD.encode(salt),
        STANDARD.encode(stored_key),
        STANDARD.encode(server_key),
    )))
}

/// Is this a verifier to the letter? Asked once more before it is sent.
pub(crate) fn is_well_formed(text: &str) -> bool {
    let parts = || {
        let (iterations, rest) = text.strip_prefix("SCRAM-SHA-256$")?.split_once(':')?;
        let (salt, keys) = rest.split_once('$')?;
        let (stored_key, server_key) = keys.split_once(':')?;
        Some((iterations, salt, stored_key, server_key))
    };
    let bytes = |part: &str| STANDARD.decode(part).map(|bytes| bytes.len()).ok();
    parts().is_some_and(|(iterations, salt, stored_key, server_key)| {
        iterations.bytes().all(|b| b.is_ascii_digit())
            && iterations.parse::<NonZeroU32>().is_ok()
            && bytes(salt) == Some(16)
            && bytes(stored_key) == Some(digest::SHA256_OUTPUT_LEN)
            && bytes(server_key) == Some(digest::SHA256_OUTPUT_LEN)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7677, section 3: password `pencil`. The RFC shows a whole exchange; the proof and the
    /// server's signature are computed here from our verifier, and must be those that it shows.
    #[test]
    fn the_example_of_the_rfc_comes_out() {
        let salt: [u8; 16] =
            STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap().try_into().unwrap();
        let made = verifier(&Secret::new("pencil".to_owned()), salt, DEFAULT_ITERATIONS);
        assert!(is_well_formed(made.text()), "{}", made.text());
        let (_, keys) = made.text().rsplit_once('$').unwrap();
        let (stored_key, server_key) = keys.split_once(':').unwrap();
        let stored_key = STANDARD.decode(stored_key).unwrap();
        let server_key = STANDARD.decode(server_key).unwrap();

        let nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let said = format!(
            "n=user,r=rOprNGfwEbeRWgbNEkqO,r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r={nonce}"
        );
        let sign =
            |key: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), said.as_bytes());
        assert_eq!(
            STANDARD.encode(sign(&server_key)),
            "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
        );
        let proof = STANDARD.decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=").unwrap();
        let signature = sign(&stored_key);
        let client_key: Vec<u8> =
            proof.iter().zip(signature.as_ref()).map(|(a, b)| a ^ b).collect();
        assert_eq!(digest::digest(&digest::SHA256, &client_key).as_ref(), stored_key);
    }

    #[test]
    fn what_postgresql_would_take_for_a_password_is_refused() {
        let good = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
        assert!(is_well_formed(good));
        for bad in [
            "",
            "secret",
            &good.replace("4096", "0"),
            &good.replace("4096", "+4096"),
            &good.replace("4096", "4294967296"),
            &good.replace("gQ==", "gQ"),
            &good.replace("T4qY=", "T4q"),
            &good.replace("SHA-256", "SHA-512"),
            &format!("{good}\n"),
            &format!("{good}'"),
            good.split_once(":wfP").unwrap().0,
        ] {
            assert!(!is_well_formed(bad), "{bad:?}");
        }
    }

    #[test]
    fn debug_shows_nothing() {
        let made = verifier(&Secret::new("a".to_owned()), [0; 16], NonZeroU32::MIN);
        assert_eq!(format!("{made:?}"), "Verifier(…)");
    }
}
