//! Notices: made from the sealed chain for each channel that wants them, sent, sent again, given up.
//!
//! No use case writes notices: one transaction holds a change and its audit entry, and what is told follows from the
//! chain. The dispatcher moves its cursor and records the notices in one transaction, so that each is recorded once.

pub mod by_hand;
pub mod digest;

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::join_all;

use crate::{
    app::{App, error::Error, rotations::jitter},
    domain::{
        audit::{Entry, Sealed},
        backoff,
        notice::{Notice, line},
    },
    ids::{AuditId, NoticeId},
    notify::{Channel, Sent, Way, webhook::Webhook},
    store::{
        self,
        notices::{ClaimedNotice, NewNotice},
    },
    telemetry::labels::Delivery,
};

/// Entries looked at in one go.
const PAGE: i64 = 500;

/// How long a claim lasts: longer than one try to send may take.
const CLAIM: TimeDelta = TimeDelta::seconds(45);

/// Notices of one channel that are sent at once.
const AT_ONCE: i64 = 8;

/// An entry that this release cannot read is left to a daemon of the release that wrote it, for so long.
const LEFT_TO_OTHERS: TimeDelta = TimeDelta::minutes(10);

/// The longest that a receiver may have us wait.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// How long what was told is kept, and what was given up.
const TOLD_KEPT: TimeDelta = TimeDelta::days(30);
const DEAD_KEPT: TimeDelta = TimeDelta::days(90);

/// What waits longer than any daemon would try is of a channel that none has any more.
const ORPHANED: TimeDelta = TimeDelta::days(31);

/// The most letters of what stood in the way.
const LONGEST_WHY: usize = 300;

/// What came of a pass over one channel.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Pass {
    /// Notices that were told, or given up.
    pub done: usize,
    /// Notices that are sent again.
    pub failed: usize,
    /// So long the receiver wants to be left alone.
    pub after: Option<Duration>,
}

impl App {
    /// The places that are told.
    #[must_use]
    pub fn channels(&self) -> &[std::sync::Arc<Channel>] {
        &self.channels
    }

    /// Does what a webhook is signed with stand in a file, which may come to say something else?
    #[must_use]
    pub fn has_secret_files(&self) -> bool {
        self.webhooks().any(|(_, webhook)| webhook.has_secret_file())
    }

    /// Signs by what stands in the files of webhooks' secrets now. It waits for the disk.
    pub fn read_webhook_secrets_again(&self) {
        for (channel, webhook) in self.webhooks().filter(|(_, webhook)| webhook.has_secret_file()) {
            match webhook.read_secrets_again() {
                Ok(()) => tracing::info!(channel = %channel.name, "its secrets were read anew"),
                Err(e) => tracing::warn!(
                    channel = %channel.name,
                    error = &e as &dyn std::error::Error,
                    "could not read its secrets anew; it is signed as before"
                ),
            }
        }
    }

    fn webhooks(&self) -> impl Iterator<Item = (&Channel, &Webhook)> {
        self.channels.iter().filter_map(|channel| match &channel.way {
            Way::Webhook(webhook) => Some((&**channel, webhook)),
            Way::Mail(_) | Way::Slack => None,
        })
    }

    /// Records what is to be told of the entries that were sealed since the last time, and wakes who sends it.
    ///
    /// # Errors
    /// If our database does not answer.
    pub async fn dispatch_notices(&self) -> Result<(), Error> {
        if self.channels.is_empty() {
            return Ok(self.store.pass_over_notices().await?);
        }
        loop {
            let after = self.store.notice_cursor().await?;
            let entries = self.store.sealed_audit(after, PAGE).await?;
            let read = read(&entries, self.clock.now());
            let Some(to) = read.to else { return Ok(()) };
            match self.record_notices(after, to, &read.notices).await {
                // Another daemon was faster.
                Err(store::error::Error::NotOneRow(_)) => {}
                recorded => recorded?,
            }
            let is_last = entries.len() < usize::try_from(PAGE).unwrap_or(usize::MAX);
            if read.stopped || is_last {
                return Ok(());
            }
        }
    }

    async fn record_notices(
        &self,
        after: i64,
        to: i64,
        notices: &[(i64, Entry, Notice)],
    ) -> Result<(), store::error::Error> {
        let mut new = Vec::new();
        for (position, entry, notice) in notices {
            let wanting = self.channels.iter().filter(|channel| channel.wants(notice.topic));
            new.extend(wanting.map(|channel| NewNotice {
                channel: &channel.name,
                position: *position,
                audit_id: entry.id,
                notice,
            }));
        }
        let mut tx = self.store.begin().await?;
        tx.move_notice_cursor(after, to).await?;
        tx.add_notices(&new, self.clock.now()).await?;
        tx.commit().await?;
        if !new.is_empty() {
            self.channels.iter().for_each(|channel| channel.waker.notify_one());
        }
        Ok(())
    }

    /// Sends what is due on a channel: `probe` sends one alone, to see whether it is there again.
    ///
    /// # Errors
    /// If our database does not answer.
    pub async fn tell(&self, channel: &Channel, probe: bool) -> Result<Pass, Error> {
        let now = self.clock.now();
        let limit = if probe { 1 } else { AT_ONCE };
        let claimed = self.store.claim_notices(&channel.name, now, now + CLAIM, limit).await?;
        let mut pass = Pass::default();
        let sending = claimed
            .iter()
            .map(async |claimed| (claimed, self.send_claimed(channel, claimed).await));
        for (claimed, sent) in join_all(sending).await {
            match self.note_sent(channel, claimed, &sent).await {
                // The claim had ended, and whoever has it now goes on.
                Err(store::error::Error::NotOneRow(_)) => {}
                noted => noted?,
            }
            match sent {
                Sent::Told | Sent::Never { .. } => pass.done += 1,
                Sent::Later { after, .. } => {
                    pass.failed += 1;
                    pass.after = pass.after.max(after.map(|after| after.min(LONGEST_WAIT)));
                }
            }
        }
        Ok(pass)
    }

    async fn send_claimed(&self, channel: &Channel, claimed: &ClaimedNotice) -> Sent {
        match &claimed.notice {
            Some(notice) => self.send(channel, claimed.id, claimed.audit_id, notice).await,
            None => {
                let why = "another release of pgvalet wrote it, and this one cannot read it";
                Sent::Later { why: why.to_owned(), after: None }
            }
        }
    }

    async fn send(
        &self,
        channel: &Channel,
        id: NoticeId,
        audit_id: AuditId,
        notice: &Notice,
    ) -> Sent {
        match &channel.way {
            Way::Webhook(webhook) => {
                let (url, now) = (self.link(notice), self.clock.now());
                webhook.send(id, audit_id, notice, url, now).await
            }
            Way::Mail(mail) => mail.send(id, audit_id, notice, self.link(notice)).await,
            Way::Slack => self.tell_slack(id, notice).await,
        }
    }

    /// The page about it.
    pub(in crate::app) fn link(&self, notice: &Notice) -> Option<String> {
        let path = notice.path.as_ref()?;
        self.found_at.get().map(|address| format!("{address}{path}"))
    }

    /// Counts what waits and what was given up.
    pub(in crate::app) async fn measure_notices(&self) -> Result<(), Error> {
        let counts = self.store.count_notices().await?;
        let oldest = counts.oldest.and_then(|since| (self.clock.now() - since).to_std().ok());
        let count = |count: i64| u64::try_from(count).unwrap_or(0);
        self.metrics.notices(count(counts.waiting), oldest.unwrap_or_default(), count(counts.dead));
        Ok(())
    }

    /// Forgets what was told or given up long ago.
    ///
    /// # Errors
    /// If our database does not answer.
    pub async fn forget_old_notices(&self) -> Result<(), Error> {
        let now = self.clock.now();
        Ok(self.store.forget_notices(now - TOLD_KEPT, now - DEAD_KEPT, now - ORPHANED, now).await?)
    }

    async fn note_sent(
        &self,
        channel: &Channel,
        claimed: &ClaimedNotice,
        sent: &Sent,
    ) -> Result<(), store::error::Error> {
        let now = self.clock.now();
        let (why, after) = match sent {
            Sent::Told => {
                self.store.notice_told(claimed, now).await?;
                self.metrics.notice_sent(channel.name.kind(), Delivery::Told);
                return Ok(());
            }
            Sent::Never { why } => (why, None),
            Sent::Later { why, after } => (why, Some(*after)),
        };
        let why = &line(why, LONGEST_WHY);
        let gives_up = after.is_none() || now - claimed.waits_since >= channel.give_up_after;
        let outcome = if gives_up { Delivery::Dead } else { Delivery::Failed };
        self.metrics.notice_sent(channel.name.kind(), outcome);
        tracing::warn!(
            notice.id = %claimed.id,
            channel = %channel.name,
            attempts = claimed.attempts + 1,
            why,
            "a notice did not arrive"
        );
        if gives_up {
            return self.store.notice_given_up(claimed, why, now).await;
        }
        let asked = after.flatten().unwrap_or_default().min(LONGEST_WAIT);
        let wait = backoff::wait_after(claimed.attempts.saturating_add(1), jitter());
        let wait = TimeDelta::from_std(asked).map_or(wait, |asked| asked.max(wait));
        self.store.notice_failed(claimed, why, now + wait).await
    }
}

/// What was read of a page of the chain.
struct Read {
    /// How far; none if there was nothing.
    to: Option<i64>,
    /// What is to be told, with its place and its entry.
    notices: Vec<(i64, Entry, Notice)>,
    /// Was there an entry that is left to others?
    stopped: bool,
}

fn read(entries: &[Sealed], now: DateTime<Utc>) -> Read {
    let mut read = Read { to: None, notices: Vec::new(), stopped: false };
    for Sealed { position, body, .. } in entries {
        match serde_json::from_str::<Entry>(body) {
            Ok(entry) => {
                if let Some(notice) = Notice::of(&entry) {
                    read.notices.push((*position, entry, notice));
                }
            }
            Err(_) if is_fresh(body, now) => {
                tracing::info!(
                    position,
                    "an audit entry is left to a daemon of a newer release to tell of"
                );
                read.stopped = true;
                return read;
            }
            Err(_) => {
                tracing::warn!(
                    position,
                    "nobody is told of an audit entry that this release does not know"
                );
            }
        }
        read.to = Some(*position);
    }
    read
}

/// Is an entry that cannot be read so young that a daemon of a newer release may be about to tell of it?
fn is_fresh(body: &str, now: DateTime<Utc>) -> bool {
    #[derive(serde::Deserialize)]
    struct At {
        at: DateTime<Utc>,
    }
    serde_json::from_str::<At>(body).is_ok_and(|At { at }| now - at < LEFT_TO_OTHERS)
}
