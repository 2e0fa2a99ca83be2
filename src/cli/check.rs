//! `pgvalet check`: what came of a profile's checks, for a person, a program or a CI system.

use std::{fmt::Write as _, fs};

use crate::{
    cli::{
        Globals, Io,
        failure::Failure,
        output::{self, plain, watched},
        profile_arguments::Check,
        session,
    },
    domain::rights::check::{CheckRun, Checked, Outcome},
};

/// A check failed.
const NOT_SO: u8 = 1;

/// `pgvalet check`.
///
/// # Errors
/// If the daemon is unavailable, or refuses, or the file cannot be written.
pub async fn check(given: Check, globals: &Globals, io: &mut Io<'_>) -> Result<u8, Failure> {
    let client = session::sign_in(globals, io)?;
    let run = client.act::<CheckRun, _>(["profiles", given.profile.as_str(), "check"], &());
    let run = watched(io, "running the checks", run).await?.value;
    if let Some(path) = &given.junit {
        let what = format!("write {}", path.display());
        fs::write(path, junit(&run)).map_err(Failure::file(what))?;
    }
    if globals.json {
        output::json(io, &run)?;
    } else {
        show(&run, io)?;
    }
    Ok(if run.passed { 0 } else { NOT_SO })
}

fn show(run: &CheckRun, io: &mut Io<'_>) -> Result<(), Failure> {
    for Checked { check, passed, got, ms } in &run.checks {
        let word = if *passed { "ok" } else { "FAILED" };
        writeln!(io.out, "{word:6}  {} ({ms} ms)", plain(check.title()))?;
        if !passed {
            writeln!(io.out, "        expected {}", plain(&check.expect.to_string()))?;
            writeln!(io.out, "        got {}", plain(&got.to_string()))?;
        }
    }
    let failed = run.checks.iter().filter(|checked| !checked.passed).count();
    writeln!(io.out, "{} of {} checks passed", run.checks.len() - failed, run.checks.len())?;
    if run.blocked {
        writeln!(io.err, "profile {} gives no leases until they pass", run.profile)?;
    }
    Ok(())
}

/// The form that CI systems read: one `testsuite`, a `testcase` for each check.
fn junit(run: &CheckRun) -> String {
    let count = |holds: fn(&Outcome) -> bool| {
        run.checks.iter().filter(|checked| !checked.passed && holds(&checked.got)).count()
    };
    let errors = count(|got| matches!(got, Outcome::NotRun { .. }));
    let failures = count(|got| !matches!(got, Outcome::NotRun { .. }));
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"pgvalet check {}\" tests=\"{}\" failures=\"{failures}\" errors=\"{errors}\" timestamp=\"{}\">\n",
        escaped(run.profile.as_str()),
        run.checks.len(),
        output::instant(run.checked_at)
    );
    for Checked { check, passed, got, ms } in &run.checks {
        // Into a text nothing fails to be written.
        let _ = write!(
            text,
            "  <testcase classname=\"{}\" name=\"{}\" time=\"{}.{:03}\"",
            escaped(run.profile.as_str()),
            escaped(check.title()),
            ms / 1000,
            ms % 1000
        );
        if *passed {
            text.push_str("/>\n");
            continue;
        }
        let kind = if matches!(got, Outcome::NotRun { .. }) { "error" } else { "failure" };
        let _ = write!(
            text,
            ">\n    <{kind} message=\"{}\">{}</{kind}>\n  </testcase>\n",
            escaped(&format!("expected {}, got {got}", check.expect)),
            escaped(&check.sql)
        );
    }
    text.push_str("</testsuite>\n");
    text
}

/// For an attribute or a text. What XML 1.0 cannot hold at all is shown as U+FFFD.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\t' | '\n' | '\r' => {
                let _ = write!(escaped, "&#{};", u32::from(letter));
            }
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            letter if letter.is_ascii_control() => escaped.push('\u{fffd}'),
            letter => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::domain::rights::check::{self, Expect};

    #[test]
    fn junit_holds_whatever_a_check_is_called() {
        let checked = |name: &str, passed, got| Checked {
            check: check::Check {
                name: name.to_owned(),
                sql: "select ']]>' <> '\u{0}&'".to_owned(),
                claims: BTreeMap::new(),
                expect: Expect::Denied,
            },
            passed,
            got,
            ms: 1042,
        };
        let run = CheckRun {
            profile: "shop-read".parse().unwrap(),
            version: 1,
            checked_at: "2026-11-21T12:00:00Z".parse().unwrap(),
            passed: false,
            blocked: true,
            checks: vec![
                checked("ok \"&\" <b>", true, Outcome::Ran { rows: 1, value: None }),
                checked("a\u{1b}[31m\nb\u{ffff}", false, Outcome::Ran { rows: 0, value: None }),
                checked("", false, Outcome::NotRun { why: "<&\"".to_owned() }),
            ],
        };
        insta::assert_snapshot!(junit(&run), @r##"
        <?xml version="1.0" encoding="UTF-8"?>
        <testsuite name="pgvalet check shop-read" tests="3" failures="1" errors="1" timestamp="2026-11-21T12:00:00Z">
          <testcase classname="shop-read" name="ok &quot;&amp;&quot; &lt;b&gt;" time="1.042"/>
          <testcase classname="shop-read" name="a�[31m&#10;b�" time="1.042">
            <failure message="expected denied, got 0 rows">select ']]&gt;' &lt;&gt; '�&amp;'</failure>
          </testcase>
          <testcase classname="shop-read" name="select ']]&gt;' &lt;&gt; '�&amp;'" time="1.042">
            <error message="expected denied, got not run: &lt;&amp;&quot;">select ']]&gt;' &lt;&gt; '�&amp;'</error>
          </testcase>
        </testsuite>
        "##);
    }
}
