//! The settings in force, for people: in the form of the file, with nothing secret in it.

use std::fmt::Write;

use crate::config::{Config, notices::write_topics};

impl Config {
    /// The settings in force as the text of a file. What is secret reads `(set)`, in a comment.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail, so there is no error to hand on.
        let _ = self.write_to(&mut text);
        text
    }

    fn write_to(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "listen = \"{}\"", self.listen)?;
        writeln!(out, "allow_plaintext = {}", self.allow_plaintext)?;
        match &self.public_url {
            Some(url) => writeln!(out, "public_url = {url:?}")?,
            None => writeln!(out, "# public_url is not set")?,
        }
        let proxies: Vec<_> = self.trusted_proxies.iter().map(ToString::to_string).collect();
        writeln!(out, "trusted_proxies = {proxies:?}")?;
        writeln!(out, "data_dir = {:?}", self.data_dir)?;
        match &self.postgres_dir {
            Some(dir) => writeln!(out, "postgres_dir = {dir:?}")?,
            None => writeln!(out, "# postgres_dir is not set: the programs are looked for")?,
        }
        self.write_tls(out)?;
        writeln!(out, "\n[state]")?;
        match &self.state.url {
            Some(_) => writeln!(out, "# url = (set)")?,
            None => writeln!(out, "# url is not set: a private PostgreSQL in data_dir")?,
        }
        writeln!(out, "max_connections = {}", self.state.max_connections)?;
        writeln!(out, "\n[master_key]")?;
        match &self.master_keys {
            Some(keys) => {
                let ids: Vec<_> =
                    keys.all().map(|key| format!("{:08x}", u32::from_be_bytes(key.id))).collect();
                writeln!(out, "# (set) ids: {}; the first one seals", ids.join(", "))?;
            }
            None => writeln!(out, "# not set")?,
        }
        let (log, lease, http) = (&self.log, &self.lease, &self.http);
        let words = humantime::format_duration;
        writeln!(out, "\n[log]\nformat = \"{}\"\nfilter = {:?}", log.format.word(), log.filter)?;
        writeln!(out, "\n[lease]\nrotation_grace = \"{}\"", words(lease.rotation_grace))?;
        writeln!(out, "issue_deadline = \"{}\"", words(lease.issue_deadline))?;
        writeln!(out, "nudge = {:?}", lease.nudge)?;
        match lease.max_live_per_caller {
            Some(most) => writeln!(out, "max_live_per_caller = {most}")?,
            None => writeln!(out, "# max_live_per_caller is not set: as many as will")?,
        }
        writeln!(out, "\n[sweep]\nschedule = {:?}", self.sweep.schedule)?;
        writeln!(out, "orphan_grace = \"{}\"", words(self.sweep.orphan_grace))?;
        writeln!(out, "\n[drift]\nschedule = {:?}", self.drift.schedule)?;
        self.write_review(out)?;
        let most = self.throttle.failures_per_minute;
        writeln!(out, "\n[throttle]\nfailures_per_minute = {most}")?;
        self.write_people(out)?;
        self.notices.write_to(out)?;
        self.write_slack(out)?;
        writeln!(out, "\n[http]\nrequest_timeout = \"{}\"", words(http.request_timeout))?;
        writeln!(out, "max_body_bytes = {}", http.max_body_bytes)?;
        writeln!(out, "shutdown_deadline = \"{}\"", words(http.shutdown_deadline))?;
        for (url, file) in &self.token_reviews {
            writeln!(out, "\n[[token_review]]\nurl = {url:?}\ntoken_file = {file:?}")?;
        }
        let targets = &self.targets;
        writeln!(out, "\n[targets]\npassword_commands = {:?}", targets.password_commands)?;
        writeln!(out, "password_folders = {:?}", targets.password_folders)?;
        let handed: Vec<_> =
            targets.password_command_environment.iter().map(|(name, _)| name).collect();
        writeln!(out, "password_command_environment = {handed:?}")?;
        match &targets.aws {
            Some(aws) => writeln!(out, "# AWS access key: {}", aws.id)?,
            None => writeln!(out, "# no AWS credentials")?,
        }
        self.write_telemetry(out)
    }

    fn write_tls(&self, out: &mut String) -> std::fmt::Result {
        let Some(tls) = &self.tls else {
            return writeln!(out, "\n# [tls] is not set: plain HTTP");
        };
        writeln!(out, "\n[tls]\ncert = {:?}\nkey = {:?}", tls.cert, tls.key)?;
        // Read again, as it was for the check.
        if let Ok(made) = tls.read().and_then(|files| tls.make(&files)) {
            let words = made.ends_at.format("%Y-%m-%d %H:%M UTC");
            writeln!(out, "# the certificate ends at {words}")?;
        }
        let Some(clients) = &tls.clients else {
            return writeln!(out, "# client_ca is not set: clients are not asked for certificates");
        };
        writeln!(out, "client_ca = {:?}", clients.authorities)?;
        match &clients.revoked {
            Some(file) => writeln!(out, "client_crl = {file:?}")?,
            None => writeln!(out, "# client_crl is not set: no revoked certificate is known")?,
        }
        writeln!(out, "client_certificates = {:?}", clients.rule.word())
    }

    fn write_review(&self, out: &mut String) -> std::fmt::Result {
        let (review, words) = (&self.review, humantime::format_duration);
        writeln!(out, "\n[review]\nschedule = \"{}\"", review.schedule)?;
        match &review.reviewers {
            Some(rules) => {
                let rules: Vec<_> = rules.iter().map(ToString::to_string).collect();
                writeln!(out, "reviewers = {rules:?}")?;
            }
            None => writeln!(out, "# reviewers is not set: those with the right `roles`")?,
        }
        writeln!(out, "due_after = \"{}\"", words(review.due_after))?;
        writeln!(out, "announce_before = \"{}\"", words(review.announce_before))?;
        writeln!(out, "on_due = \"{}\"", review.on_due.as_str())
    }

    fn write_people(&self, out: &mut String) -> std::fmt::Result {
        let words = humantime::format_duration;
        writeln!(out, "\n[tokens]\nmax_ttl = \"{}\"", words(self.tokens.max_ttl))?;
        let Some(oidc) = &self.oidc else {
            return writeln!(out, "\n# [oidc] is not set: people sign in with tokens alone");
        };
        writeln!(out, "\n[oidc]\nissuer = {:?}\nclient_id = {:?}", oidc.issuer, oidc.client_id)?;
        let secret = if oidc.client_secret.is_some() { "= (set)" } else { "is not set" };
        writeln!(out, "# client_secret {secret}")?;
        writeln!(out, "scopes = {:?}", oidc.scopes)?;
        writeln!(out, "subject_claim = {:?}", oidc.subject_claim)?;
        writeln!(out, "name_claim = {:?}", oidc.name_claim)?;
        writeln!(out, "groups_claim = {:?}", oidc.groups_claim)?;
        writeln!(out, "recheck = \"{}\"", words(oidc.recheck))?;
        writeln!(out, "believed_for = \"{}\"", words(oidc.believed_for))?;
        writeln!(out, "revoke_leases = {}", oidc.revoke_leases)?;
        for (name, lengths) in [("browser", oidc.browser), ("command_line", oidc.command_line)] {
            let (absolute, idle) = (words(lengths.absolute), words(lengths.idle));
            writeln!(out, "{name} = {{ absolute = \"{absolute}\", idle = \"{idle}\" }}")?;
        }
        if let Some(groups) = &oidc.groups {
            writeln!(out, "\n[oidc.groups]")?;
            groups
                .iter()
                .try_for_each(|(theirs, ours)| writeln!(out, "{theirs:?} = \"{ours}\""))?;
        }
        if !oidc.claims.is_empty() {
            writeln!(out, "\n[oidc.claims]")?;
            oidc.claims
                .iter()
                .try_for_each(|(ours, theirs)| writeln!(out, "{ours} = {theirs:?}"))?;
        }
        Ok(())
    }

    fn write_slack(&self, out: &mut String) -> std::fmt::Result {
        let Some(slack) = &self.slack else {
            return writeln!(out, "\n# [slack] is not set: nobody asks or agrees through Slack");
        };
        writeln!(out, "\n[slack]\nteams = {:?}\nchannel = {:?}", slack.teams, slack.channel)?;
        write_topics(out, Some(&slack.topics))?;
        writeln!(out, "# signing_secret = (set)\n# bot_token = (set)")?;
        let every = humantime::format_duration(slack.sign_in_every);
        writeln!(out, "sign_in_every = \"{every}\"")?;
        match slack.hosts.simulator() {
            Some(api) => writeln!(out, "api_url = {api:?}"),
            None => writeln!(out, "# api_url is not set: Slack itself"),
        }
    }

    fn write_telemetry(&self, out: &mut String) -> std::fmt::Result {
        let telemetry = &self.telemetry;
        writeln!(out, "\n[metrics]")?;
        match telemetry.metrics_listen {
            Some(listen) => writeln!(out, "listen = \"{listen}\"")?,
            None => writeln!(out, "# listen is not set: /metrics is on the API's own address")?,
        }
        writeln!(out, "\n[audit_log]\nstdout = {}", self.audit_log.stdout)?;
        match &self.audit_log.file {
            Some(file) => writeln!(out, "file = {file:?}")?,
            None => writeln!(out, "# file is not set")?,
        }
        writeln!(out, "\n# OpenTelemetry, from OTEL_EXPORTER_OTLP_ENDPOINT and its kin:")?;
        for (signal, target) in [
            ("traces", &telemetry.traces),
            ("metrics", &telemetry.metrics),
            ("logs", &telemetry.logs),
        ] {
            let url = target.as_ref().map_or("not sent", |target| target.url.as_str());
            writeln!(out, "# {signal}: {url}")?;
        }
        Ok(())
    }
}
