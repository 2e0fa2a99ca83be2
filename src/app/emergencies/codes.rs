//! Sealed codes: made for a person by somebody else, shown once, kept as hashes, replaced as a set.
//!
//! Nobody makes codes for themselves. They open without a sign-in and outlive every session, so that whoever took
//! over a session could make a way in that stays when the session is ended; and two people are then needed, of
//! whom neither closes the review of what is done with a code.

use chrono::TimeDelta;

use crate::{
    app::{App, Origin, error::Error},
    domain::{
        access::Fault,
        audit::Event,
        duration::Seconds,
        name::Name,
        principal::{Kind, Principal, PrincipalName},
        profile::Preset,
    },
    identity::{Admin, code},
    ids::PrincipalId,
    secret::Secret,
    store::emergency_codes::{CodeSet, NewCode, SetTerms},
};

/// How many a set has when nobody says.
pub const USUAL_COUNT: i32 = 10;

/// How many it has at most: each is hashed slowly, and a sheet of paper holds no more that are looked after.
const MOST: i32 = 50;

/// How long codes hold when nobody says: until somebody next looks whether they are where they should be.
const USUAL_TTL: TimeDelta = TimeDelta::days(90);

/// A wish for a set of codes.
#[derive(Debug)]
pub struct CodesWish {
    /// Whose they are to be.
    pub person: PrincipalName,
    /// How many.
    pub count: Option<i32>,
    /// The only profiles that they open; any of the preset, if empty.
    pub profiles: Vec<Name>,
    /// For how long.
    pub ttl: Option<Seconds>,
}

/// New codes.
#[derive(Debug)]
pub struct NewCodes {
    /// The set, as it is listed.
    pub set: CodeSet,
    /// What to hand out, once.
    pub codes: Vec<Secret<String>>,
    /// How many of before hold no more.
    pub replaced: u64,
}

impl App {
    /// The sets of codes that hold.
    ///
    /// # Errors
    /// If our database does not answer.
    pub async fn code_sets(&self, _: &Admin<'_>) -> Result<Vec<CodeSet>, Error> {
        Ok(self.store.code_sets(self.clock.now()).await?)
    }

    /// Makes a set of codes for a person, in place of those of before.
    ///
    /// # Errors
    /// If the wish is not sound, or is for the caller itself.
    pub async fn make_codes(
        &self,
        admin: &Admin<'_>,
        origin: &Origin,
        wish: CodesWish,
    ) -> Result<NewCodes, Error> {
        let (count, length) = self.checked_codes(&wish).await?;
        let missing = || Error::not_found("person", wish.person.to_string());
        let shut_out = |person: &Principal| {
            let detail = format!("{person} is shut out: their codes would open nothing");
            Error::Conflict { code: "person_disabled", detail }
        };
        let (person, disabled) =
            self.store.principal_named(&wish.person).await?.ok_or_else(missing)?;
        if disabled {
            return Err(shut_out(&person));
        }
        if person.id == admin.principal().id {
            return Err(Error::Conflict {
                code: "codes_for_oneself",
                detail: "codes open without a sign-in and outlive your session: somebody else makes yours, as you may make theirs".to_owned(),
            });
        }
        let minted = code::mint(&self.tokens, count).await?;
        let now = self.clock.now();
        let terms = SetTerms {
            principal: person.id,
            profiles: &wish.profiles,
            made_by: admin.principal().id,
            ends_at: now + length,
        };
        let new: Vec<NewCode<'_>> = minted
            .iter()
            .map(|code| NewCode { id: code.id, number: code.number, hash: &code.hash })
            .collect();
        let mut tx = self.store.begin().await?;
        // One set at a time: of two, the later one replaces the other. And none for, nor by, whoever is shut out
        // meanwhile: it would not be withdrawn with the others.
        let locked = tx.lock_principals(&[terms.made_by, person.id]).await?;
        let is_let_in =
            |id| locked.iter().any(|(principal, disabled)| principal.id == id && !disabled);
        if !is_let_in(terms.made_by) {
            return Err(Error::TokenRefused);
        }
        if !is_let_in(person.id) {
            return Err(shut_out(&person));
        }
        let replaced = tx.withdraw_codes(person.id).await?;
        tx.create_codes(terms, &new, now).await?;
        let event = Event::EmergencyCodesMade {
            principal_id: person.id,
            principal: person.to_string(),
            count: new.len(),
            profiles: wish.profiles.iter().map(Name::to_string).collect(),
            ends_at: terms.ends_at,
        };
        tx.audit(&origin.entry(admin, now, event)).await?;
        tx.commit().await?;
        self.nudges.audit.notify_one();
        let made = i64::from(count);
        let set = CodeSet {
            principal_id: person.id,
            principal: person.to_string(),
            made,
            left: made,
            profiles: wish.profiles.iter().map(Name::to_string).collect(),
            made_by: admin.principal().to_string(),
            created_at: now,
            ends_at: terms.ends_at,
        };
        Ok(NewCodes { set, codes: minted.into_iter().map(|code| code.text).collect(), replaced })
    }

    /// Withdraws the codes of a person. To withdraw none is no error.
    ///
    /// # Errors
    /// If our database does not answer.
    pub async fn withdraw_codes(
        &self,
        admin: &Admin<'_>,
        origin: &Origin,
        id: PrincipalId,
    ) -> Result<(), Error> {
        let mut tx = self.store.begin().await?;
        let locked = tx.lock_principal(id).await?;
        let (person, _) = locked.ok_or_else(|| Error::not_found("principal", id.to_string()))?;
        let count = tx.withdraw_codes(id).await?;
        if count == 0 {
            return Ok(());
        }
        let principal = person.to_string();
        let event = Event::EmergencyCodesWithdrawn { principal_id: id, principal, count };
        tx.audit(&origin.entry(admin, self.clock.now(), event)).await?;
        tx.commit().await?;
        self.nudges.audit.notify_one();
        Ok(())
    }

    async fn checked_codes(&self, wish: &CodesWish) -> Result<(i32, TimeDelta), Error> {
        let mut faults = Vec::new();
        let mut fault = |field: &'static str, message: String| {
            faults.push(Fault { field: field.into(), message });
        };
        let count = wish.count.unwrap_or(USUAL_COUNT);
        if !(1..=MOST).contains(&count) {
            fault("count", format!("must be 1 to {MOST}"));
        }
        if wish.person.kind != Kind::Person {
            fault("person", "codes are typed by people: write `person:NAME`".to_owned());
        }
        let length = wish.ttl.map_or_else(|| USUAL_TTL.min(self.longest_token), |ttl| ttl.delta());
        if length > self.longest_token {
            let days = self.longest_token.num_days();
            fault(
                "ttl",
                format!(
                    "nothing that lets somebody in lasts longer than {days} days here: write {days}d or less"
                ),
            );
        }
        for name in &wish.profiles {
            match self.store.profile(name).await? {
                Some(profile) if profile.spec.preset == Preset::BreakGlass => {}
                Some(_) => fault(
                    "profiles",
                    format!("`{name}` is no profile for emergencies (preset `break-glass`)"),
                ),
                None => fault("profiles", format!("there is no profile `{name}`")),
            }
        }
        if faults.is_empty() { Ok((count, length)) } else { Err(Error::Invalid(faults)) }
    }
}
