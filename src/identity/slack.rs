//! Does a request come from Slack? It signs each with a secret that Slack and we have, over the very bytes of the
//! body and the time. Only a body that was signed is read, and only of its account can a caller be made: so no
//! handler can take an account's id from anywhere else.

use aws_lc_rs::hmac;
use chrono::{DateTime, Utc};

use crate::{
    domain::slack::{
        Account,
        incoming::{self, Incoming, Unreadable},
    },
    secret::Secret,
};

/// How far the time of a request may be from ours.
const WINDOW_SECONDS: u64 = 300;

/// The only scheme there is.
const SCHEME: &str = "v0";

/// What Slack signs with.
pub struct Signing(hmac::Key);

impl std::fmt::Debug for Signing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signing(…)")
    }
}

/// What a delivery is said to be by where it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A slash command.
    Command,
    /// A click or a form.
    Interaction,
}

/// Something that Slack signed.
#[derive(Debug)]
pub struct Signed(Incoming);

/// Why a request is not taken for one of Slack's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A header is missing or is no header of Slack's.
    #[error("its header {0} is missing or cannot be read")]
    Header(&'static str),
    /// It was signed too long ago, or in the future: it may be a copy.
    #[error("it was signed more than {WINDOW_SECONDS} s from now")]
    Stale,
    /// The signature is another's, or the body is not the one that was signed.
    #[error("its signature is not that of its body")]
    Signature,
    /// It is signed, and no form.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
}

/// Where the time of the signature stands.
pub const TIMESTAMP: &str = "x-slack-request-timestamp";

/// Where the signature stands.
pub const SIGNATURE: &str = "x-slack-signature";

impl Signing {
    /// Takes the signing secret of the Slack app.
    #[must_use]
    pub fn new(secret: &Secret<String>) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes()))
    }

    /// The signature of a body.
    #[must_use]
    pub fn sign(&self, timestamp: i64, body: &[u8]) -> String {
        let tag = hmac::sign(&self.0, &signed(timestamp, body));
        let hex: String = tag.as_ref().iter().map(|b| format!("{b:02x}")).collect();
        format!("{SCHEME}={hex}")
    }

    /// Reads a body, if Slack signed it within the last minutes.
    ///
    /// # Errors
    /// If it did not, or the body is not what Slack sends.
    pub fn read(
        &self,
        kind: Kind,
        (timestamp, signature): (Option<&str>, Option<&str>),
        body: &[u8],
        now: DateTime<Utc>,
    ) -> Result<Option<Signed>, Fault> {
        self.verify((timestamp, signature), body, now)?;
        let form: Vec<(String, String)> = form_urlencoded::parse(body).into_owned().collect();
        // Slack looks now and then whether our certificate holds.
        if form.iter().any(|(name, value)| name == "ssl_check" && value == "1") {
            return Ok(None);
        }
        let read = match kind {
            Kind::Command => incoming::command(&form)?,
            Kind::Interaction => incoming::interaction(&form)?,
        };
        Ok(Some(Signed(read)))
    }

    fn verify(
        &self,
        (timestamp, signature): (Option<&str>, Option<&str>),
        body: &[u8],
        now: DateTime<Utc>,
    ) -> Result<(), Fault> {
        let written = timestamp.filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
        let timestamp: i64 =
            written.and_then(|text| text.parse().ok()).ok_or(Fault::Header(TIMESTAMP))?;
        let signature = signature.ok_or(Fault::Header(SIGNATURE))?;
        if now.timestamp().abs_diff(timestamp) > WINDOW_SECONDS {
            return Err(Fault::Stale);
        }
        let (scheme, hex) = signature.split_once('=').ok_or(Fault::Header(SIGNATURE))?;
        let tag = from_hex(hex).filter(|_| scheme == SCHEME).ok_or(Fault::Header(SIGNATURE))?;
        // Takes as long whatever differs.
        hmac::verify(&self.0, &signed(timestamp, body), &tag).map_err(|_| Fault::Signature)
    }
}

/// What is signed.
fn signed(timestamp: i64, body: &[u8]) -> Vec<u8> {
    let mut signed = format!("{SCHEME}:{timestamp}:").into_bytes();
    signed.extend_from_slice(body);
    signed
}

impl Signed {
    /// What Slack says.
    #[must_use]
    pub const fn said(&self) -> &Incoming {
        &self.0
    }

    /// Whose word it is.
    #[must_use]
    pub const fn account(&self) -> &Account {
        &self.0.account
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if text.len() != 64 || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    let pair = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    (0..64).step_by(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    /// From Slack's own documentation ("Verifying requests from Slack").
    const SECRET: &str = "8f742231b10e8888abcd99yyyzzz85a5";
    const AT: &str = "1531420618";
    const BODY: &str = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
    const PROOF: &str = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503";

    fn signing() -> Signing {
        Signing::new(&Secret::new(SECRET.to_owned()))
    }

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_531_420_618, 0).unwrap() + TimeDelta::seconds(seconds)
    }

    fn read(proof: &str, body: &[u8], seconds: i64) -> Result<Option<Signed>, Fault> {
        signing().read(Kind::Command, (Some(AT), Some(proof)), body, at(seconds))
    }

    #[test]
    fn the_documented_signature_holds() {
        assert_eq!(signing().sign(1_531_420_618, BODY.as_bytes()), PROOF);
        let signed = read(PROOF, BODY.as_bytes(), 0).unwrap().unwrap();
        assert_eq!(
            (signed.account().team.as_str(), signed.account().user.as_str()),
            ("T1DC2JH3J", "U2CERLKJA")
        );
    }

    #[test]
    fn it_holds_for_five_minutes_on_either_side() {
        for seconds in [-300, 299, 300] {
            assert!(read(PROOF, BODY.as_bytes(), seconds).is_ok(), "{seconds}");
        }
        for seconds in [-301, 301, i64::from(i32::MAX)] {
            assert_eq!(
                read(PROOF, BODY.as_bytes(), seconds).unwrap_err(),
                Fault::Stale,
                "{seconds}"
            );
        }
    }

    #[test]
    fn one_bit_changed_anywhere_breaks_it() {
        for at in 0..BODY.len() {
            let mut body = BODY.as_bytes().to_vec();
            body[at] ^= 1;
            assert_eq!(read(PROOF, &body, 0).unwrap_err(), Fault::Signature, "byte {at}");
        }
        for at in 3..PROOF.len() {
            let mut proof = PROOF.as_bytes().to_vec();
            proof[at] = if proof[at] == b'0' { b'1' } else { b'0' };
            let proof = String::from_utf8(proof).unwrap();
            assert_eq!(read(&proof, BODY.as_bytes(), 0).unwrap_err(), Fault::Signature, "{proof}");
        }
        let another = Signing::new(&Secret::new("another".to_owned()));
        let read = another.read(Kind::Command, (Some(AT), Some(PROOF)), BODY.as_bytes(), at(0));
        assert_eq!(read.unwrap_err(), Fault::Signature);
    }

    #[test]
    fn the_body_is_taken_as_it_was_sent_and_not_written_anew() {
        let form: Vec<(String, String)> =
            form_urlencoded::parse(BODY.as_bytes()).into_owned().collect();
        let lower = BODY.replace("%2F", "%2f").replace("%3A", "%3a");
        let mut again = form_urlencoded::Serializer::new(String::new());
        let anew = again.extend_pairs(form.iter().rev()).finish();
        for body in [lower, anew, format!("{BODY}&"), format!("{BODY}\n")] {
            assert_eq!(read(PROOF, body.as_bytes(), 0).unwrap_err(), Fault::Signature, "{body}");
        }
    }

    #[test]
    fn headers_that_lack_or_cannot_be_read_are_refused() {
        let read = |headers| signing().read(Kind::Command, headers, BODY.as_bytes(), at(0));
        for timestamp in [
            None,
            Some(""),
            Some("x"),
            Some("+1531420618"),
            Some("-1"),
            Some("99999999999999999999"),
        ] {
            assert_eq!(
                read((timestamp, Some(PROOF))).unwrap_err(),
                Fault::Header(TIMESTAMP),
                "{timestamp:?}"
            );
        }
        let upper = PROOF.to_uppercase();
        let other = PROOF.replace("v0", "v1");
        for signature in
            [None, Some(""), Some("v0="), Some(upper.as_str()), Some(other.as_str()), Some("v0=é")]
        {
            assert_eq!(
                read((Some(AT), signature)).unwrap_err(),
                Fault::Header(SIGNATURE),
                "{signature:?}"
            );
        }
    }
}
