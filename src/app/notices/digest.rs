//! The digest: once a day, what still waits for somebody. It is an entry of the audit like any other, from which notices
//! are made; when there is nothing to say, there is none.

use crate::{
    app::{App, error::Error, own_entry},
    domain::{audit::Event, review::Review, schedule::Schedule},
};

/// The most that is named of a kind.
const MOST_NAMED: usize = 20;

impl App {
    /// Makes the digest if it is due. One that was missed, because no daemon ran, is made at the next start, once.
    ///
    /// # Errors
    /// If our database does not answer.
    pub async fn make_digest(&self, schedule: &Schedule) -> Result<(), Error> {
        if *schedule == Schedule::Never {
            return Ok(());
        }
        let now = self.clock.now();
        let last = self.store.digest_at().await?;
        if schedule.next_after(last).is_none_or(|due_at| due_at > now) {
            return Ok(());
        }
        let mut rotations_overdue = self.overdue_rotations().await?;
        rotations_overdue.truncate(MOST_NAMED);
        let limit = i64::try_from(MOST_NAMED).unwrap_or(i64::MAX);
        let logins_stuck = self.store.stuck_logins(limit).await?;
        let notices_dead = u64::try_from(self.store.count_notices().await?.dead).unwrap_or(0);
        let emergencies_open =
            u64::try_from(self.store.open_emergencies().await?.count).unwrap_or(0);
        let reviews = self.store.open_reviews(limit).await?;
        let reviews_waiting: Vec<_> = reviews.iter().map(Review::waiting_in_words).collect();
        let mut tx = self.store.begin().await?;
        if !tx.take_digest(last, now).await? {
            // Another daemon was faster.
            return Ok(());
        }
        let counted = notices_dead + emergencies_open;
        let named = rotations_overdue.len() + logins_stuck.len() + reviews_waiting.len();
        if named > 0 || counted > 0 {
            let event = Event::DigestMade {
                rotations_overdue,
                logins_stuck,
                notices_dead,
                emergencies_open,
                reviews_waiting,
            };
            tx.audit(&own_entry(now, event)).await?;
        }
        tx.commit().await?;
        self.nudges.audit.notify_one();
        Ok(())
    }
}
