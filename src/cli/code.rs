//! Targets and profiles as code: plan, apply, export.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, Read, Write},
    path::Path,
};

use crate::{
    api::admin::{Adopt, Code, Plan},
    cli::{
        Globals, Io,
        admin_arguments::{AdoptFrom, ApplyFile, PlanFile},
        environment::Environment,
        failure::Failure,
        output::{self, plain, watched},
        session,
    },
    domain::plan::Action,
    secret::Secret,
};

/// Larger than any file of profiles.
const LONGEST_FILE: u64 = 4 << 20;

/// A password is a line; a chain of certificates has a few hundred.
const LONGEST_SECRET: u64 = 1 << 20;

/// `pgvalet plan`. No password leaves this machine for it.
///
/// # Errors
/// If the daemon is unavailable, or the file has faults.
pub async fn plan(given: PlanFile, globals: &Globals, io: &mut Io<'_>) -> Result<u8, Failure> {
    let client = session::sign_in(globals, io)?;
    let mut code = read_file(&given.file, io)?;
    code.secrets = read_named(&given.file, named_certificates(&code.text), io)?;
    let plan = watched(io, "planning", client.plan(&code)).await?.value;
    print(&plan, globals, io)?;
    Ok(0)
}

/// `pgvalet apply`.
///
/// # Errors
/// If the daemon is unavailable, the file has faults, or nobody said yes.
pub async fn apply(given: ApplyFile, globals: &Globals, io: &mut Io<'_>) -> Result<u8, Failure> {
    let can_ask = io.terminals.input && io.terminals.err && given.file != Path::new("-");
    if !given.yes && !can_ask {
        return Err(Failure::Usage(
            "there is no terminal to ask on: look at `pgvalet plan`, then apply with --yes"
                .to_owned(),
        ));
    }
    let client = session::sign_in(globals, io)?;
    let mut code = read_file(&given.file, io)?;
    code.secrets = read_named(&given.file, named_certificates(&code.text), io)?;
    let secrets = read_named(&given.file, named_secrets(&code.text), io)?;
    let plan = watched(io, "planning", client.plan(&code)).await?.value;
    if !plan.changes {
        if globals.json {
            output::json(io, &plan)?;
        } else {
            writeln!(io.err, "nothing to change")?;
        }
        return Ok(0);
    }
    if !given.yes {
        // The question is for the person; standard output is for what was done.
        write_plan(&plan, io.err)?;
        write!(io.err, "Apply this? [y/N] ")?;
        io.err.flush()?;
        let mut answer = String::new();
        io.input.take(80).read_line(&mut answer)?;
        if !matches!(answer.trim(), "y" | "Y" | "yes") {
            return Err(Failure::NotSo("nothing was changed".to_owned()));
        }
    }
    code.secrets.extend(secrets);
    let done = watched(io, "applying", client.apply(&code)).await?.value;
    print(&done, globals, io)?;
    Ok(0)
}

/// `pgvalet export`.
///
/// # Errors
/// If the daemon is unavailable, or refuses.
pub async fn export(globals: &Globals, io: &mut Io<'_>) -> Result<u8, Failure> {
    let client = session::sign_in(globals, io)?;
    let export = watched(io, "asking the daemon", client.export()).await?.value;
    if globals.json {
        output::json(io, &export)?;
    } else {
        write!(io.out, "{}", export.text)?;
    }
    Ok(0)
}

/// `pgvalet adopt`.
///
/// # Errors
/// If the daemon is unavailable, or refuses.
pub async fn adopt(given: AdoptFrom, globals: &Globals, io: &mut Io<'_>) -> Result<u8, Failure> {
    let client = session::sign_in(globals, io)?;
    let ask = Adopt { target: given.target, database: given.database, roles: given.roles };
    let adopted = watched(io, "reading its grants", client.adopt(&ask)).await?.value;
    if globals.json {
        output::json(io, &adopted)?;
    } else if adopted.text.is_empty() {
        writeln!(io.err, "no role there holds anything that could be adopted")?;
    } else {
        write!(io.out, "{}", adopted.text)?;
    }
    Ok(0)
}

fn read_file(path: &Path, io: &mut Io<'_>) -> Result<Code, Failure> {
    let name = path.display().to_string();
    let mut text = String::new();
    let read = if path == Path::new("-") {
        (&mut *io.input).take(LONGEST_FILE).read_to_string(&mut text)
    } else {
        fs::File::open(path).and_then(|file| file.take(LONGEST_FILE).read_to_string(&mut text))
    };
    read.map_err(Failure::file(format!("read {name}")))?;
    Ok(Code { name, text, secrets: BTreeMap::new() })
}

/// Reads what a file names; by the name under which it is sent.
fn read_named(
    beside: &Path,
    sources: Vec<Source>,
    io: &Io<'_>,
) -> Result<BTreeMap<String, Secret<String>>, Failure> {
    sources.into_iter().map(|source| source.read(beside, &io.environment)).collect()
}

/// Where a file says that a password, a key or a certificate is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    File(String),
    Variable(String),
}

impl Source {
    /// What is there, and the name under which it is sent.
    fn read(
        self,
        beside: &Path,
        environment: &Environment,
    ) -> Result<(String, Secret<String>), Failure> {
        match self {
            Self::Variable(name) => {
                let value = environment.secret(&name).ok_or_else(|| {
                    Failure::NotSo(format!(
                        "the environment variable {} is not set, and the file names it",
                        plain(&name)
                    ))
                })?;
                Ok((format!("env:{name}"), value))
            }
            Self::File(written) => {
                // `-` has no folder: then from where the command runs.
                let path = beside.parent().unwrap_or(Path::new("")).join(&written);
                let what = format!("read {}", path.display());
                let mut text = Secret::new(String::new());
                fs::File::open(&path)
                    .and_then(|file| file.take(LONGEST_SECRET).read_to_string(text.expose_mut()))
                    .map_err(Failure::file(what))?;
                // An editor's newline is not part of it; other spaces may be.
                let password = text.expose().trim_end_matches(['\n', '\r']).to_owned();
                if password.is_empty() {
                    return Err(Failure::NotSo(format!("{} holds nothing", path.display())));
                }
                Ok((format!("file:{written}"), Secret::new(password)))
            }
        }
    }
}

/// Every password and key of a target that is to be read here. What is wrong with the file is for the daemon
/// to say, all at once: here nothing is found in it then.
fn named_secrets(text: &str) -> Vec<Source> {
    named(text, |target| {
        [target.get("admin").and_then(|admin| admin.get("password")), target.get("sslkey")]
    })
}

/// Every certificate of a target that is to be read here. They are no secret, and a plan needs them.
fn named_certificates(text: &str) -> Vec<Source> {
    named(text, |target| [target.get("sslcert"), target.get("sslrootcert")])
}

fn named(text: &str, of_target: impl Fn(&toml::Value) -> [Option<&toml::Value>; 2]) -> Vec<Source> {
    let Ok(file) = text.parse::<toml::Table>() else { return Vec::new() };
    let targets = file.get("target").and_then(toml::Value::as_table);
    let values = targets.into_iter().flat_map(|targets| targets.values());
    let found = values.flat_map(of_target).flatten().filter_map(|value| {
        let named = |key| value.get(key).and_then(toml::Value::as_str).map(str::to_owned);
        named("file").map(Source::File).or_else(|| named("env").map(Source::Variable))
    });
    found.collect()
}

fn print(plan: &Plan, globals: &Globals, io: &mut Io<'_>) -> Result<(), Failure> {
    if globals.json {
        return output::json(io, plan);
    }
    write_plan(plan, io.out)?;
    if !plan.changes {
        writeln!(io.err, "nothing to change")?;
    }
    Ok(())
}

fn write_plan(plan: &Plan, to: &mut dyn Write) -> Result<(), Failure> {
    for line in &plan.lines {
        let sign = match line.action {
            Action::Create => '+',
            Action::Change => '~',
            Action::Keep => '=',
        };
        write!(to, "{sign} {} {}", plain(&line.what), plain(&line.name))?;
        if !line.changed.is_empty() {
            write!(to, " ({})", plain(&line.changed.join(", ")))?;
        }
        writeln!(to)?;
        for statement in &line.statements {
            for part in statement.lines() {
                writeln!(to, "    {}", plain(part))?;
            }
        }
        for note in &line.notes {
            writeln!(to, "    note: {}", plain(note))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        [target.a]
        admin = { user = "u", password = { file = "sub/a.secret" } }
        [target.b.admin]
        password = { env = "B_PASSWORD" }
        [target.b]
        sslcert = { file = "b.pem" }
        sslkey = { file = "b.key" }
        sslrootcert = "-----BEGIN CERTIFICATE-----"
        [target.c.admin]
        user = "no password: the recorded one stays"
        [profile.p.admin]
        password = { file = "not-a-target" }
    "#;

    #[test]
    fn password_sources_are_found_where_targets_have_them() {
        let found = named_secrets(FILE);
        let expected = [
            Source::File("sub/a.secret".to_owned()),
            Source::Variable("B_PASSWORD".to_owned()),
            Source::File("b.key".to_owned()),
        ];
        assert_eq!(found, expected);
        assert_eq!(named_certificates(FILE), [Source::File("b.pem".to_owned())]);
        assert_eq!(named_secrets("this = is not [toml"), []);
    }

    #[test]
    fn a_password_file_is_found_from_the_files_own_folder_and_named_as_written() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("sub")).unwrap();
        fs::write(folder.path().join("sub/a.secret"), " p w \r\n").unwrap();
        fs::write(folder.path().join("b.key"), "key\n").unwrap();
        let environment =
            Environment::of_table(vec![("B_PASSWORD".to_owned(), "from b".to_owned())]);
        let beside = folder.path().join("profiles.toml");
        let read: Vec<_> = named_secrets(FILE)
            .into_iter()
            .map(|source| source.read(&beside, &environment).unwrap())
            .collect();
        assert_eq!(read[0].0, "file:sub/a.secret");
        assert_eq!(read[0].1.expose(), " p w ");
        assert_eq!(read[1].0, "env:B_PASSWORD");
        assert_eq!(read[1].1.expose(), "from b");
    }

    #[test]
    fn a_password_that_is_not_there_is_named() {
        let nothing = Environment::of_table(Vec::new());
        let missing = Source::Variable("NO_SUCH".to_owned());
        let failure = missing.read(Path::new("-"), &nothing).unwrap_err();
        assert!(failure.to_string().contains("NO_SUCH"), "{failure}");
    }
}
