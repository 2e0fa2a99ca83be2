//! Notices as people look after them: listed, sent again, and tried.

use std::time::Instant;

use crate::{
    app::{App, Origin, error::Error},
    domain::{
        audit::Event,
        notice::{ChannelName, Notice},
    },
    identity::Admin,
    ids::{AuditId, NoticeId},
    notify::Sent,
    store::notices::{ListedNotice, NoticeFilter},
};

/// What came of a test of a channel.
#[derive(Debug)]
pub struct Tried {
    /// Why it did not arrive, if so.
    pub why: Option<String>,
    /// How long it took, in milliseconds.
    pub milliseconds: u64,
}

impl App {
    /// A page of notices, newest first.
    ///
    /// # Errors
    /// If our database does not answer.
    pub async fn notices(
        &self,
        _: &Admin<'_>,
        filter: &NoticeFilter,
        limit: i64,
    ) -> Result<Vec<ListedNotice>, Error> {
        Ok(self.store.notices(filter, limit).await?)
    }

    /// Has one notice sent again that was given up.
    ///
    /// # Errors
    /// If there is no such notice, it was not given up, or our database does not answer.
    pub async fn replay_notice(
        &self,
        admin: &Admin<'_>,
        origin: &Origin,
        id: NoticeId,
    ) -> Result<(), Error> {
        match self.replay(admin, origin, Some(id), None).await? {
            0 if self.store.has_notice(id).await? => Err(Error::Conflict {
                code: "notice_not_dead",
                detail: "this notice was told, or is still being sent: only one that was given up is sent again"
                    .to_owned(),
            }),
            0 => Err(Error::not_found("notice", id.to_string())),
            _ => Ok(()),
        }
    }

    /// Has all notices sent again that were given up, of one channel or of all; how many.
    ///
    /// # Errors
    /// If our database does not answer.
    pub async fn replay_notices(
        &self,
        admin: &Admin<'_>,
        origin: &Origin,
        channel: Option<&ChannelName>,
    ) -> Result<u64, Error> {
        self.replay(admin, origin, None, channel.map(ToString::to_string)).await
    }

    async fn replay(
        &self,
        admin: &Admin<'_>,
        origin: &Origin,
        notice_id: Option<NoticeId>,
        channel: Option<String>,
    ) -> Result<u64, Error> {
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        let notices = tx.replay_notices(notice_id, channel.as_deref(), now).await?;
        if notices == 0 {
            return Ok(0);
        }
        let event = Event::NoticeReplayed { notice_id, channel, notices };
        tx.audit(&origin.entry(admin, now, event)).await?;
        tx.commit().await?;
        self.nudges.audit.notify_one();
        self.channels.iter().for_each(|channel| channel.waker.notify_one());
        Ok(notices)
    }

    /// Sends a notice to a channel, and says what came of it. It is not sent again.
    ///
    /// # Errors
    /// If this daemon has no such channel, or our database does not answer.
    pub async fn try_channel(
        &self,
        admin: &Admin<'_>,
        origin: &Origin,
        name: &ChannelName,
    ) -> Result<Tried, Error> {
        let channel = self.channels.iter().find(|channel| channel.name == *name);
        let Some(channel) = channel else {
            let names: Vec<_> = self.channels.iter().map(|it| format!("`{}`", it.name)).collect();
            let has = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            return Err(Error::not_found("channel", format!("{name} (this daemon has {has})")));
        };
        let began = self.clock.now();
        let event = Event::NoticeTestBegun { channel: name.to_string() };
        self.record(origin.entry(admin, began, event)).await?;
        let notice = Notice::test(name, &admin.principal().to_string(), began);
        let began = Instant::now();
        let sent = self.send(channel, NoticeId::new(), AuditId::new(), &notice).await;
        let milliseconds = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let why = match sent {
            Sent::Told => None,
            Sent::Later { why, .. } | Sent::Never { why } => Some(why),
        };
        let event = Event::NoticeTested { channel: name.to_string(), why: why.clone() };
        self.record(origin.entry(admin, self.clock.now(), event)).await?;
        Ok(Tried { why, milliseconds })
    }
}
