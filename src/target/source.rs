//! Where the administrator's password comes from that pgvalet does not keep: a program, a file that changes,
//! a token that is made here. Asked whenever connections are opened.
//!
//! Whoever may change targets names the program or the file, and must not run programs or read files on the
//! daemon's machine by that. So the daemon's own configuration says which ones may be named, by their exact
//! paths and their folders; it is looked at each time, since every daemon has a configuration of its own.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::{Child, Command},
    time::timeout,
};

use crate::{
    clock::Clock,
    domain::{
        admin_source::{AdminSource, AwsRds},
        target::TargetSpec,
    },
    secret::Secret,
    target::aws::{self, AwsKeys},
};

/// What of the daemon's machine a target's administrator may be signed in with.
#[derive(Debug, Default)]
pub struct SourceRules {
    /// The programs that may be run, by their whole paths.
    pub commands: Vec<PathBuf>,
    /// The folders below which files may be read.
    pub folders: Vec<PathBuf>,
    /// The variables that programs are run with, beside the few that each has.
    pub environment: Vec<(String, Secret<String>)>,
    /// What tokens for AWS are signed with.
    pub aws: Option<AwsKeys>,
}

/// How long a program may take.
const COMMAND_TIME: Duration = Duration::from_secs(5);

/// The longest password: the servers' own limit for one that is sent as it is.
const LONGEST: usize = 65_535;

/// How much of what a program says to its standard error is kept for the log.
const LONGEST_COMPLAINT: usize = 2000;

/// What every program is run with.
const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where one target's password comes from.
pub(crate) struct Source {
    from: AdminSource,
    rules: Arc<SourceRules>,
    name: String,
    host: String,
    port: u16,
    user: String,
}

impl SourceRules {
    /// Why this daemon does not ask there, in words; nothing if it does.
    ///
    /// # Errors
    /// What to write into its configuration.
    pub fn check(&self, source: &AdminSource) -> Result<(), String> {
        match source {
            AdminSource::Command(words) => {
                let program = words.first().map_or("", String::as_str);
                if self.commands.iter().any(|allowed| allowed.as_os_str() == program) {
                    return Ok(());
                }
                Err(format!(
                    "this daemon does not run {program}: its own configuration must name it, `[targets] password_commands = [{program:?}]`"
                ))
            }
            AdminSource::DaemonFile(path) => {
                if self.folders.iter().any(|folder| Path::new(path).starts_with(folder)) {
                    return Ok(());
                }
                Err(format!(
                    "this daemon does not read {path}: its own configuration must name a folder above it, `[targets] password_folders = [\"/…\"]`"
                ))
            }
            AdminSource::AwsRds(_) if self.aws.is_none() => Err(
                "this daemon has no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN) for it, or write { command = [\"/usr/bin/aws\", \"rds\", \"generate-db-auth-token\", …] }"
                    .to_owned(),
            ),
            AdminSource::AwsRds(_) | AdminSource::ClientCertificate => Ok(()),
        }
    }
}

impl Source {
    pub(crate) fn new(from: AdminSource, spec: &TargetSpec, rules: Arc<SourceRules>) -> Self {
        let (name, host) = (spec.name.to_string(), spec.host.clone());
        Self { from, rules, name, host, port: spec.port, user: spec.admin_user.clone() }
    }

    /// For how long an answer is taken again without asking. A program is dear, and many connections
    /// are opened at once; one that is refused asks anew.
    pub(crate) const fn fresh_for(&self) -> Duration {
        match self.from {
            AdminSource::Command(_) => Duration::from_secs(10),
            AdminSource::DaemonFile(_) | AdminSource::AwsRds(_) => Duration::ZERO,
            AdminSource::ClientCertificate => Duration::MAX,
        }
    }

    /// Asks; gives why not in words.
    pub(crate) async fn ask(&self) -> Result<Secret<String>, String> {
        let answer = match self.rules.check(&self.from) {
            Ok(()) => match &self.from {
                AdminSource::Command(words) => self.run(words).await,
                AdminSource::DaemonFile(path) => self.read(path).await,
                AdminSource::AwsRds(AwsRds { region }) => self.sign(region),
                AdminSource::ClientCertificate => return Ok(Secret::new(String::new())),
            },
            Err(why) => Err(why),
        };
        answer
            .and_then(|text| one_line(&text))
            .map_err(|why| format!("no password from {}: {why}", self.from))
    }

    fn sign(&self, region: &str) -> Result<Secret<Vec<u8>>, String> {
        let keys = self.rules.aws.as_ref().ok_or("there are no credentials")?;
        let token = aws::rds_token(keys, region, (&self.host, self.port, &self.user), Clock.now())?;
        Ok(Secret::new(token.expose().clone().into_bytes()))
    }

    /// Links are followed first: what is read is below the folders, too. Projected volumes have links
    /// inside of their folder.
    async fn read(&self, path: &str) -> Result<Secret<Vec<u8>>, String> {
        let told = |e: std::io::Error| format!("it cannot be read: {e}");
        let real = tokio::fs::canonicalize(path).await.map_err(told)?;
        let mut is_below = false;
        for folder in &self.rules.folders {
            is_below |=
                tokio::fs::canonicalize(folder).await.is_ok_and(|folder| real.starts_with(folder));
        }
        if !is_below {
            return Err("it is a link to a file outside of the folders that this daemon's configuration allows".to_owned());
        }
        let file = tokio::fs::File::open(&real).await.map_err(told)?;
        if !file.metadata().await.map_err(told)?.is_file() {
            return Err("it is no file".to_owned());
        }
        read_within(file, LONGEST + 2).await.map_err(told)
    }

    async fn run(&self, words: &[String]) -> Result<Secret<Vec<u8>>, String> {
        let (program, arguments) = words.split_first().ok_or("there is no command")?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .env("PATH", SEARCH_PATH)
            .env("LANG", "C.UTF-8")
            .env("PGVALET_TARGET", &self.name)
            .env("PGHOST", &self.host)
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", &self.user)
            .envs(self.rules.environment.iter().map(|(name, value)| (name, value.expose())))
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .process_group(0);
        let child = command.spawn().map_err(|e| format!("it cannot be run: {e}"))?;
        let mut group = Group::of(child);
        let Ok(ended) = timeout(COMMAND_TIME, group.outcome()).await else {
            let seconds = COMMAND_TIME.as_secs();
            return Err(format!("it did not end within {seconds} s, and was killed"));
        };
        let (said, complaint, status) = ended.map_err(|e| format!("it could not be run: {e}"))?;
        group.is_over = true;
        let complaint = without(&complaint, said.expose());
        if !complaint.is_empty() {
            tracing::warn!(target.name = self.name, command = program, %status, said = complaint, "what a password command said to its standard error");
        }
        if !status.success() {
            return Err(format!("it ended with {status}; what it said is in the daemon's log"));
        }
        Ok(said)
    }
}

/// A program and all that it started, killed unless it ended.
struct Group {
    child: Child,
    pid: Option<Pid>,
    is_over: bool,
}

impl Group {
    fn of(child: Child) -> Self {
        let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        Self { child, pid, is_over: false }
    }

    async fn outcome(
        &mut self,
    ) -> std::io::Result<(Secret<Vec<u8>>, String, std::process::ExitStatus)> {
        let (out, err) = (self.child.stdout.take(), self.child.stderr.take());
        let said = async {
            match out {
                Some(out) => read_within(out, LONGEST + 2).await,
                None => Ok(Secret::new(Vec::new())),
            }
        };
        let complaint = async {
            match err {
                Some(err) => read_within(err, LONGEST_COMPLAINT).await,
                None => Ok(Secret::new(Vec::new())),
            }
        };
        let (said, complaint, status) = tokio::join!(said, complaint, self.child.wait());
        let complaint = String::from_utf8_lossy(complaint?.expose()).trim().to_owned();
        Ok((said?, complaint, status?))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.pid.filter(|_| !self.is_over) {
            // It may have ended meanwhile: then there is nothing to kill.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

/// Reads to the end, and keeps at most so much: who writes more is not held up, and is found out.
async fn read_within(
    from: impl AsyncRead + Unpin,
    most: usize,
) -> std::io::Result<Secret<Vec<u8>>> {
    let mut from = from;
    let mut kept = Secret::new(Vec::new());
    let most = u64::try_from(most).unwrap_or(u64::MAX);
    (&mut from).take(most).read_to_end(kept.expose_mut()).await?;
    tokio::io::copy(&mut from, &mut tokio::io::sink()).await?;
    Ok(kept)
}

/// A text without what somebody printed as the password, in case that was said twice.
fn without(text: &str, secret: &[u8]) -> String {
    let secret = String::from_utf8_lossy(secret);
    secret
        .split_whitespace()
        .filter(|word| word.len() > 3)
        .fold(text.to_owned(), |text, word| text.replace(word, "(left out)"))
}

/// The password in an answer: its only line.
fn one_line(answer: &Secret<Vec<u8>>) -> Result<Secret<String>, String> {
    let text = std::str::from_utf8(answer.expose()).map_err(|_| "it is not UTF-8".to_owned())?;
    let line = text.strip_suffix('\n').unwrap_or(text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.is_empty() {
        return Err("it is empty".to_owned());
    }
    if line.len() > LONGEST {
        return Err(format!("it has more than {LONGEST} bytes"));
    }
    if line.contains(char::is_control) {
        return Err("it is more than one line, or has control characters".to_owned());
    }
    Ok(Secret::new(line.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _, time::Instant};

    use super::*;
    use crate::domain::{schedule::Schedule, target::SslMode};

    fn source(from: AdminSource, rules: SourceRules) -> Source {
        let spec = TargetSpec {
            name: "shop".parse().unwrap(),
            environment: String::new(),
            host: "db.example".to_owned(),
            port: 5433,
            sslmode: SslMode::VerifyFull,
            sslrootcert_pem: None,
            sslcert_pem: None,
            admin_user: "valet".to_owned(),
            admin_source: Some(from.clone()),
            databases: vec!["shop".to_owned()],
            max_live: None,
            scram_iterations: crate::domain::target::DEFAULT_SCRAM_ITERATIONS,
            rotate_admin: Schedule::Never,
        };
        Source::new(from, &spec, Arc::new(rules))
    }

    fn script(folder: &Path, text: &str) -> PathBuf {
        let (written, path) = (folder.join("text"), folder.join("command"));
        fs::write(&written, format!("#!/bin/sh\n{text}\n")).unwrap();
        // Written by another process: a test beside this one that starts a program would hold our file open for writing
        // for a moment, and what is open for writing cannot be run (ETXTBSY).
        let copied = std::process::Command::new("cp").args([&written, &path]).status().unwrap();
        assert!(copied.success());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    async fn run(text: &str, argument: &str) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = script(folder.path(), text);
        let words = vec![path.display().to_string(), argument.to_owned()];
        let environment = vec![("TOLD".to_owned(), Secret::new("yes".to_owned()))];
        let rules = SourceRules { commands: vec![path], environment, ..SourceRules::default() };
        let asked = source(AdminSource::Command(words), rules).ask().await;
        asked.map(|password| password.expose().clone())
    }

    #[tokio::test]
    async fn a_command_prints_one_line_and_sees_nothing_of_ours() {
        assert_eq!(run("echo pass word", "").await.unwrap(), "pass word");
        assert_eq!(run("printf '%s' \"$1\"", "$(id) `id`;x").await.unwrap(), "$(id) `id`;x");
        let seen = run("env | sort | tr '\\n' ' '", "").await.unwrap();
        let names: Vec<_> =
            seen.split(' ').filter_map(|pair| Some(pair.split_once('=')?.0)).collect();
        for name in &names {
            assert!(
                [
                    "LANG",
                    "PATH",
                    "PGHOST",
                    "PGPORT",
                    "PGUSER",
                    "PGVALET_TARGET",
                    "PWD",
                    "TOLD",
                    "_",
                    "SHLVL",
                    "OLDPWD"
                ]
                .contains(name),
                "{name} in {seen}"
            );
        }
        assert!(seen.contains("PGPORT=5433") && seen.contains("PGVALET_TARGET=shop"), "{seen}");
        for (text, said) in [
            ("echo a; echo b", "more than one line"),
            ("printf 'a\\001b'", "control characters"),
            (":", "it is empty"),
            ("echo secret; exit 3", "exit status: 3"),
            ("head -c 70000 /dev/zero | tr '\\0' x", "more than 65535 bytes"),
            ("printf '\\377'", "not UTF-8"),
        ] {
            let told = run(text, "").await.unwrap_err();
            assert!(told.contains(said) && !told.contains("secret"), "{text}: {told}");
        }
    }

    #[tokio::test]
    async fn a_command_that_does_not_end_is_killed_with_all_that_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let pid = folder.path().join("pid");
        let began = Instant::now();
        let text = format!("sleep 600 & echo $! > {}\nwait", pid.display());
        let told = run(&text, "").await.unwrap_err();
        assert!(told.contains("was killed"), "{told}");
        assert!(began.elapsed() < COMMAND_TIME * 3);
        let pid: i32 = fs::read_to_string(pid).unwrap().trim().parse().unwrap();
        let is_gone = || {
            let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            status.is_empty() || status.contains(") Z ")
        };
        let until = Instant::now() + COMMAND_TIME;
        while !is_gone() {
            assert!(Instant::now() < until, "what it started lives on");
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_file_is_read_anew_and_only_below_the_folders() {
        let folder = tempfile::tempdir().unwrap();
        let (allowed, outside) = (folder.path().join("allowed"), folder.path().join("outside"));
        fs::create_dir(&allowed).unwrap();
        fs::write(&outside, "outside\n").unwrap();
        let file = allowed.join("token");
        let asked = async |path: &Path| {
            let rules = SourceRules { folders: vec![allowed.clone()], ..SourceRules::default() };
            let from = AdminSource::DaemonFile(path.display().to_string());
            source(from, rules).ask().await.map(|password| password.expose().clone())
        };
        assert!(asked(&file).await.unwrap_err().contains("cannot be read"));
        for token in ["first", "second"] {
            // As projected volumes do it: a link to a link.
            fs::write(allowed.join(token), format!("{token}\n")).unwrap();
            let _ = fs::remove_file(&file);
            std::os::unix::fs::symlink(token, &file).unwrap();
            assert_eq!(asked(&file).await.unwrap(), token);
        }
        assert!(asked(&outside).await.unwrap_err().contains("password_folders"));
        std::os::unix::fs::symlink(&outside, allowed.join("way-out")).unwrap();
        assert!(asked(&allowed.join("way-out")).await.unwrap_err().contains("outside"));
        assert!(asked(&allowed.join(".")).await.unwrap_err().contains("it is no file"));
    }

    #[tokio::test]
    async fn what_the_configuration_does_not_name_is_not_asked() {
        let words = |program: &str| AdminSource::Command(vec![program.to_owned()]);
        let rules =
            || SourceRules { commands: vec![PathBuf::from("/bin/echo")], ..SourceRules::default() };
        for program in ["/bin/./echo", "/usr/bin/env", "echo", "/bin/../bin/echo"] {
            let told = source(words(program), rules()).ask().await.unwrap_err();
            assert!(told.contains("password_commands"), "{told}");
        }
        let aws = AdminSource::AwsRds(AwsRds { region: "eu-west-1".to_owned() });
        let told = source(aws, rules()).ask().await.unwrap_err();
        assert!(told.contains("AWS_ACCESS_KEY_ID"), "{told}");
    }
}
