//! Lines of a server's `pg_hba.conf`: which of them let leased logins in without TLS, or without the
//! password that was made for them; and lines for review that would not.
//!
//! PostgreSQL takes the first line that fits a connection. A leased login is a member of its profile's
//! group role, so a line is for it if it is for `all` or for `+group`; what is behind a line that decides
//! for everybody, everywhere, is never reached.

pub mod review;

use crate::domain::{
    diagnosis::{Finding, Severity},
    pg_hba::review::{Entrance, snippet},
};

/// What every finding of this file is called.
const CHECK: &str = "pg_hba";

/// One line, as `pg_hba_file_rules` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Where it stands.
    pub number: i32,
    /// `local`, `host`, `hostssl`, …
    pub kind: String,
    /// For which databases.
    pub databases: Vec<String>,
    /// For whom.
    pub users: Vec<String>,
    /// From where; none for `local`.
    pub address: Option<String>,
    /// The mask of the address, where it has one.
    pub netmask: Option<String>,
    /// `scram-sha-256`, `trust`, …
    pub method: String,
}

/// The ways in for which no line has decided yet.
#[derive(Clone, Copy)]
struct Open {
    socket: bool,
    /// IPv4 and IPv6.
    plain: [bool; 2],
    tls: [bool; 2],
}

impl Line {
    fn takes_plain(&self) -> bool {
        matches!(self.kind.as_str(), "host" | "hostnossl" | "hostnogssenc")
    }

    fn takes_tls(&self) -> bool {
        matches!(self.kind.as_str(), "host" | "hostssl" | "hostnogssenc")
    }

    /// Of IPv4 and IPv6, those that its address may be of.
    fn families(&self) -> [bool; 2] {
        match self.address.as_deref() {
            Some(address) if address.contains(':') => [false, true],
            Some(address) if address.starts_with(|c: char| c.is_ascii_digit()) => [true, false],
            _ => [true, true],
        }
    }

    /// Does what it lets in stay on the server's machine?
    fn is_loopback(&self) -> bool {
        let address = self.address.as_deref().unwrap_or_default();
        address.starts_with("127.") || address == "::1" || address == "samehost"
    }

    fn is_from_everywhere(&self) -> bool {
        let address = self.address.as_deref();
        address == Some("all")
            || matches!(address, Some("0.0.0.0" | "::"))
                && matches!(self.netmask.as_deref(), Some("0.0.0.0" | "::"))
    }

    /// Is it for this group's members? A pattern is taken to fit.
    fn is_for(&self, group: &str) -> bool {
        self.users.iter().any(|user| {
            user == "all" || user.strip_prefix('+') == Some(group) || user.starts_with('/')
        })
    }

    fn is_for_one_of(&self, databases: &[String]) -> bool {
        self.databases.iter().any(|database| {
            database == "all" || database.starts_with('/') || databases.contains(database)
        })
    }

    /// Does it decide for each of the group's members, in each of the databases?
    fn is_final_for(&self, group: &str, databases: &[String]) -> bool {
        let names = |name: &String| self.databases.contains(name);
        let users = |user: &String| user == "all" || user.strip_prefix('+') == Some(group);
        self.users.iter().any(users)
            && (names(&"all".to_owned()) || databases.iter().all(names))
            && (self.kind == "local" || self.is_from_everywhere())
    }

    fn judge(&self, open: Open) -> Option<(Severity, &'static str)> {
        let reaches = |ways: [bool; 2]| {
            self.families().into_iter().zip(ways).any(|(is_of, is_open)| is_of && is_open)
        };
        let is_local = self.kind == "local";
        let plain = self.takes_plain() && reaches(open.plain);
        let tls = self.takes_tls() && reaches(open.tls) || self.kind == "hostgssenc";
        if !(plain || tls || is_local && open.socket) {
            return None;
        }
        let is_in_clear = plain && !self.is_loopback();
        match self.method.as_str() {
            "reject" | "peer" | "ident" => None,
            "trust" => Some((
                Severity::Critical,
                "whoever gets there signs in as any lease, without its password",
            )),
            "password" if is_in_clear => {
                Some((Severity::Critical, "passwords cross the network in clear text"))
            }
            _ if is_in_clear => Some((
                Severity::Risk,
                "leased logins get in without TLS: what they read and write can be read and changed on the way",
            )),
            "password" => Some((
                Severity::Note,
                "the server is told passwords that it need not know: write scram-sha-256",
            )),
            "md5" => Some((
                Severity::Note,
                "it takes passwords that are kept as md5, too: write scram-sha-256",
            )),
            _ => None,
        }
    }

    fn close(&self, open: &mut Open) {
        open.socket &= self.kind != "local";
        for (n, is_of) in self.families().into_iter().enumerate() {
            let close = |way: Option<&mut bool>, takes: bool| {
                if let Some(way) = way {
                    *way &= !(is_of && takes);
                }
            };
            close(open.plain.get_mut(n), self.takes_plain());
            close(open.tls.get_mut(n), self.takes_tls());
        }
    }

    /// As it stands in the file, nearly.
    fn text(&self) -> String {
        let from = match (&self.address, &self.netmask) {
            (Some(address), Some(netmask)) => format!("{address} {netmask}"),
            (Some(address), None) => address.clone(),
            _ => String::new(),
        };
        let words =
            [&self.kind, &self.databases.join(","), &self.users.join(","), &from, &self.method];
        let words: Vec<&str> =
            words.into_iter().map(String::as_str).filter(|word| !word.is_empty()).collect();
        words.join(" ")
    }
}

/// The lines that let members of these groups in as they should not.
#[must_use]
pub fn judge(lines: &[Line], groups: &[String], databases: &[String]) -> Vec<Finding> {
    let mut bad: Vec<(&Line, Severity, &str)> = Vec::new();
    for group in groups {
        let mut open = Open { socket: true, plain: [true; 2], tls: [true; 2] };
        for line in lines.iter().filter(|line| line.is_for(group)) {
            if line.is_for_one_of(databases)
                && let Some((severity, why)) = line.judge(open)
                && !bad.iter().any(|(known, ..)| known.number == line.number)
            {
                bad.push((line, severity, why));
            }
            if line.is_final_for(group, databases) {
                line.close(&mut open);
            }
        }
    }
    bad.sort_by_key(|(line, ..)| line.number);
    let review = (!bad.is_empty()).then(|| snippet(lines, &entrances(groups, databases)));
    let found = bad.into_iter().map(|(line, severity, why)| {
        let found = format!("line {} of pg_hba.conf (`{}`): {why}", line.number, line.text());
        Finding::bad(CHECK, severity, found, None)
    });
    let mut findings: Vec<Finding> = found.collect();
    // Once for all of them: they are mended together.
    if let Some(last) = findings.last_mut() {
        last.mend = review;
    }
    findings
}

/// Each group into each of the databases.
fn entrances(groups: &[String], databases: &[String]) -> Vec<Entrance> {
    let entrance =
        |group: &String| Entrance { group: group.clone(), databases: databases.to_vec() };
    groups.iter().map(entrance).collect()
}

/// What is said where the lines cannot be read.
#[must_use]
pub fn unread(admin: &str, groups: &[String], databases: &[String]) -> Finding {
    let mend = format!(
        "GRANT SELECT ON pg_catalog.pg_hba_file_rules TO {admin}; GRANT EXECUTE ON FUNCTION pg_catalog.pg_hba_file_rules() TO {admin};\n{}",
        snippet(&[], &entrances(groups, databases))
    );
    Finding::bad(CHECK, Severity::Note, "pg_hba.conf could not be read, so who gets in without TLS is not known", mend)
        .because("only a superuser may read it, unless it is granted; lines such as these let leased logins in over TLS alone")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(number: i32, text: &str) -> Line {
        let words: Vec<&str> = text.split(' ').collect();
        let list = |text: &str| text.split(',').map(str::to_owned).collect();
        let (address, method) =
            if words[0] == "local" { (None, words[3]) } else { (Some(words[3]), words[4]) };
        let (address, netmask) = match address.map(|address| address.split_once('/')) {
            Some(Some((address, netmask))) => (Some(address), Some(netmask)),
            _ => (address, None),
        };
        Line {
            number,
            kind: words[0].to_owned(),
            databases: list(words[1]),
            users: list(words[2]),
            address: address.map(str::to_owned),
            netmask: netmask.map(str::to_owned),
            method: method.to_owned(),
        }
    }

    fn judged(texts: &[&str]) -> Vec<(Severity, String)> {
        let lines: Vec<_> = (1..).zip(texts).map(|(number, text)| line(number, text)).collect();
        let found = judge(&lines, &["pgvg_read".to_owned()], &["shop".to_owned()]);
        found.into_iter().map(|finding| (finding.severity, finding.found)).collect()
    }

    #[test]
    fn lines_are_judged_by_what_they_let_in() {
        use Severity::{Critical, Note, Risk};
        for (text, expected) in [
            ("host all all 0.0.0.0/0.0.0.0 scram-sha-256", Some(Risk)),
            ("hostnossl shop +pgvg_read 10.0.0.0/255.0.0.0 md5", Some(Risk)),
            ("host all all all password", Some(Critical)),
            ("hostssl all all all trust", Some(Critical)),
            ("local all all trust", Some(Critical)),
            ("host all all 127.0.0.1/255.255.255.255 trust", Some(Critical)),
            ("hostssl all all all md5", Some(Note)),
            ("host all /^pgv_ all scram-sha-256", Some(Risk)),
            ("host all all 127.0.0.1/255.255.255.255 scram-sha-256", None),
            ("host all all ::1/ffff scram-sha-256", None),
            ("hostssl all all all scram-sha-256", None),
            ("hostssl all all all cert", None),
            ("host all all all reject", None),
            ("local all all peer", None),
            ("host all boss all trust", None),
            ("host all +others all trust", None),
            ("host other all all trust", None),
            ("host replication all all trust", None),
        ] {
            let found = judged(&[text]);
            assert_eq!(found.first().map(|(severity, _)| *severity), expected, "{text}: {found:?}");
        }
    }

    #[test]
    fn what_is_behind_a_line_that_decides_is_not_reached() {
        let review = [
            "hostssl shop +pgvg_read 10.0.0.0/255.0.0.0 scram-sha-256",
            "host all +pgvg_read all reject",
        ];
        assert_eq!(judged(&[review[0], review[1], "host all all all trust"]), []);
        assert_eq!(judged(&[review[0], "host all all all trust"]).len(), 1, "from elsewhere");
        let first_family =
            ["hostnossl all all 0.0.0.0/0.0.0.0 reject", "hostnossl all all ::/:: scram-sha-256"];
        assert_eq!(judged(&first_family).len(), 1, "the other family is open yet");
    }
}
