//! The small shell that stands between this process and the server.
//!
//! A server must not outlive the daemon that uses it, not even when the daemon is killed with
//! SIGKILL, and a throw-away cluster must not stay on the disk. A process that is killed cannot tidy
//! up, so someone else has to: the shell holds the reading end of a pipe whose only writing end is
//! ours. When we are gone, by whatever way, the pipe ends and the shell stops the server. The other
//! way, the parent-death signal, exists on Linux alone and needs unsafe code.

use std::{
    fs::File,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
};

use crate::cluster::{account::Account, error::Error};

/// `$1` is the server, `$2` and `$3` are folders to remove in the end (or empty), the rest are
/// the server's arguments. The signals are ignored because the daemon decides when to stop: a
/// service manager signals the whole group at once. The watcher is killed with KILL because it
/// inherits that.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
exec 3<&0 </dev/null
server=$1 first=$2 second=$3
shift 3
"$server" "$@" 3<&- &
pid=$!
(
    while read -r _; do :; done
    kill -INT "$pid"
    tries=0
    while kill -0 "$pid" && [ "$tries" -lt 10 ]; do sleep 1; tries=$((tries + 1)); done
    kill -QUIT "$pid"
) <&3 3<&- >/dev/null 2>&1 &
watcher=$!
exec 3<&-
wait "$pid"
status=$?
kill -KILL "$watcher" 2>/dev/null
wait "$watcher" 2>/dev/null
[ -z "$first" ] || rm -rf -- "$first"
[ -z "$second" ] || rm -rf -- "$second"
exit "$status"
"#;

/// What to start, and what to leave behind.
pub(crate) struct Plan<'a> {
    /// The server program.
    pub(crate) server: &'a Path,
    /// Its arguments. None of them is a secret: they are seen in `ps`.
    pub(crate) arguments: &'a [String],
    /// Folders that go when the server goes.
    pub(crate) remove: [Option<&'a Path>; 2],
    /// Who it runs as.
    pub(crate) account: Account,
}

/// Starts the shell and, in it, the server. The child's standard input is the lifeline: closing it
/// stops the server.
pub(crate) fn start(plan: &Plan<'_>, log: &File) -> Result<Child, Error> {
    let [first, second] = plan.remove.map(|path| path.unwrap_or_else(|| Path::new("")));
    let starting = |source| Error::Run { program: plan.server.to_owned(), source };
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", SCRIPT, "pgvalet-postgres"])
        .arg(plan.server)
        .arg(first)
        .arg(second)
        .args(plan.arguments)
        // The folder we stand in may be closed to the account that the server runs as.
        .current_dir("/")
        .env_remove("PGDATA")
        .stdin(Stdio::piped())
        .stdout(log.try_clone().map_err(starting)?)
        .stderr(log.try_clone().map_err(starting)?)
        // Its own group, so that Ctrl-C on the terminal reaches us first.
        .process_group(0);
    plan.account.dress(&mut command);
    command.spawn().map_err(starting)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cluster::postmaster::wait_until;

    #[test]
    fn a_program_that_ends_by_itself_ends_the_shell_with_its_status() {
        let outer = tempfile::tempdir().unwrap();
        let log = File::create(outer.path().join("log")).unwrap();
        let arguments = ["-c".to_owned(), "exit 3".to_owned()];
        let plan = Plan {
            server: Path::new("/bin/sh"),
            arguments: &arguments,
            remove: [None, None],
            account: Account::Own,
        };
        let mut child = start(&plan, &log).unwrap();
        assert!(wait_until(Duration::from_secs(20), || child.try_wait().unwrap().is_some()));
        assert_eq!(child.wait().unwrap().code(), Some(3));
    }
}
