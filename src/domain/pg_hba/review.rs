//! Lines for `pg_hba.conf` that let leased logins in as they should get in, and in no other way: for review by
//! a person, who knows what else the server is for.

use chrono::{DateTime, SecondsFormat, Utc};
use ipnet::IpNet;

use crate::domain::{
    pg_hba::Line,
    target::{SslMode, TargetSpec},
};

/// A group role and the databases that its members work in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entrance {
    /// The group role.
    pub group: String,
    /// The databases.
    pub databases: Vec<String>,
}

/// Where sessions with a target come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Network,
    Socket,
}

/// Lines for doctor to show: each group over TLS with SCRAM from the networks that lines name for it now, and
/// from nowhere else.
#[must_use]
pub fn snippet(lines: &[Line], entrances: &[Entrance]) -> String {
    let mut text =
        "# For the top of pg_hba.conf, for review; then: SELECT pg_reload_conf();\n".to_owned();
    for entrance in entrances {
        text.push_str(&entrance.lines(&networks_now(lines, entrance), Way::Network));
    }
    text
}

/// All that `pgvalet hba` says of a target.
#[derive(Debug)]
pub struct Review<'a> {
    /// The target.
    pub target: &'a TargetSpec,
    /// What its profiles hand out.
    pub entrances: &'a [Entrance],
    /// From where leased logins are to come; as lines say now, if none is given.
    pub networks: &'a [IpNet],
    /// The server's lines as they are, or why they could not be read.
    pub lines: Result<&'a [Line], String>,
    /// When this is.
    pub now: DateTime<Utc>,
}

impl Review<'_> {
    /// The lines with what a person should know.
    #[must_use]
    pub fn text(&self) -> String {
        let TargetSpec { name, host, port, sslmode, admin_user, .. } = self.target;
        let way = if host.starts_with('/') { Way::Socket } else { Way::Network };
        let mut said = vec![
            format!("Leased logins on target {name} ({host}:{port}), for review by a person."),
            format!("Written by `pgvalet hba {name}` at {}.", self.now.to_rfc3339_opts(SecondsFormat::Secs, true)),
            String::new(),
            "PostgreSQL takes the first line that fits: put these above all others. They say nothing of any".to_owned(),
            "other login. Then: SELECT pg_reload_conf(); and see: pgvalet doctor".to_owned(),
            String::new(),
            format!("pgvalet itself signs in as {}, from where its daemon runs. If no line below lets it in:", quoted(admin_user)),
            match way {
                Way::Network => format!("hostssl   all  {}  ADDRESS-OF-THE-DAEMON/32  scram-sha-256", quoted(admin_user)),
                Way::Socket => format!("local     all  {}  scram-sha-256", quoted(admin_user)),
            },
        ];
        if way == Way::Network && *sslmode == SslMode::Disable {
            said.push(String::new());
            said.push("CAUTION: the target says sslmode = \"disable\", so its leases do not ask for TLS, and these".to_owned());
            said.push("lines refuse them. Let the server have a certificate, and write sslmode = \"verify-full\".".to_owned());
        }
        if let Err(why) = &self.lines {
            said.push(String::new());
            said.push(format!("The lines that are there now could not be read: {why}."));
        }
        let mut text: String = said.iter().map(|line| comment(line)).collect();
        if self.entrances.is_empty() {
            text.push_str(&comment(&format!("No profile hands out logins on {name} yet.")));
        }
        for entrance in self.entrances {
            let networks = if self.networks.is_empty() {
                networks_now(self.lines.as_deref().unwrap_or_default(), entrance)
            } else {
                self.networks.iter().map(ToString::to_string).collect()
            };
            text.push('\n');
            if way == Way::Network && networks == ["samenet"] {
                text.push_str(&comment(
                    "No network was named: `samenet` is the server's own. Better: --network CIDR",
                ));
            }
            text.push_str(&entrance.lines(&networks, way));
            if way == Way::Network {
                text.push_str(&format!("local     all  +{}  reject\n", quoted(&entrance.group)));
            }
        }
        text
    }
}

impl Entrance {
    /// Who is let in, and that nobody else of this group is.
    fn lines(&self, networks: &[String], way: Way) -> String {
        let databases: Vec<String> = self.databases.iter().map(|name| quoted(name)).collect();
        let databases = databases.join(",");
        // In quotes the + would be a letter of the name; behind it they are quotes.
        let group = quoted(&self.group);
        let mut text = String::new();
        match way {
            Way::Network => {
                for network in networks {
                    text.push_str(&format!(
                        "hostssl   {databases}  +{group}  {network}  scram-sha-256\n"
                    ));
                }
            }
            Way::Socket => {
                text.push_str(&format!("local     {databases}  +{group}  scram-sha-256\n"))
            }
        }
        text.push_str(&format!("host      all  +{group}  all  reject\n"));
        text
    }
}

/// The networks that the lines of now name for a group; the server's own if there are none.
fn networks_now(lines: &[Line], entrance: &Entrance) -> Vec<String> {
    let Entrance { group, databases } = entrance;
    let mut networks: Vec<String> = Vec::new();
    let own = lines.iter().filter(|line| line.is_for(group) && line.is_for_one_of(databases));
    for line in own.filter(|line| line.kind != "local" && line.method != "reject") {
        let network = match (&line.address, &line.netmask) {
            (Some(address), Some(netmask)) => format!("{address} {netmask}"),
            (Some(address), None) => address.clone(),
            (None, _) => continue,
        };
        if !networks.contains(&network) {
            networks.push(network);
        }
    }
    if networks.is_empty() {
        networks.push("samenet".to_owned());
    }
    networks
}

/// A name as the file takes it. Words of its own (`all`, `replication`) are names only in quotes.
fn quoted(name: &str) -> String {
    let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if plain && !WORDS.contains(&name) && !name.is_empty() {
        name.to_owned()
    } else {
        format!("\"{}\"", name.replace('"', "\"\""))
    }
}

/// What the file gives a meaning to.
const WORDS: [&str; 4] = ["all", "replication", "sameuser", "samerole"];

/// A line that the server passes over, whatever is in it: a backslash at its end would join the next one.
fn comment(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("# {}", text.trim_end_matches('\\')).trim_end().to_owned() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_for_review_are_found_sound() {
        let line = Line {
            number: 1,
            kind: "host".to_owned(),
            databases: vec!["all".to_owned()],
            users: vec!["all".to_owned()],
            address: Some("10.0.0.0".to_owned()),
            netmask: Some("255.0.0.0".to_owned()),
            method: "md5".to_owned(),
        };
        let entrance = |group: &str| Entrance {
            group: group.to_owned(),
            databases: vec!["shop".to_owned(), "all".to_owned()],
        };
        let text = snippet(&[line], &[entrance("pgvg_read"), entrance("Odd \"one")]);
        assert!(
            text.contains(
                "hostssl   shop,\"all\"  +pgvg_read  10.0.0.0 255.0.0.0  scram-sha-256\n"
            ),
            "{text}"
        );
        assert!(text.contains("host      all  +\"Odd \"\"one\"  all  reject\n"), "{text}");
        assert!(snippet(&[], &[entrance("x")]).contains("samenet"));
    }
}
