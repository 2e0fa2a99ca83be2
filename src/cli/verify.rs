//! Checks an exported audit without the daemon: each entry's place in the hash chain, and each
//! checkpoint's signature.
//!
//! The chain shows an entry that was altered, moved or left out; the checkpoints show a chain that
//! was made anew from the start, or whose end was cut off, to whoever kept the key elsewhere.

use std::io::{BufRead, Read};

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};

use crate::{
    api::audit::{Checkpoint, ExportLine, Verification},
    cli::failure::Failure,
    domain::audit::{Hash, Walk, checkpoint_bytes},
};

/// An entry is a few kilobytes.
const LONGEST_LINE: u64 = 16 << 20;

/// Checks an export line by line. Its last entry must be covered by a checkpoint: of the key that is
/// given, or, without one, of the key that the last checkpoint names. What an earlier key signed (the
/// master key was replaced) is covered by what the later one signed.
///
/// # Errors
/// If the export cannot be read, or the key is not one.
pub fn export(lines: &mut dyn BufRead, key: Option<&str>) -> Result<Verification, Failure> {
    let mut check = Check { key: None, heads: vec![Hash::START], checkpoints: 0, covered: 0 };
    if let Some(text) = key {
        let bytes = hex(text.trim())
            .filter(|bytes| bytes.len() == 32)
            .ok_or_else(|| Failure::Usage("--public-key needs 64 hexadecimal digits".to_owned()))?;
        check.key = Some(bytes);
    }
    let mut walk = Walk::START;
    let mut waiting: Vec<Checkpoint> = Vec::new();
    let mut fault = None;
    let mut line = String::new();
    while fault.is_none() && next_line(lines, &mut line)? {
        match serde_json::from_str::<ExportLine>(&line) {
            Ok(ExportLine::Entry(entry)) => match walk.step(&entry) {
                Ok(()) => check.heads.push(walk.head),
                Err(broken) => fault = Some((walk.position + 1, broken.to_string())),
            },
            Ok(ExportLine::Checkpoint(signed)) => waiting.push(signed),
            Err(_) => {
                let what = "the line after this entry is neither an entry nor a checkpoint";
                fault = Some((walk.position + 1, what.to_owned()));
            }
        }
    }
    // Afterwards, because a checkpoint may stand before or after the entry that it signs. After a
    // broken entry only that one is told: what follows it is not known to be anything.
    if fault.is_none() {
        if check.key.is_none() {
            check.key = waiting.last().and_then(|signed| hex(&signed.public_key));
        }
        fault = waiting.iter().find_map(|signed| check.checkpoint(signed).err());
    }
    if fault.is_none() && check.covered < walk.position {
        let what = "no checkpoint of the key covers this entry and those after it";
        fault = Some((check.covered + 1, what.to_owned()));
    }
    let (first_bad, fault) = fault.unzip();
    Ok(Verification {
        intact: fault.is_none(),
        entries: walk.position,
        head: walk.head.to_string(),
        first_bad,
        fault,
        checkpoints: check.checkpoints,
        unsealed: 0,
        public_key: check.key.map(|key| to_hex(&key)).unwrap_or_default(),
    })
}

/// What the checkpoints are held against.
struct Check {
    key: Option<Vec<u8>>,
    /// The head after each position.
    heads: Vec<Hash>,
    checkpoints: i64,
    /// The last position that the key signed.
    covered: i64,
}

impl Check {
    fn checkpoint(&mut self, signed: &Checkpoint) -> Result<(), (i64, String)> {
        let position = signed.position;
        let fault = |what: &str| (position, format!("the checkpoint at {position} {what}"));
        let named = hex(&signed.public_key)
            .filter(|bytes| bytes.len() == 32)
            .ok_or_else(|| fault("names no key"))?;
        let head: Hash = signed.head.parse().map_err(|_| fault("names no head"))?;
        let signature = hex(&signed.signature).ok_or_else(|| fault("has no signature"))?;
        UnparsedPublicKey::new(&ED25519, &named)
            .verify(&checkpoint_bytes(position, head), &signature)
            .map_err(|_| fault("has a signature that is not its key's"))?;
        let at = usize::try_from(position).ok().filter(|at| *at > 0);
        match at.and_then(|at| self.heads.get(at)) {
            None => Err(fault("signs an entry that is not there: the end was cut off")),
            Some(found) if *found != head => Err(fault("signs another chain than this one")),
            Some(_) => {
                if self.key.as_ref() == Some(&named) {
                    self.checkpoints += 1;
                    self.covered = self.covered.max(position);
                }
                Ok(())
            }
        }
    }
}

/// The next line that is not empty; false at the end.
fn next_line(from: &mut dyn BufRead, line: &mut String) -> Result<bool, Failure> {
    loop {
        line.clear();
        let read =
            from.take(LONGEST_LINE).read_line(line).map_err(Failure::file("read the export"))?;
        if read == 0 {
            return Ok(false);
        }
        if !line.trim().is_empty() {
            return Ok(true);
        }
    }
}

fn hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok())
        .collect()
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};

    use super::*;
    use crate::domain::audit::{Sealed, chain};

    fn key(seed: u8) -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
    }

    fn signed(position: i64, head: Hash, key: &Ed25519KeyPair) -> ExportLine {
        ExportLine::Checkpoint(Checkpoint {
            position,
            head: head.to_string(),
            signed_at: chrono::DateTime::from_timestamp(0, 0).unwrap(),
            public_key: to_hex(key.public_key().as_ref()),
            signature: to_hex(key.sign(&checkpoint_bytes(position, head)).as_ref()),
        })
    }

    /// Three entries, with a checkpoint after the second and after the third.
    fn lines(bodies: [&str; 3], by: &Ed25519KeyPair) -> Vec<ExportLine> {
        let mut walk = Walk::START;
        let mut lines = Vec::new();
        for body in bodies {
            let position = walk.position + 1;
            let hash = chain(position, walk.head, body);
            walk = Walk { position, head: hash };
            lines.push(ExportLine::Entry(Sealed { position, hash, body: body.to_owned() }));
            if position > 1 {
                lines.push(signed(position, hash, by));
            }
        }
        lines
    }

    fn check(lines: &[ExportLine], key: Option<&str>) -> Verification {
        let text: Vec<String> =
            lines.iter().map(|line| serde_json::to_string(line).unwrap()).collect();
        export(&mut text.join("\n").as_bytes(), key).unwrap()
    }

    #[test]
    fn a_whole_export_is_intact_with_and_without_the_key() {
        let ours = key(1);
        let good = lines(["a", "b", "c"], &ours);
        let text = to_hex(ours.public_key().as_ref());
        for key in [None, Some(text.as_str())] {
            let found = check(&good, key);
            assert!(found.intact, "{found:?}");
            assert_eq!((found.entries, found.checkpoints), (3, 2));
            assert_eq!(found.public_key, text);
        }
        assert!(check(&[], None).intact);
    }

    #[test]
    fn what_was_done_to_an_export_shows() {
        let ours = key(1);
        let text = to_hex(ours.public_key().as_ref());
        type Change = fn(&mut Vec<ExportLine>);
        let cases: [(&str, Change, i64); 5] = [
            (
                "an entry was altered",
                |l| {
                    if let ExportLine::Entry(entry) = &mut l[1] {
                        entry.body = "B".to_owned();
                    }
                },
                2,
            ),
            ("an entry was left out", |l| drop(l.remove(1)), 2),
            ("two changed places", |l| l.swap(0, 1), 1),
            ("the end was cut off, its checkpoint kept", |l| drop(l.remove(3)), 3),
            (
                "a checkpoint's signature was altered",
                |l| {
                    if let ExportLine::Checkpoint(signed) = &mut l[2] {
                        signed.signature =
                            signed.signature.replace(|c: char| c.is_alphabetic(), "0");
                    }
                },
                2,
            ),
        ];
        for (what, change, first_bad) in cases {
            let mut lines = lines(["a", "b", "c"], &ours);
            change(&mut lines);
            let found = check(&lines, Some(&text));
            assert!(!found.intact, "{what}");
            assert_eq!(found.first_bad, Some(first_bad), "{what}: {found:?}");
        }
    }

    #[test]
    fn a_chain_made_anew_with_another_key_shows_against_the_kept_key() {
        let (ours, theirs) = (key(1), key(2));
        let forged = lines(["a", "x", "c"], &theirs);
        assert!(check(&forged, None).intact, "an export alone cannot show it");
        assert!(!check(&forged, Some(&to_hex(ours.public_key().as_ref()))).intact);
        let mut unsigned = lines(["a", "x", "c"], &theirs);
        unsigned.retain(|line| matches!(line, ExportLine::Entry(_)));
        assert!(!check(&unsigned, Some(&to_hex(ours.public_key().as_ref()))).intact);
    }

    #[test]
    fn what_was_added_after_the_last_checkpoint_shows() {
        let ours = key(1);
        let mut added = lines(["a", "b", "c"], &ours);
        let Some(ExportLine::Entry(last)) =
            added.iter().rev().find(|l| matches!(l, ExportLine::Entry(_)))
        else {
            panic!("there are entries")
        };
        let hash = chain(4, last.hash, "d");
        added.push(ExportLine::Entry(Sealed { position: 4, hash, body: "d".to_owned() }));
        assert_eq!(check(&added, None).first_bad, Some(4));
    }

    #[test]
    fn a_replaced_key_covers_what_the_one_before_it_signed() {
        let (old, new) = (key(1), key(2));
        let mut lines = lines(["a", "b", "c"], &old);
        let Some(ExportLine::Checkpoint(last)) = lines.pop() else { panic!("it ends signed") };
        lines.push(signed(3, last.head.parse().unwrap(), &new));
        assert!(check(&lines, None).intact);
        assert!(check(&lines, Some(&to_hex(new.public_key().as_ref()))).intact);
        assert!(!check(&lines, Some(&to_hex(old.public_key().as_ref()))).intact);
    }

    #[test]
    fn a_line_that_is_neither_is_a_fault_and_a_bad_key_is_usage() {
        let found = export(&mut "{}\n".as_bytes(), None).unwrap();
        assert!(!found.intact);
        assert_eq!(export(&mut "".as_bytes(), Some("xyz")).unwrap_err().exit_status(), 2);
    }
}
