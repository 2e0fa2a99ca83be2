//! Issuers and rules for CI jobs: as code, listed, removed, and explained for a token.

use crate::{
    app::{
        App, Origin,
        apply::{PlannedLine, line},
        error::Error,
        sign_in_job::address,
    },
    document,
    domain::{
        audit::Event,
        ci::{
            IssuerSpec, TokenReview,
            explanation::TokenExplanation,
            rule::{self, RuleSpec},
            system::cut,
        },
        name::Name,
        plan::{self, Action, Change, Desired},
    },
    identity::{Admin, issuers, job, jwt::Unverified, token_review},
    store::{self, Tx},
};

impl App {
    /// What a file changes of whose CI jobs are let in.
    pub(in crate::app) async fn ci_lines(
        &self,
        desired: &Desired,
    ) -> Result<Vec<PlannedLine>, Error> {
        if desired.issuers.is_empty() && desired.ci_rules.is_empty() {
            return Ok(Vec::new());
        }
        let (issuers, rules) = (self.store.issuers().await?, self.store.ci_rules().await?);
        let mut lines = Vec::new();
        for spec in &desired.issuers {
            lines.push(line("issuer", spec.name.as_str(), issuer_change(spec, &issuers)));
        }
        for spec in &desired.ci_rules {
            let issuer = desired.issuers.iter().find(|issuer| issuer.name == spec.issuer);
            let notes = issuer.map(|issuer| rule::notes(spec, issuer.kind)).unwrap_or_default();
            let change = rule_change(spec, &rules);
            lines.push(PlannedLine { notes, ..line("ci", spec.name.as_str(), change) });
        }
        Ok(lines)
    }

    /// Why this daemon does not ask there, in words. A file names the cluster and the token for it; only the
    /// daemon's own configuration says which token may go where.
    pub(in crate::app) fn review_fault(&self, review: &TokenReview) -> Option<String> {
        let TokenReview { url, token_file, .. } = review;
        let allowed = self.token_reviews.iter().any(|(to, file)| (to, file) == (url, token_file));
        (!allowed).then(|| format!(
            "this daemon does not send {token_file} to {url}: its own configuration must say so, `[[token_review]] url = {url:?}, token_file = {token_file:?}`"
        ))
    }

    /// Asks the cluster whether it still stands by a token.
    ///
    /// # Errors
    /// If it cannot be asked.
    pub(in crate::app) async fn review(
        &self,
        review: &TokenReview,
        token: &str,
        audiences: &[String],
    ) -> Result<Result<(), String>, issuers::Error> {
        match self.review_fault(review) {
            Some(why) => Err(issuers::Error::Unusable { url: review.url.clone(), why }),
            None => token_review::review(review, token, audiences).await,
        }
    }

    /// Records them.
    pub(in crate::app) async fn write_ci(
        &self,
        tx: &mut Tx,
        admin: &Admin<'_>,
        origin: &Origin,
        desired: &Desired,
    ) -> Result<Vec<PlannedLine>, Error> {
        let lines = self.ci_lines(desired).await?;
        let now = self.clock.now();
        for line in lines.iter().filter(|line| line.action != Action::Keep) {
            let changed = line.changed.iter().map(|word| (*word).to_owned()).collect();
            let name = line.name.clone();
            let issuer = desired.issuers.iter().find(|spec| spec.name.as_str() == line.name);
            let rule = desired.ci_rules.iter().find(|spec| spec.name.as_str() == line.name);
            let event = match (line.what, issuer, rule) {
                ("issuer", Some(spec), _) => {
                    tx.put_issuer(spec).await.map_err(|e| url_taken(e, spec))?;
                    match line.action {
                        Action::Create => {
                            Event::IssuerCreated { issuer: name, url: spec.url.clone() }
                        }
                        _ => Event::IssuerChanged { issuer: name, changed },
                    }
                }
                (_, _, Some(spec)) => {
                    let issuer = desired.issuers.iter().find(|issuer| issuer.name == spec.issuer);
                    let Some(issuer) = issuer else { continue };
                    tx.put_ci_rule(spec, issuer, now).await?;
                    match line.action {
                        Action::Create => Event::CiRuleCreated { rule: name },
                        _ => Event::CiRuleChanged { rule: name, changed },
                    }
                }
                _ => continue,
            };
            tx.audit(&origin.entry(admin, now, event)).await?;
        }
        Ok(lines)
    }

    /// Whose CI jobs are let in: the issuers, and the rules.
    ///
    /// # Errors
    /// If our database does not answer.
    pub async fn ci_rules(&self, _: &Admin<'_>) -> Result<(Vec<IssuerSpec>, Vec<RuleSpec>), Error> {
        Ok((self.store.issuers().await?, self.store.ci_rules().await?))
    }

    /// Removes a rule: no token meets it from now on, on any daemon. Leases that its jobs have live on until they
    /// end or are revoked.
    ///
    /// # Errors
    /// If there is none of that name.
    pub async fn remove_ci_rule(
        &self,
        admin: &Admin<'_>,
        origin: &Origin,
        name: &Name,
    ) -> Result<(), Error> {
        let mut tx = self.store.begin().await?;
        if !tx.remove_ci_rule(name).await? {
            let names = self.store.ci_rules().await?;
            return Err(not_found("rule for CI jobs", name, names.iter().map(|rule| &rule.name)));
        }
        let event = Event::CiRuleRemoved { rule: name.to_string() };
        self.removed(tx, admin, origin, event).await
    }

    /// Removes an issuer that has no rules any more.
    ///
    /// # Errors
    /// If there is none of that name, or it has rules.
    pub async fn remove_issuer(
        &self,
        admin: &Admin<'_>,
        origin: &Origin,
        name: &Name,
    ) -> Result<(), Error> {
        let mut tx = self.store.begin().await?;
        match tx.remove_issuer(name).await {
            Ok(true) => {}
            Ok(false) => {
                let names = self.store.issuers().await?;
                return Err(not_found("issuer", name, names.iter().map(|issuer| &issuer.name)));
            }
            Err(e) if e.is_constraint("ci_rule_issuer") => {
                let detail = format!(
                    "issuer `{name}` has rules: remove them first (`pgvalet ci rules` lists them)"
                );
                return Err(Error::Conflict { code: "issuer_in_use", detail });
            }
            Err(e) => return Err(e.into()),
        }
        self.removed(tx, admin, origin, Event::IssuerRemoved { issuer: name.to_string() }).await
    }

    async fn removed(
        &self,
        mut tx: Tx,
        admin: &Admin<'_>,
        origin: &Origin,
        event: Event,
    ) -> Result<(), Error> {
        tx.audit(&origin.entry(admin, self.clock.now(), event)).await?;
        tx.commit().await?;
        self.nudges.audit.notify_one();
        Ok(())
    }

    /// Says of a token what is wrong with it, and which rules it meets, matcher by matcher. It is not spent.
    ///
    /// # Errors
    /// If our database does not answer.
    pub async fn explain_token(
        &self,
        _: &Admin<'_>,
        token: &str,
    ) -> Result<TokenExplanation, Error> {
        let token = token.trim();
        let unverified = match Unverified::read(token) {
            Ok(unverified) => unverified,
            Err(fault) => {
                return Ok(unknown(fault.to_string(), "it is refused before it is looked at"));
            }
        };
        let issuer = &unverified.issuer;
        let Some(known) = self.store.issuer_of(issuer).await? else {
            let fault = format!("its issuer is `{}`", cut(issuer));
            let urls: Vec<String> =
                self.store.issuers().await?.into_iter().map(|issuer| issuer.url).collect();
            let near = document::nearest(issuer, urls.iter().map(String::as_str));
            let verdict = match near {
                Some(near) => format!("no [issuer] has that url, to the letter; `{near}` is near"),
                None => "no [issuer] has that url, to the letter".to_owned(),
            };
            return Ok(unknown(fault, &verdict));
        };
        let keys = self.issuers.keys(&address(&known.spec), unverified.key_id.as_deref()).await;
        let keys = keys.as_ref().map(|keys| keys.as_slice()).map_err(ToString::to_string);
        let rules = known.rules.iter().map(|(rule, _)| rule);
        let mut faults = Vec::new();
        if let Some(review) = &known.spec.token_review {
            let audiences = job::audiences(&known.spec, rules.clone());
            match self.review(review, token, &audiences).await {
                Ok(Ok(())) => {}
                Ok(Err(why)) => faults.push(format!("the cluster does not stand by it: {why}")),
                Err(error) => faults.push(format!("the cluster could not be asked: {error}")),
            }
        }
        Ok(job::explain(token, keys, &known.spec, rules, self.clock.now(), faults))
    }
}

fn unknown(fault: String, verdict: &str) -> TokenExplanation {
    TokenExplanation {
        issuer: None,
        faults: vec![fault],
        rules: Vec::new(),
        principal: None,
        job: None,
        verdict: verdict.to_owned(),
    }
}

fn issuer_change(spec: &IssuerSpec, recorded: &[IssuerSpec]) -> Change {
    plan::issuer_change(spec, recorded.iter().find(|one| one.name == spec.name))
}

fn rule_change(spec: &RuleSpec, recorded: &[RuleSpec]) -> Change {
    plan::ci_rule_change(spec, recorded.iter().find(|one| one.name == spec.name))
}

fn not_found<'a>(what: &'static str, name: &Name, names: impl Iterator<Item = &'a Name>) -> Error {
    let near = document::nearest(name.as_str(), names.map(Name::as_str)).map(str::to_owned);
    Error::NotFound { what, name: name.to_string(), near }
}

fn url_taken(error: store::error::Error, spec: &IssuerSpec) -> Error {
    if !error.is_constraint("issuer_url") {
        return error.into();
    }
    let detail = format!(
        "another issuer has the url {}: write its rules under that one, with an audience of their own if need be",
        spec.url
    );
    Error::Conflict { code: "issuer_url_taken", detail }
}
