//! What can go wrong in a command: one enum, what it prints, and the exit status it stands for.

use std::io::{self, Write};

use crate::{
    api::{problem::Problem, requests::Request},
    causes::causes,
    cli::output::{instant, plain},
    domain::request::State,
};

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command line makes no sense.
    #[error("{0}")]
    Usage(String),
    /// The thing asked for is not so.
    #[error("{0}")]
    NotSo(String),
    /// There is no token, or no address.
    #[error("not signed in: {0}")]
    NotSignedIn(String),
    /// The daemon refused, and said why.
    #[error("{}", .0.detail)]
    Refused(Box<Problem>),
    /// Something answered that does not speak the daemon's language.
    #[error("{url} answered {status}, and not as pgvalet does{hint}")]
    Foreign {
        /// Where.
        url: String,
        /// The HTTP status.
        status: u16,
        /// What it may mean.
        hint: &'static str,
    },
    /// The daemon could not be reached, or the connection broke.
    #[error("the daemon at {url} cannot be reached")]
    Unreachable {
        /// Where it should be.
        url: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The answer is not what the API promises.
    #[error("the daemon's answer cannot be read: is it another version?")]
    Unreadable(#[source] serde_json::Error),
    /// The answer is longer than any answer should be.
    #[error("the daemon's answer is longer than {0} bytes")]
    TooLong(usize),
    /// The lease waits for others to agree, or for its time.
    #[error("request {} {}", .0.id, waits(.0))]
    Pending(Box<Request>),
    /// A file or stream could not be read or written.
    #[error("{what}")]
    File {
        /// What was tried.
        what: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Standard output or error is gone.
    #[error("standard output cannot be written")]
    Output(#[from] io::Error),
}

impl Failure {
    /// A file that could not be read or written.
    pub(crate) fn file(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        |source| Self::File { what, source }
    }

    /// 1 not so, 2 usage, 3 denied, 4 waits for approval, 5 unavailable.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::NotSo(_) | Self::File { .. } | Self::Output(_) => 1,
            Self::Usage(_) => 2,
            Self::NotSignedIn(_) => 3,
            Self::Pending(_) => 4,
            Self::Unreachable { .. } | Self::Unreadable(_) | Self::TooLong(_) => 5,
            Self::Refused(problem) => status_of(problem.status),
            Self::Foreign { status, .. } => match status_of(*status) {
                1 => 5,
                other => other,
            },
        }
    }

    /// May the same be tried again with some hope?
    #[must_use]
    pub fn is_passing(&self) -> bool {
        self.exit_status() == 5
    }

    /// Writes it for a person: what is wrong, each fault, the reference, what to do next.
    ///
    /// # Errors
    /// If the writer fails.
    pub fn print(&self, err: &mut dyn Write) -> io::Result<()> {
        writeln!(err, "pgvalet: {}", plain(&causes(self)))?;
        if let Self::Refused(problem) = self {
            for fault in &problem.faults {
                writeln!(err, "  {}: {}", plain(&fault.at), plain(&fault.message))?;
            }
            let (code, request) = (plain(&problem.code), plain(&problem.request_id));
            writeln!(err, "  code {code}, request {request}")?;
        }
        match (self, self.next_step()) {
            (Self::Pending(request), _) => writeln!(err, "  next: pgvalet claim {}", request.id),
            (_, Some(next)) => writeln!(err, "  {next}"),
            (_, None) => Ok(()),
        }
    }

    /// What to do about it, where that is known.
    fn next_step(&self) -> Option<&'static str> {
        match self {
            Self::NotSignedIn(_) => Some("next: pgvalet login --url URL"),
            Self::Refused(problem) if problem.status == 401 => {
                Some("next: pgvalet login --url URL, with a token that is still valid")
            }
            Self::Refused(problem) if problem.status == 429 => {
                Some("next: wait a minute and try again")
            }
            Self::Unreachable { .. } => {
                Some("next: is the daemon running, and is the address right (--url, PGVALET_URL)?")
            }
            _ => None,
        }
    }
}

/// The exit status that an HTTP status stands for.
const fn status_of(http: u16) -> u8 {
    match http {
        401 | 403 => 3,
        429 | 502 | 503 | 504 => 5,
        _ => 1,
    }
}

/// What a request waits for.
fn waits(request: &Request) -> String {
    match (request.state, request.start_at) {
        (State::Approved, Some(start)) => format!("is approved, from {} on", instant(start)),
        _ => format!(
            "waits for {} to agree, until {}",
            request.needs.in_words(),
            instant(request.lapse_at)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::problem::ProblemFault;

    fn refused(status: u16) -> Failure {
        Failure::Refused(Box::new(Problem {
            kind: "urn:pgvalet:problem:x".to_owned(),
            title: "X".to_owned(),
            status,
            detail: "it is \u{1b}[31mred".to_owned(),
            code: "x".to_owned(),
            request_id: "req_1".to_owned(),
            faults: vec![ProblemFault { at: "ttl".to_owned(), message: "too long".to_owned() }],
        }))
    }

    #[test]
    fn each_http_status_has_its_exit_status() {
        for (http, exit) in [
            (400, 1),
            (401, 3),
            (403, 3),
            (404, 1),
            (409, 1),
            (422, 1),
            (429, 5),
            (500, 1),
            (502, 5),
            (503, 5),
            (504, 5),
        ] {
            assert_eq!(refused(http).exit_status(), exit, "{http}");
        }
        assert_eq!(Failure::Usage(String::new()).exit_status(), 2);
        assert_eq!(Failure::NotSignedIn(String::new()).exit_status(), 3);
    }

    #[test]
    fn a_refusal_is_told_with_its_faults_and_its_reference_and_without_escapes() {
        let mut told = Vec::new();
        refused(401).print(&mut told).unwrap();
        insta::assert_snapshot!(String::from_utf8(told).unwrap(), @r"
        pgvalet: it is �[31mred
          ttl: too long
          code x, request req_1
          next: pgvalet login --url URL, with a token that is still valid
        ");
    }
}
