//! What a step of GitHub Actions reads: masks, and values with their names.
//!
//! The runner hides what it was told to hide, letter by letter, from then on: so each way in which the secret
//! may come to be written has a mask of its own, and masks come before anything else.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{
    cli::format::{
        Access, CannotWrite,
        escape::{libpq_quoted, percent, shell_quoted},
        files::password_field,
    },
    secret::Secret,
};

impl Access<'_> {
    /// The commands with which the runner hides every rendering of the password, for standard output.
    #[must_use]
    pub fn github_masks(&self) -> Secret<String> {
        let (user, password) = (&self.credential.user, self.credential.password.expose());
        let renderings = [
            self.uri(),
            self.jdbc(),
            self.keywords(),
            password.clone(),
            percent(password),
            libpq_quoted(password),
            shell_quoted(password),
            password_field(password),
            // As JSON has it between its quotes.
            serde_json::json!(password).to_string().trim_matches('"').to_owned(),
            STANDARD.encode(password),
            STANDARD.encode(format!("{user}:{password}")),
        ];
        // The runner looks at one line at a time.
        let mut lines: Vec<&str> = Vec::new();
        for line in renderings.iter().flat_map(|text| text.split(['\n', '\r'])) {
            // A mask of nothing, or of a single letter, would hide the log.
            if line.chars().count() > 1 && !lines.contains(&line) {
                lines.push(line);
            }
        }
        let commands =
            lines.into_iter().map(|line| format!("::add-mask::{}\n", command_data(line)));
        Secret::new(commands.collect())
    }

    /// What goes to `$GITHUB_ENV`, for the steps that follow.
    pub(super) fn github_environment(&self) -> Result<String, CannotWrite> {
        let own = [("DATABASE_URL", self.uri()), ("PGVALET_LEASE_ID", self.lease_id.to_string())];
        let own = own.map(|(name, value)| (name, Secret::new(value)));
        let mut text = String::new();
        for (name, value) in self.variables().iter().chain(&own) {
            text.push_str(&self.entry(name, value.expose())?);
        }
        // Whoever writes it ends it with a newline.
        text.truncate(text.trim_end_matches('\n').len());
        Ok(text)
    }

    /// What goes to `$GITHUB_OUTPUT`: nothing that is secret.
    ///
    /// # Errors
    /// None that an id or an instant could give rise to.
    pub fn github_output(&self) -> Result<String, CannotWrite> {
        let (id, ends) = (self.lease_id.to_string(), self.ends());
        Ok(self.entry("lease-id", &id)? + &self.entry("expires-at", &ends)?)
    }

    /// A name and its value up to a line that does not occur in it: anything else would let a value that
    /// holds a line break set variables of its own.
    fn entry(&self, key: &'static str, value: &str) -> Result<String, CannotWrite> {
        if value.contains(['\r', '\0']) {
            let why = "the runner drops carriage returns, and variables hold no zero byte";
            return Err(CannotWrite { key, format: "github", why });
        }
        let mut end = format!("end_of_{key}_{}", self.lease_id);
        while value.contains(&end) {
            end.push('_');
        }
        Ok(format!("{key}<<{end}\n{value}\n{end}\n"))
    }
}

/// What stands behind `::add-mask::`: the runner reads these three back.
fn command_data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}
