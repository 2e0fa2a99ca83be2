//! Where the password of a target's administrator comes from, if pgvalet does not keep it.
//!
//! The daemon asks there whenever it opens connections. pgvalet cannot renew such a password: whoever
//! gives it out renews it.

use std::fmt;

use crate::domain::{
    schedule::Schedule,
    target::{SslMode, TargetSpec},
};

/// Where the daemon gets the password.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum AdminSource {
    /// A program on the daemon's machine prints it, as one line. It is run without a shell, and only if the
    /// daemon's own configuration allows its path (`[targets] password_commands`).
    Command(Vec<String>),
    /// A file on the daemon's machine holds it, and changes: it is read anew for each connection. Only
    /// below folders that the daemon's own configuration allows (`[targets] password_folders`).
    DaemonFile(String),
    /// A token for AWS RDS, which the daemon makes with its own AWS credentials.
    AwsRds(AwsRds),
    /// There is none: the client certificate alone signs in.
    ClientCertificate,
}

/// A token for AWS RDS.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AwsRds {
    /// The region of the database, such as `eu-west-1`.
    pub region: String,
}

/// More arguments than any program that prints a password takes.
const MOST_ARGUMENTS: usize = 64;

impl fmt::Display for AdminSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Arguments may be long, and need not be anybody's who reads a message.
            Self::Command(words) => {
                write!(f, "the command {}", words.first().map_or("", String::as_str))
            }
            Self::DaemonFile(path) => write!(f, "the daemon's file {path}"),
            Self::AwsRds(AwsRds { region }) => write!(f, "an AWS RDS token ({region})"),
            Self::ClientCertificate => f.write_str("the client certificate alone"),
        }
    }
}

/// What is wrong with the source of a target's password; empty if nothing is.
pub(in crate::domain) fn faults(spec: &TargetSpec) -> Vec<(&'static str, String)> {
    let Some(source) = &spec.admin_source else { return Vec::new() };
    let mut faults = Vec::new();
    let mut fault = |message: &str| faults.push(("admin.password", message.to_owned()));
    match source {
        AdminSource::Command(words) => {
            if !words.first().is_some_and(|program| program.starts_with('/')) {
                fault(
                    "a command begins with the whole path of a program: write { command = [\"/usr/bin/…\", \"argument\"] }",
                );
            }
            if words.len() > MOST_ARGUMENTS || words.iter().any(|word| word.contains('\0')) {
                fault("a command has at most 64 words, and none with a zero byte");
            }
        }
        AdminSource::DaemonFile(path) => {
            if !path.starts_with('/') || path.split('/').any(|part| part == "..") {
                fault(
                    "a daemon's file is named by its whole path, without `..`: write { daemon_file = \"/var/run/secrets/…\" }",
                );
            }
        }
        AdminSource::AwsRds(AwsRds { region }) => {
            let is_word =
                |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            if region.is_empty() || !region.bytes().all(is_word) {
                fault("a region is a word such as \"eu-west-1\"");
            }
            if spec.admin_user.bytes().any(|byte| !byte.is_ascii_graphic() || byte == b'+') {
                fault(
                    "an AWS RDS token is made for users of letters, digits and signs other than `+`",
                );
            }
            if !matches!(spec.sslmode, SslMode::VerifyCa | SslMode::VerifyFull) {
                fault(
                    "an AWS RDS token is sent as it is, so that the server must be known: write sslmode = \"verify-full\"",
                );
            }
        }
        AdminSource::ClientCertificate => {
            if spec.sslcert_pem.is_none() {
                fault("there is no client certificate: write `sslcert` and `sslkey`");
            }
        }
    }
    if spec.rotate_admin != Schedule::Never {
        faults.push((
            "rotate_admin",
            format!("pgvalet does not renew a password that it gets from {source}: write `rotate_admin = \"never\"`, or leave it out"),
        ));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(source: AdminSource, change: impl FnOnce(&mut TargetSpec)) -> String {
        let mut spec = TargetSpec {
            name: "shop".parse().unwrap(),
            environment: String::new(),
            host: "db.example".to_owned(),
            port: 5432,
            sslmode: SslMode::VerifyFull,
            sslrootcert_pem: None,
            sslcert_pem: None,
            admin_user: "pgvalet_admin".to_owned(),
            admin_source: Some(source),
            databases: vec!["shop".to_owned()],
            max_live: None,
            scram_iterations: crate::domain::target::DEFAULT_SCRAM_ITERATIONS,
            rotate_admin: Schedule::Never,
        };
        change(&mut spec);
        faults(&spec).into_iter().map(|(key, message)| format!("{key}: {message}")).collect()
    }

    #[test]
    fn what_cannot_be_asked_is_told() {
        let words = |words: &[&str]| {
            AdminSource::Command(words.iter().map(|word| (*word).to_owned()).collect())
        };
        let file = |path: &str| AdminSource::DaemonFile(path.to_owned());
        let aws = |region: &str| AdminSource::AwsRds(AwsRds { region: region.to_owned() });
        for (source, said) in [
            (words(&["/usr/bin/aws", "rds"]), ""),
            (words(&["aws"]), "whole path"),
            (words(&[]), "whole path"),
            (file("/var/run/secrets/db"), ""),
            (file("secrets/db"), "whole path"),
            (file("/var/run/../secret"), "whole path"),
            (aws("eu-west-1"), ""),
            (aws("eu west"), "region"),
            (AdminSource::ClientCertificate, "sslcert"),
        ] {
            let told = told(source, |_| {});
            assert!(told.contains(said) && told.is_empty() == said.is_empty(), "{told}");
        }
        let require = |spec: &mut TargetSpec| spec.sslmode = SslMode::Require;
        assert!(told(aws("eu-west-1"), require).contains("verify-full"));
        let ninety = |spec: &mut TargetSpec| spec.rotate_admin = Schedule::ninety_days();
        assert!(told(file("/a"), ninety).contains("rotate_admin = \"never\""));
    }

    #[test]
    fn it_is_written_as_in_a_file() {
        let source = AdminSource::AwsRds(AwsRds { region: "eu-west-1".to_owned() });
        let written = serde_json::to_string(&source).unwrap();
        assert_eq!(written, r#"{"aws_rds":{"region":"eu-west-1"}}"#);
        assert_eq!(serde_json::from_str::<AdminSource>(&written).unwrap(), source);
    }
}
