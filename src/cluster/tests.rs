use std::{net::TcpStream, os::unix::net::UnixStream, time::Instant};

use super::*;

/// A folder that the account of the server can enter.
fn open_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).unwrap();
    folder
}

fn options(data_dir: &Path, lifetime: Lifetime, listen: Listen) -> Options {
    Options {
        programs: programs::find(None).unwrap(),
        data_dir: data_dir.to_owned(),
        socket_dir: None,
        lifetime,
        listen,
        settings: Vec::new(),
        superuser: "postgres".to_owned(),
        password: Secret::new("not a secret".to_owned()),
    }
}

fn socket(cluster: &Cluster) -> PathBuf {
    cluster.socket_dir().join(format!(".s.PGSQL.{}", cluster.port()))
}

fn is_alive(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn a_throw_away_cluster_listens_and_leaves_nothing() {
    let folder = open_folder();
    let data_dir = folder.path().join("data");
    let began = Instant::now();
    let cluster =
        Cluster::start(options(&data_dir, Lifetime::ThrowAway, Listen::Loopback(0))).unwrap();
    eprintln!("ready after {:?}", began.elapsed());
    TcpStream::connect((cluster.host(), cluster.port())).unwrap();
    UnixStream::connect(socket(&cluster)).unwrap();
    let pid = cluster.pid();
    cluster.stop().unwrap();
    assert!(!is_alive(pid));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn the_socket_alone_is_enough_and_a_long_folder_gets_a_short_one() {
    let folder = open_folder();
    let data_dir = folder.path().join("d".repeat(90));
    let cluster =
        Cluster::start(options(&data_dir, Lifetime::ThrowAway, Listen::SocketOnly)).unwrap();
    let socket_dir = cluster.socket_dir().to_owned();
    assert!(socket_dir.starts_with("/tmp"));
    UnixStream::connect(socket(&cluster)).unwrap();
    cluster.stop().unwrap();
    assert!(!socket_dir.exists());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_kept_cluster_stays_is_locked_and_checks_its_version() {
    let folder = open_folder();
    let data_dir = folder.path().join("data");
    let again = || options(&data_dir, Lifetime::Kept, Listen::SocketOnly);
    let cluster = Cluster::start(again()).unwrap();
    let second = Cluster::start(again());
    assert!(matches!(second, Err(Error::InUse(path)) if path == data_dir));
    cluster.stop().unwrap();

    let cluster = Cluster::start(again()).unwrap();
    UnixStream::connect(socket(&cluster)).unwrap();
    drop(cluster);
    assert!(Postmaster::read(&data_dir).is_none());

    fs::write(data_dir.join("PG_VERSION"), "12\n").unwrap();
    let other = Cluster::start(again());
    assert!(matches!(other, Err(Error::OtherVersion { found, .. }) if found == "12"));
}

/// What the kernel does when this process is killed: the pipe ends, and nothing else happens.
#[test]
fn the_server_and_its_folder_go_when_the_pipe_ends() {
    // Straight in the temporary folder, where the server's account may remove what it owns.
    let folder = tempfile::Builder::new().prefix("pgvalet-test-").tempdir().unwrap();
    let data_dir = folder.path().to_owned();
    let mut cluster =
        Cluster::start(options(&data_dir, Lifetime::ThrowAway, Listen::SocketOnly)).unwrap();
    let pid = cluster.pid();
    drop(cluster.child.stdin.take());
    assert!(wait_until(Duration::from_secs(20), || !is_alive(pid) && !data_dir.exists()));
    assert!(wait_until(Duration::from_secs(20), || cluster.has_ended()));
}

/// A daemon and its shell were killed, the server was not: the next start takes over its folder.
#[test]
fn a_leftover_server_is_stopped_first() {
    let folder = open_folder();
    let data_dir = folder.path().join("data");
    let again = || options(&data_dir, Lifetime::Kept, Listen::SocketOnly);
    let mut first = Cluster::start(again()).unwrap();
    let first_pid = first.pid();
    // The watcher of the shell would stop the server once the pipe ends, so the pipe stays open.
    first.child.kill().unwrap();
    first.child.wait().unwrap();
    assert!(is_alive(first_pid));
    first._lock = None;

    let second = Cluster::start(again()).unwrap();
    assert_ne!(second.pid(), first_pid);
    assert!(wait_until(Duration::from_secs(20), || !is_alive(first_pid)));
    second.stop().unwrap();
}

#[test]
fn a_server_that_cannot_start_says_why() {
    let folder = open_folder();
    let data_dir = folder.path().join("data");
    let mut wrong = options(&data_dir, Lifetime::ThrowAway, Listen::SocketOnly);
    wrong.settings.push(("no_such_setting".to_owned(), "1".to_owned()));
    let fault = Cluster::start(wrong).unwrap_err().to_string();
    assert!(fault.contains("no_such_setting"), "{fault}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_folder_with_other_things_is_refused() {
    let folder = open_folder();
    fs::write(folder.path().join("letter.txt"), "dear").unwrap();
    let fault = Cluster::start(options(folder.path(), Lifetime::ThrowAway, Listen::SocketOnly));
    assert!(matches!(fault, Err(Error::NotACluster(_))));
    assert!(folder.path().join("letter.txt").exists());
}
