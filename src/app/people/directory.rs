//! Whom pgvalet knows, for administrators: listed, shown, linked to the identities that others vouch for, given
//! groups. Nobody gives away more rights than they hold.

use crate::{
    app::{App, Origin, error::Error},
    domain::{
        administration::{Right, Scopes},
        audit::Event,
        name::Name,
        person::{LONGEST_USER_NAME, Which, may_be_linked},
        principal::{LOCAL_ISSUER, Principal, PrincipalName},
        slack,
    },
    identity::{Admin, Caller},
    ids::PrincipalId,
    store::{
        Tx,
        identities::{Identity, KNOWN_AS},
        people::{ListedPrincipal, PrincipalChange, PrincipalFilter},
    },
};

impl App {
    /// A page of principals, newest first.
    ///
    /// # Errors
    /// If our database does not answer.
    pub async fn principals(
        &self,
        _admin: &Admin<'_>,
        filter: PrincipalFilter,
        limit: i64,
    ) -> Result<Vec<ListedPrincipal>, Error> {
        Ok(self.store.principals(&filter, self.clock.now(), limit).await?)
    }

    /// One principal, and by what it is known.
    ///
    /// # Errors
    /// If there is none.
    pub async fn principal(
        &self,
        _admin: &Admin<'_>,
        id: PrincipalId,
    ) -> Result<(ListedPrincipal, Vec<Identity>), Error> {
        let filter = PrincipalFilter { id: Some(id), ..PrincipalFilter::default() };
        let found = self.store.principals(&filter, self.clock.now(), 1).await?.pop();
        let found = found.ok_or_else(|| Error::not_found("principal", id.to_string()))?;
        Ok((found, self.store.identities_of(id).await?))
    }

    /// The id of the principal that is meant.
    ///
    /// # Errors
    /// If there is none.
    pub async fn find_principal(&self, which: &Which) -> Result<PrincipalId, Error> {
        match which {
            Which::Id(id) => Ok(*id),
            Which::Named(name) => {
                let found = self.store.principal_named(name).await?;
                let (principal, _) =
                    found.ok_or_else(|| Error::not_found("principal", name.to_string()))?;
                Ok(principal.id)
            }
        }
    }

    /// Says that a person is the one that an issuer vouches for.
    ///
    /// # Errors
    /// If there is no such person, or the identity is somebody else's.
    pub async fn link_identity(
        &self,
        admin: &Admin<'_>,
        origin: &Origin,
        id: PrincipalId,
        (issuer, subject): (&str, &str),
    ) -> Result<(), Error> {
        for (field, text) in [("issuer", issuer), ("subject", subject)] {
            if text.is_empty() || text.len() > LONGEST_USER_NAME || text.contains(char::is_control)
            {
                let message = format!(
                    "write it as the provider's tokens have it, one line of at most {LONGEST_USER_NAME} bytes"
                );
                return Err(Error::invalid(field, message));
            }
        }
        if issuer.starts_with(slack::ISSUER) {
            let message = "an account at Slack is linked by its person alone, who writes `/pgvalet mine` there and signs in";
            return Err(Error::invalid("issuer", message));
        }
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        let (principal, _) = tx
            .lock_principal(id)
            .await?
            .ok_or_else(|| Error::not_found("principal", id.to_string()))?;
        if !may_be_linked(principal.kind) {
            let message =
                format!("{principal} is no person: services have tokens, CI jobs have rules");
            return Err(Error::invalid("principal", message));
        }
        self.refuse_beyond(&mut tx, (admin, origin), &principal).await?;
        match tx.add_identity((issuer, subject), id, None, now).await {
            Ok(()) => {}
            Err(e) if e.is_constraint(KNOWN_AS) => {
                return Err(Error::Conflict {
                    code: "identity_taken",
                    detail: format!(
                        "`{subject}` of {issuer} is known here already, as this person or another: unlink it there first"
                    ),
                });
            }
            Err(e) => return Err(e.into()),
        }
        let event = Event::IdentityAdded {
            principal_id: id,
            principal: principal.to_string(),
            issuer: issuer.to_owned(),
            subject: subject.to_owned(),
        };
        tx.audit(&origin.entry(admin, now, event)).await?;
        tx.commit().await?;
        self.nudges.audit.notify_one();
        Ok(())
    }

    /// Says that a person is not the one that an issuer vouches for. Sessions that were opened by it end.
    ///
    /// # Errors
    /// If the person is not known by it.
    pub async fn unlink_identity(
        &self,
        admin: &Admin<'_>,
        origin: &Origin,
        id: PrincipalId,
        (issuer, subject): (&str, &str),
    ) -> Result<(), Error> {
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        let (principal, _) = tx
            .lock_principal(id)
            .await?
            .ok_or_else(|| Error::not_found("principal", id.to_string()))?;
        if !tx.remove_identity((issuer, subject), id).await? {
            return Err(Error::not_found("identity", subject));
        }
        let event = Event::IdentityRemoved {
            principal_id: id,
            principal: principal.to_string(),
            issuer: issuer.to_owned(),
            subject: subject.to_owned(),
        };
        let author = crate::app::Author::Caller(origin, admin);
        tx.audit(&author.entry(now, event)).await?;
        self.end_sessions_of(&mut tx, author, &principal).await?;
        tx.commit().await?;
        self.nudges.audit.notify_one();
        Ok(())
    }

    /// Sets the groups that a principal is given here; those of its provider stay.
    ///
    /// # Errors
    /// If there is none.
    pub async fn set_groups(
        &self,
        admin: &Admin<'_>,
        origin: &Origin,
        id: PrincipalId,
        groups: &[Name],
    ) -> Result<(), Error> {
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        let locked = tx.lock_principal(id).await?;
        let (before, _) = locked.ok_or_else(|| Error::not_found("principal", id.to_string()))?;
        tx.set_groups(id, groups).await?;
        let changed = tx.lock_principal(id).await?;
        let (principal, _) =
            changed.ok_or_else(|| Error::not_found("principal", id.to_string()))?;
        self.refuse_beyond(&mut tx, (admin, origin), &principal).await?;
        let event = Event::PrincipalGroups {
            principal_id: id,
            principal: principal.to_string(),
            groups: groups.iter().map(ToString::to_string).collect(),
        };
        tx.audit(&origin.entry(admin, now, event)).await?;
        self.review_moved(&mut tx, &before, &principal).await?;
        tx.commit().await?;
        self.nudges.audit.notify_one();
        Ok(())
    }

    /// Finds or records a principal of ours, and changes what is asked for, within a transaction.
    pub(in crate::app) async fn record_principal(
        &self,
        tx: &mut Tx,
        (caller, origin): (&Caller, &Origin),
        name: &PrincipalName,
        change: &PrincipalChange,
    ) -> Result<Principal, Error> {
        let before = tx.principal_named(name).await?;
        let (kind, subject, now) = (name.kind, &name.subject, self.clock.now());
        let principal = tx.ensure_principal(LOCAL_ISSUER, kind, subject, change, now).await?;
        self.refuse_beyond(tx, (caller, origin), &principal).await?;
        if let Some((before, _)) = before {
            self.review_moved(tx, &before, &principal).await?;
        }
        Ok(principal)
    }

    /// Whoever looks after people must not become more than they are through one of them: what lets somebody act
    /// as a principal, or gives it groups, takes all the rights that the principal then holds.
    async fn refuse_beyond(
        &self,
        tx: &mut Tx,
        (caller, origin): (&Caller, &Origin),
        principal: &Principal,
    ) -> Result<(), Error> {
        let administration = tx.administration().await?;
        let theirs = administration.rights_of(principal, &Scopes(None));
        let beyond: Option<Right> = theirs.iter().find(|right| !caller.may(*right));
        match beyond {
            None => Ok(()),
            Some(right) => {
                let what = "acting for somebody who holds more rights than you do";
                self.admin(caller, origin, (&[right], what)).await.map(drop)
            }
        }
    }
}
