//! Sealed codes: `7-4GXPZ-V0KTA-93M1C-QBR5E`, the number of the code in its person's set and 100 bits, in letters
//! that can be typed from paper. They ask for emergencies while nobody can sign in.
//!
//! The number says which hash to look at, so that a try costs one argon2, whoever is named and whether or not
//! they have codes.

use crate::{
    domain::emergency::EmergencyCode,
    identity::token::{self, Tokens},
    ids::EmergencyCodeId,
    rng,
    secret::Secret,
};

/// Letters of the secret, as `rng` makes them.
const LETTERS: usize = 20;

/// Letters in a row, when they are shown.
const IN_A_GROUP: usize = 5;

/// A code as it was typed: nothing is known of it yet.
#[derive(Debug)]
pub struct PresentedCode {
    number: i32,
    secret: Secret<String>,
}

impl PresentedCode {
    /// Reads a code; none if it does not look like one. Small letters, missing hyphens, and letters that look like
    /// digits are read as they were meant.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let (number, secret) = text.trim().split_once('-')?;
        let number = number.trim().parse().ok().filter(|number| (1..=999).contains(number))?;
        let meant = |letter: char| match letter.to_ascii_uppercase() {
            'O' => '0',
            'I' | 'L' => '1',
            other => other,
        };
        let letters = secret.chars().filter(|c| *c != '-' && !c.is_whitespace()).map(meant);
        let secret = Secret::new(letters.take(LETTERS + 1).collect::<String>());
        let is_one = secret.expose().len() == LETTERS
            && secret.expose().bytes().all(|byte| byte.is_ascii_alphanumeric());
        is_one.then_some(Self { number, secret })
    }

    /// Which of its person's codes it claims to be.
    #[must_use]
    pub const fn number(&self) -> i32 {
        self.number
    }
}

/// A new code, ready to be recorded and handed out.
#[derive(Debug)]
pub struct MintedCode {
    /// Its id.
    pub id: EmergencyCodeId,
    /// Its number in the set.
    pub number: i32,
    /// What to hand out, once.
    pub text: Secret<String>,
    /// What to keep: argon2id, PHC string.
    pub hash: String,
}

/// Makes a set of codes.
///
/// # Errors
/// If there is no randomness, or argon2 fails.
pub async fn mint(tokens: &Tokens, count: i32) -> Result<Vec<MintedCode>, token::Error> {
    let mut codes = Vec::new();
    for number in 1..=count {
        let secret = rng::code_secret()?;
        let hash = tokens.hash(secret.duplicate()).await?;
        let mut text = Secret::new(number.to_string());
        for (nth, letter) in secret.expose().chars().enumerate() {
            if nth % IN_A_GROUP == 0 {
                text.expose_mut().push('-');
            }
            text.expose_mut().push(letter);
        }
        codes.push(MintedCode { id: EmergencyCodeId::new(), number, text, hash });
    }
    Ok(codes)
}

/// The proof that a code's secret was right.
#[derive(Debug, Clone)]
pub struct VerifiedCode {
    code: EmergencyCode,
    /// What is remembered of it once it is used: its id, as the database writes it.
    spent_as: [u8; 16],
}

impl VerifiedCode {
    /// Checks a code against what is kept of it: of one that is not there, against a decoy, so that the answer
    /// takes as long.
    ///
    /// # Errors
    /// If argon2 fails, too many wait for it, or the daemon is ending.
    pub async fn check(
        tokens: &Tokens,
        presented: Option<PresentedCode>,
        kept: Option<(EmergencyCode, &str)>,
    ) -> Result<Option<Self>, token::Error> {
        let secret = presented.map(|presented| presented.secret);
        let (code, hash) = kept.unzip();
        let is_right = tokens.is_kept(secret, hash).await?;
        Ok(code.filter(|_| is_right).map(|code| {
            let spent_as = *code.id.uuid().as_bytes();
            Self { code, spent_as }
        }))
    }

    /// The code.
    #[must_use]
    pub const fn code(&self) -> &EmergencyCode {
        &self.code
    }

    /// What is remembered of it once it is used.
    #[must_use]
    pub const fn spent_as(&self) -> &[u8] {
        &self.spent_as
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::ids::PrincipalId;

    fn kept(number: i32) -> EmergencyCode {
        EmergencyCode {
            id: EmergencyCodeId::new(),
            number,
            profiles: Vec::new(),
            made_by: PrincipalId::new(),
            ends_at: DateTime::from_timestamp(1_700_000_000, 0).unwrap(),
        }
    }

    #[tokio::test]
    async fn a_code_is_known_by_its_secret_however_it_is_typed() {
        let tokens = Tokens::new().unwrap();
        let codes = mint(&tokens, 2).await.unwrap();
        let [one, two] = codes.as_slice() else { panic!("{codes:?}") };
        let text = one.text.expose();
        assert!(text.starts_with("1-") && text.len() == 25, "{text}");
        let sloppy = text.to_lowercase().replacen('-', "- ", 2).replace('0', "o").replace('1', "l");
        let sloppy = format!(" 1{}", sloppy.strip_prefix('l').unwrap());
        for typed in [text.as_str(), &sloppy] {
            let presented = PresentedCode::read(typed);
            assert_eq!(presented.as_ref().map(PresentedCode::number), Some(1), "{typed}");
            let checked = VerifiedCode::check(&tokens, presented, Some((kept(1), &one.hash)));
            assert!(checked.await.unwrap().is_some(), "{typed}");
        }
        for (presented, hash) in [
            (PresentedCode::read(text), Some(&two.hash)),
            (PresentedCode::read(text), None),
            (None, Some(&one.hash)),
        ] {
            let kept = hash.map(|hash| (kept(1), hash.as_str()));
            assert!(VerifiedCode::check(&tokens, presented, kept).await.unwrap().is_none());
        }
    }

    #[test]
    fn what_is_no_code_is_not_read_as_one() {
        for text in ["", "1", "1-", "x-4GXPZV0KTA93M1CQBR5E", "0-4GXPZV0KTA93M1CQBR5E"] {
            assert!(PresentedCode::read(text).is_none(), "{text}");
        }
        assert!(PresentedCode::read("1-4GXPZ-V0KTA-93M1C-QBR5").is_none(), "too short");
        assert!(PresentedCode::read("1-4GXPZ-V0KTA-93M1C-QBR5EE").is_none(), "too long");
    }
}
