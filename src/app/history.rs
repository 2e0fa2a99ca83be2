//! The audit: sealed, signed, read, exported, checked.

use aws_lc_rs::{
    hkdf,
    signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey},
};
use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    app::{App, Listed, error::Error},
    config::{MasterKey, MasterKeys},
    domain::audit::{Broken, Hash, Sealed, Walk, checkpoint_bytes},
    identity::Admin,
    ids::{AuditId, LeaseId},
    secret::Secret,
    store::audit::Checkpoint,
};

/// Entries sealed or checked at a time.
const PAGE: i64 = 1000;

/// A checkpoint is signed after so many entries…
const SIGN_AFTER_ENTRIES: i64 = 256;

/// …or after this long, if there was any.
const SIGN_AFTER: TimeDelta = TimeDelta::seconds(30);

/// An entry that is not sealed after this long is worth naming.
const SEALED_WITHIN: TimeDelta = TimeDelta::seconds(5);

/// Signs heads of the chain, with a key made from the master key (HKDF, RFC 5869): whoever can write
/// to the state database but has no master key cannot sign a chain of their own.
#[derive(Debug)]
pub struct Signer {
    pair: Ed25519KeyPair,
    /// The public keys of all master keys: what an earlier one signed stays good.
    known: Vec<Vec<u8>>,
}

/// The master key cannot be used for signing.
#[derive(Debug, thiserror::Error)]
#[error("could not make the audit's signing key from the master key")]
pub struct NoSigner;

impl Signer {
    /// Makes the signing key from the first master key.
    ///
    /// # Errors
    /// If it cannot be used.
    pub fn new(keys: &MasterKeys) -> Result<Self, NoSigner> {
        let pair = signing_pair(keys.sealing())?;
        let public = |key| Ok(signing_pair(key)?.public_key().as_ref().to_vec());
        let known = keys.all().map(public).collect::<Result<_, NoSigner>>()?;
        Ok(Self { pair, known })
    }

    fn public_key(&self) -> Vec<u8> {
        self.pair.public_key().as_ref().to_vec()
    }
}

fn signing_pair(master: &MasterKey) -> Result<Ed25519KeyPair, NoSigner> {
    let derived =
        hkdf::Salt::new(hkdf::HKDF_SHA256, b"pgvalet audit").extract(master.bytes.expose());
    let mut seed = Secret::new([0_u8; 32]);
    derived
        .expand(&[b"checkpoint"], hkdf::HKDF_SHA256)
        .and_then(|okm| okm.fill(seed.expose_mut()))
        .map_err(|_| NoSigner)?;
    Ed25519KeyPair::from_seed_unchecked(seed.expose()).map_err(|_| NoSigner)
}

/// What a check of the chain found.
#[derive(Debug, Clone)]
pub struct Verification {
    /// Is all as it was sealed and signed?
    pub intact: bool,
    /// Entries looked at.
    pub entries: i64,
    /// The last good hash.
    pub head: Hash,
    /// The first bad position.
    pub first_bad: Option<i64>,
    /// What is wrong there.
    pub fault: Option<String>,
    /// Signatures checked.
    pub checkpoints: i64,
    /// Entries that should be sealed by now and are not.
    pub unsealed: i64,
    /// The key that signs.
    pub public_key: Vec<u8>,
}

/// Entries that others were not told of yet.
#[derive(Debug)]
pub struct Untold {
    /// How far they were told the chain.
    after: i64,
    /// What comes next, in the chain's order.
    pub entries: Vec<Sealed>,
}

/// A page of an export.
#[derive(Debug)]
pub struct ExportPage {
    /// Entries in the chain's order.
    pub entries: Vec<Sealed>,
    /// The signed heads among their positions.
    pub checkpoints: Vec<SignedHead>,
}

/// A signed head of the chain.
#[derive(Debug, Clone)]
pub struct SignedHead {
    /// The position that it signs.
    pub position: i64,
    /// The hash there.
    pub head: Hash,
    /// When.
    pub signed_at: DateTime<Utc>,
    /// The key.
    pub public_key: Vec<u8>,
    /// The signature.
    pub signature: Vec<u8>,
}

impl App {
    /// Seals what is not sealed yet, and signs the head when it is time. How many entries it were.
    ///
    /// # Errors
    /// If our database does not answer.
    pub async fn seal_audit(&self) -> Result<usize, Error> {
        let began = tokio::time::Instant::now();
        let mut sealed = 0;
        loop {
            let page = self.store.seal_audit(PAGE).await?;
            sealed += page;
            if page == 0 {
                break;
            }
        }
        self.metrics.sealed(sealed, began.elapsed());
        self.sign_if_due().await?;
        Ok(sealed)
    }

    async fn sign_if_due(&self) -> Result<(), Error> {
        let now = self.clock.now();
        let head = self.store.audit_head().await?;
        let due = match self.store.last_checkpoint().await? {
            None => head.position > 0,
            Some(last) => {
                let further = head.position - last.position;
                further >= SIGN_AFTER_ENTRIES || (further > 0 && now - last.signed_at >= SIGN_AFTER)
            }
        };
        if due {
            self.sign(head, now).await?;
        }
        Ok(())
    }

    /// Signs a head, unless a later one was signed before: the chain's end was cut off then, and to
    /// sign what is left would hide it.
    async fn sign(&self, head: Walk, now: DateTime<Utc>) -> Result<(), Error> {
        let signed = self.store.last_checkpoint().await?.map_or(0, |last| last.position);
        if head.position < signed {
            self.metrics.chain_checked(false);
            tracing::error!(
                audit.position = head.position,
                audit.signed = signed,
                "the audit is shorter than what was signed: its end was cut off"
            );
            return Ok(());
        }
        let signature = self.signer.pair.sign(&checkpoint_bytes(head.position, head.head));
        let checkpoint = Checkpoint {
            position: head.position,
            head: head.head.as_bytes().to_vec(),
            signed_at: now,
            public_key: self.signer.public_key(),
            signature: signature.as_ref().to_vec(),
        };
        Ok(self.store.add_checkpoint(&checkpoint).await?)
    }

    /// Entries that others were not told of yet, in the order of the chain.
    ///
    /// # Errors
    /// If our database does not answer.
    pub async fn untold(&self) -> Result<Untold, Error> {
        let after = self.store.told().await?;
        Ok(Untold { after, entries: self.store.sealed_audit(after, PAGE).await? })
    }

    /// Records that others were told.
    ///
    /// # Errors
    /// If our database does not answer.
    pub async fn mark_told(&self, told: &Untold) -> Result<(), Error> {
        let Some(last) = told.entries.last() else { return Ok(()) };
        Ok(self.store.mark_told(told.after, last.position).await?)
    }

    /// A page of entries, newest first.
    ///
    /// # Errors
    /// If our database does not answer.
    pub async fn audit_page(
        &self,
        _: &Admin<'_>,
        kind: Option<&str>,
        lease: Option<LeaseId>,
        before: Option<AuditId>,
        limit: i64,
    ) -> Result<Vec<Listed>, Error> {
        Ok(self.store.audit_entries(kind, lease, before, limit).await?)
    }

    /// Checks the whole chain and each signature.
    ///
    /// # Errors
    /// If our database does not answer. A broken chain is no error: it is the answer.
    pub async fn verify_audit(&self, _: &Admin<'_>) -> Result<Verification, Error> {
        // Before the head, which is never behind it: nothing after it means that the end was cut off.
        let signed = self.store.last_checkpoint().await?.map_or(0, |signed| signed.position);
        let recorded = self.store.audit_head().await?;
        let mut walk = Walk::START;
        let mut seen = Signatures { known: &self.signer.known, good: 0, stranger: None };
        let mut fault = None;
        while fault.is_none() && walk.position < recorded.position {
            let page = self.page_after(walk.position).await?;
            if page.entries.is_empty() {
                fault = Some((
                    walk.position + 1,
                    Broken::Missing { position: walk.position + 1 }.to_string(),
                ));
            }
            fault = fault.or_else(|| check_page(&mut walk, &page, &mut seen));
        }
        fault = fault.or_else(|| {
            let what = "is signed by a key that is none of the daemon's, and no later one is good";
            seen.stranger.map(|position| (position, format!("the checkpoint at {position} {what}")))
        });
        if fault.is_none() && walk.position < signed {
            let position = walk.position + 1;
            fault = Some((position, Broken::Missing { position }.to_string()));
        }
        let unsealed = self.store.unsealed_audit(self.clock.now() - SEALED_WITHIN).await?;
        let (first_bad, fault) = fault.unzip();
        self.metrics.chain_checked(fault.is_none());
        Ok(Verification {
            intact: fault.is_none(),
            entries: walk.position,
            head: walk.head,
            first_bad,
            fault,
            checkpoints: seen.good,
            unsealed,
            public_key: self.signer.public_key(),
        })
    }

    /// A page of the chain after a position. The end of an export is signed, so that it shows if it is
    /// cut off, or something is added to it.
    ///
    /// # Errors
    /// If our database does not answer.
    pub async fn export_audit(
        &self,
        _: &Admin<'_>,
        after: i64,
        limit: i64,
    ) -> Result<ExportPage, Error> {
        if after == 0 {
            self.seal_audit().await?;
        }
        let limit = limit.clamp(1, PAGE);
        let mut entries = self.store.sealed_audit(after, limit + 1).await?;
        let more = entries.len() > usize::try_from(limit).unwrap_or(usize::MAX);
        if more {
            entries.pop();
        } else if let Some(last) = entries.last() {
            let head = Walk { position: last.position, head: last.hash };
            self.sign(head, self.clock.now()).await?;
        }
        let until = if more { entries.last().map(|entry| entry.position) } else { None };
        self.with_checkpoints(after, until, entries).await
    }

    async fn page_after(&self, after: i64) -> Result<ExportPage, Error> {
        let entries = self.store.sealed_audit(after, PAGE).await?;
        let until = entries.last().map(|entry| entry.position);
        self.with_checkpoints(after, until, entries).await
    }

    /// Entries with the signed heads after a position: up to another, or all that there are.
    async fn with_checkpoints(
        &self,
        after: i64,
        until: Option<i64>,
        entries: Vec<Sealed>,
    ) -> Result<ExportPage, Error> {
        let head = |checkpoint: Checkpoint| SignedHead {
            position: checkpoint.position,
            // One that cannot be read matches no entry's, and so shows as a fault.
            head: Hash::from_bytes(&checkpoint.head).unwrap_or(Hash::START),
            signed_at: checkpoint.signed_at,
            public_key: checkpoint.public_key,
            signature: checkpoint.signature,
        };
        let within = |c: &Checkpoint| until.is_none_or(|until| c.position <= until);
        let checkpoints = self.store.checkpoints(after, PAGE).await?;
        let checkpoints = checkpoints.into_iter().filter(within).map(head).collect();
        Ok(ExportPage { entries, checkpoints })
    }
}

/// What was seen of the signatures on the way.
struct Signatures<'a> {
    known: &'a [Vec<u8>],
    good: i64,
    /// The last one of an unknown key, if no good one came after it: a good one covers all before it.
    stranger: Option<i64>,
}

/// Walks one page; the first fault with its position.
fn check_page(
    walk: &mut Walk,
    page: &ExportPage,
    seen: &mut Signatures<'_>,
) -> Option<(i64, String)> {
    let mut signed = page.checkpoints.iter().peekable();
    for entry in &page.entries {
        let position = walk.position + 1;
        if let Err(broken) = walk.step(entry) {
            return Some((position, broken.to_string()));
        }
        while let Some(head) = signed.next_if(|head| head.position == walk.position) {
            if let Some(fault) = checkpoint_fault(head, walk.head) {
                return Some((position, fault));
            }
            if seen.known.contains(&head.public_key) {
                seen.good += 1;
                seen.stranger = None;
            } else {
                seen.stranger = Some(position);
            }
        }
    }
    None
}

fn checkpoint_fault(signed: &SignedHead, head: Hash) -> Option<String> {
    let position = signed.position;
    if signed.head != head {
        return Some(format!(
            "the checkpoint at {position} signs another hash than the chain has there"
        ));
    }
    let message = checkpoint_bytes(position, head);
    let good = UnparsedPublicKey::new(&ED25519, &signed.public_key)
        .verify(&message, &signed.signature)
        .is_ok();
    (!good).then(|| format!("the signature of the checkpoint at {position} is not good"))
}
