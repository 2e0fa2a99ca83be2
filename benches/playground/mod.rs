//! The playground of the real binary, for benchmarks: started, watched from outside, stopped.

#![expect(dead_code, reason = "no benchmark uses all of it")]

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

/// The playground of the real binary, kept in a folder so that its commits are durable.
pub(crate) struct Playground {
    child: Child,
    /// Where its API is.
    pub(crate) url: String,
    /// Its administrator's token.
    pub(crate) token: String,
    /// Where its PostgreSQL listens.
    pub(crate) port: u16,
    /// From the start of the process until it served and the demo was set up.
    pub(crate) ready_after: Duration,
    folder: Arc<tempfile::TempDir>,
}

impl Playground {
    /// Starts it, and waits until it serves.
    pub(crate) fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("pgvalet-bench-").tempdir_in("/tmp").unwrap();
        std::fs::set_permissions(
            folder.path(),
            std::os::unix::fs::PermissionsExt::from_mode(0o711),
        )
        .unwrap();
        Self::start_in(Arc::new(folder))
    }

    /// Stops it, and starts it once more with what it kept.
    pub(crate) fn start_again(self) -> Self {
        let folder = Arc::clone(&self.folder);
        drop(self);
        Self::start_in(folder)
    }

    fn start_in(folder: Arc<tempfile::TempDir>) -> Self {
        let began = Instant::now();
        let mut child = Command::new(env!("CARGO_BIN_EXE_pgvalet"))
            .args(["dev", "--data"])
            .arg(folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut word_after = |label: &str| {
            let line = lines
                .by_ref()
                .find(|line| line.trim_start().starts_with(label))
                .expect("the playground starts");
            line.trim_start()[label.len()..].split_whitespace().next().unwrap().to_owned()
        };
        let url = word_after("API");
        let token_file = word_after("admin token");
        let address = word_after("PostgreSQL");
        let ready_after = began.elapsed();
        // What else it says is read too: a pipe that is closed would stop it.
        std::thread::spawn(move || lines.for_each(drop));
        let token = std::fs::read_to_string(token_file).unwrap().trim().to_owned();
        let port = address.rsplit(':').next().unwrap().parse().unwrap();
        Self { child, url, token, port, ready_after, folder }
    }

    /// A secret that it keeps in its folder.
    pub(crate) fn secret(&self, name: &str) -> String {
        std::fs::read_to_string(Path::new(self.folder.path()).join(name)).unwrap().trim().to_owned()
    }

    /// User and system time of the daemon.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        cpu_seconds(&self.child)
    }

    /// Resident memory of the daemon.
    pub(crate) fn memory_mib(&self) -> f64 {
        memory_mib(&self.child, "VmRSS")
    }

    /// Another daemon on the same record, as it would be deployed.
    pub(crate) fn serve(&self) -> Process {
        let mut child = Command::new(env!("CARGO_BIN_EXE_pgvalet"))
            .args(["serve", "--config"])
            .arg(self.folder.path().join("pgvalet.toml"))
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let address = lines
            .by_ref()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(&line).ok())
            .find(|line| line["message"] == "pgvalet serves")
            .and_then(|line| Some(line["address"].as_str()?.to_owned()))
            .expect("the daemon starts");
        // A log that nobody reads would stop the daemon once the pipe is full.
        std::thread::spawn(move || lines.for_each(drop));
        Process { child, url: format!("http://{address}") }
    }
}

/// A daemon of its own.
pub(crate) struct Process {
    child: Child,
    /// Where its API is.
    pub(crate) url: String,
}

impl Process {
    /// User and system time.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        cpu_seconds(&self.child)
    }

    /// Resident memory.
    pub(crate) fn memory_mib(&self) -> f64 {
        memory_mib(&self.child, "VmRSS")
    }

    /// The most memory that it ever had.
    pub(crate) fn peak_mib(&self) -> f64 {
        memory_mib(&self.child, "VmHWM")
    }

    /// Ends it, and waits for that.
    pub(crate) fn stop(self) {
        drop(self);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

impl Drop for Playground {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn end(child: &mut Child) {
    let _ = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    let _ = child.wait();
}

/// The value after an option of the benchmark.
pub(crate) fn argument(name: &str) -> Option<String> {
    std::env::args().skip_while(|given| given != name).nth(1)
}

/// From proc(5), in clock ticks of 10 ms.
fn cpu_seconds(child: &Child) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap_or_default();
    let fields: Vec<&str> =
        stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

fn memory_mib(child: &Child, what: &str) -> f64 {
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(what)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}
