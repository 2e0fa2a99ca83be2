//! What of the daemon's machine targets may be signed in with: `[targets]`, and AWS' own variables.
//!
//! A target's administrator may get its password from a program or a file here, named by whoever may change
//! targets. Which ones may be named is only this configuration's to say.

use std::path::PathBuf;

use crate::{
    config::environment::Environment,
    document::{Fault, Faults, Table},
    secret::Secret,
};

/// What of the daemon's machine targets may be signed in with.
#[derive(Debug, Default)]
pub struct TargetsConfig {
    /// The programs that may be run, by their whole paths.
    pub password_commands: Vec<PathBuf>,
    /// The variables that they are run with, beside the few that each has.
    pub password_command_environment: Vec<(String, Secret<String>)>,
    /// The folders below which files may be read.
    pub password_folders: Vec<PathBuf>,
    /// What tokens for AWS are signed with.
    pub aws: Option<AwsCredentials>,
}

/// AWS credentials, from the environment as AWS' own programs have them.
#[derive(Debug)]
pub struct AwsCredentials {
    /// The id of the access key.
    pub id: String,
    /// The access key.
    pub secret: Secret<String>,
    /// The token of a session, if the key is one's.
    pub session: Option<Secret<String>>,
}

/// What the file says.
#[derive(Default)]
pub(crate) struct Written {
    commands: Vec<PathBuf>,
    folders: Vec<PathBuf>,
    variables: Vec<String>,
}

/// Reads `[targets]`.
pub(crate) fn read(mut table: Table) -> Written {
    let paths = |table: &mut Table, key| {
        let mut kept = Vec::new();
        for path in table.strings(key).unwrap_or_default() {
            if path.starts_with('/') && !path.split('/').any(|part| part == "..") {
                kept.push(PathBuf::from(path));
            } else {
                table.fault(
                    key,
                    &format!("{path:?} is no whole path; write one from `/` on, without `..`"),
                );
            }
        }
        kept
    };
    let commands = paths(&mut table, "password_commands");
    let folders = paths(&mut table, "password_folders");
    let key = "password_command_environment";
    let variables = table.strings(key).unwrap_or_default();
    for name in variables.iter().filter(|name| name.starts_with("PGVALET_") || name.contains('=')) {
        table.fault(key, &format!("{name:?} is not handed to other programs; write the name of a variable that is not ours"));
    }
    Written { commands, folders, variables }
}

/// What is in force.
pub(crate) fn overlay(
    file: &str,
    written: Written,
    environment: &mut Environment,
    faults: &mut Faults,
) -> TargetsConfig {
    let mut variables = Vec::new();
    for name in written.variables {
        match environment.text(&name) {
            Some(value) => variables.push((name, Secret::new(value.to_owned()))),
            None => {
                let key = "targets.password_command_environment";
                let message = format!("`{key}`: the daemon has no variable {name} to hand on");
                faults.push(Fault::without_position(file, key, message));
            }
        }
    }
    TargetsConfig {
        password_commands: written.commands,
        password_command_environment: variables,
        password_folders: written.folders,
        aws: aws(environment),
    }
}

fn aws(environment: &mut Environment) -> Option<AwsCredentials> {
    const NAMES: (&str, &str) = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY");
    let text = |name| environment.text(name).map(str::to_owned);
    let (id, secret) = (text(NAMES.0), text(NAMES.1).map(Secret::new));
    let session = text("AWS_SESSION_TOKEN").map(Secret::new);
    match (id, secret) {
        (Some(id), Some(secret)) => Some(AwsCredentials { id, secret, session }),
        (None, None) => None,
        (Some(_), None) => {
            environment.fault(NAMES.0, &format!("{} is not set; set both, or neither", NAMES.1));
            None
        }
        (None, Some(_)) => {
            environment.fault(NAMES.1, &format!("{} is not set; set both, or neither", NAMES.0));
            None
        }
    }
}
