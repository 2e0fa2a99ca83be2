//! Entries in libpq's own files, `~/.pg_service.conf` and `~/.pgpass`, for as long as their leases last.
//!
//! An entry stands between two comments, which name its lease and its end. Only what is between them is ever
//! changed; the file is replaced as a whole, so that whoever reads it sees all of it or none. Which files have
//! entries is written down in the client's folder, so that no other file is looked into.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use chrono::{DateTime, Utc};

use crate::{
    cli::{Io, failure::Failure, format::Access, output::instant, session},
    ids::LeaseId,
    secret::Secret,
};

/// What the first comment of an entry begins with.
const BEGIN: &str = "# pgvalet: begin ";

/// What the last one begins with.
const END: &str = "# pgvalet: end ";

/// Where in the file an entry is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// libpq takes the first line that fits: a line of stars may stand in the file.
    Front,
    /// Lines at the front that belong to no section would come to belong to ours.
    Back,
}

/// One of libpq's files, which may take an entry.
#[derive(Debug)]
pub struct LibpqFile {
    path: PathBuf,
    at: At,
}

impl LibpqFile {
    /// The service file.
    ///
    /// # Errors
    /// If there is no place for one, or others may read it.
    pub fn services(io: &Io<'_>) -> Result<Self, Failure> {
        Self::find("PGSERVICEFILE", ".pg_service.conf", At::Back, io)
    }

    /// The password file.
    ///
    /// # Errors
    /// If there is no place for one, or others may read it.
    pub fn passwords(io: &Io<'_>) -> Result<Self, Failure> {
        Self::find("PGPASSFILE", ".pgpass", At::Front, io)
    }

    fn find(variable: &str, name: &str, at: At, io: &Io<'_>) -> Result<Self, Failure> {
        let path = match (io.environment.text(variable), io.environment.text("HOME")) {
            (Some(named), _) => PathBuf::from(named),
            (None, Some(home)) => Path::new(&home).join(name),
            (None, None) => {
                return Err(Failure::Usage(format!(
                    "there is no home for ~/{name}: set HOME or {variable}"
                )));
            }
        };
        let fault = || Failure::file(format!("find {}", path.display()));
        // A link is followed, so that it stays one.
        let path = match path.canonicalize() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => std::path::absolute(&path),
            other => other,
        }
        .map_err(fault())?;
        let file = Self { path, at };
        file.check()?;
        Ok(file)
    }

    /// The file itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Nobody else may read what gets a password.
    fn check(&self) -> Result<(), Failure> {
        let path = self.path.display();
        let seen = match fs::metadata(&self.path) {
            Ok(seen) => seen,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(Failure::file(format!("look at {path}"))(e)),
        };
        let mode = seen.permissions().mode() & 0o7777;
        if !seen.is_file() {
            return Err(Failure::NotSo(format!("{path} is no file, so it can take no entry")));
        }
        if seen.uid() != rustix::process::geteuid().as_raw() {
            return Err(Failure::NotSo(format!(
                "{path} belongs to somebody else, who would see the password: name a file of your own with PGSERVICEFILE or PGPASSFILE"
            )));
        }
        if mode & 0o077 != 0 {
            return Err(Failure::NotSo(format!(
                "{path} is open to others (mode {mode:04o}), who would see the password: `chmod 600 {path}` first"
            )));
        }
        Ok(())
    }

    /// Puts an entry into the file; gives the leases whose entries of the same name went out for it.
    ///
    /// # Errors
    /// If the file cannot be changed, or has something else of this name.
    pub fn install(
        &self,
        access: &Access<'_>,
        text: &Secret<String>,
        io: &Io<'_>,
    ) -> Result<Vec<LeaseId>, Failure> {
        let _lock = lock(io)?;
        self.check()?;
        note(&self.path, io)?;
        let header = text.expose().lines().next().unwrap_or_default().as_bytes();
        let mut replaced = Vec::new();
        let before = self.read()?;
        let is_service = self.at == At::Back;
        let mut content = without(before.expose(), |entry| {
            let same_name = is_service && entry.lines.first().is_some_and(|line| *line == header);
            if same_name && entry.id != access.lease_id {
                replaced.push(entry.id);
            }
            same_name || entry.id == access.lease_id
        });
        if is_service && content.expose().split(|byte| *byte == b'\n').any(|line| line == header) {
            return Err(Failure::NotSo(format!(
                "{} has a section {} already that pgvalet did not write, and that libpq would take: rename it first",
                self.path.display(),
                access.service_name()
            )));
        }
        let entry = Secret::new(format!(
            "{BEGIN}{id} ends {ends} (taken out after that: change nothing here)\n{}{END}{id}\n",
            text.expose(),
            id = access.lease_id,
            ends = instant(access.expires_at),
        ));
        let content = match self.at {
            At::Front => {
                let mut whole = Secret::new(entry.expose().clone().into_bytes());
                whole.expose_mut().extend_from_slice(content.expose());
                whole
            }
            At::Back => {
                if content.expose().last().is_some_and(|byte| *byte != b'\n') {
                    content.expose_mut().push(b'\n');
                }
                content.expose_mut().extend_from_slice(entry.expose().as_bytes());
                content
            }
        };
        self.replace(&content)?;
        replaced.dedup();
        Ok(replaced)
    }

    fn read(&self) -> Result<Secret<Vec<u8>>, Failure> {
        match fs::read(&self.path) {
            Ok(bytes) => Ok(Secret::new(bytes)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Secret::new(Vec::new())),
            Err(e) => Err(Failure::file(format!("read {}", self.path.display()))(e)),
        }
    }

    fn replace(&self, content: &Secret<Vec<u8>>) -> Result<(), Failure> {
        let fault = || Failure::file(format!("write {}", self.path.display()));
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        // tempfile makes it with mode 0600.
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(fault())?;
        file.write_all(content.expose()).map_err(fault())?;
        file.as_file().sync_all().map_err(fault())?;
        file.persist(&self.path).map(drop).map_err(|e| fault()(e.error))
    }
}

/// An entry of ours, as it was read.
struct Entry<'a> {
    id: LeaseId,
    ends: DateTime<Utc>,
    /// What is between the comments, without the line breaks.
    lines: Vec<&'a [u8]>,
}

/// The text without the entries that are to go. What begins and never ends is nobody's entry, and stays.
fn without(text: &[u8], mut goes: impl FnMut(&Entry<'_>) -> bool) -> Secret<Vec<u8>> {
    let mut rest: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
    let mut kept = Secret::new(Vec::with_capacity(text.len()));
    while !rest.is_empty() {
        let taken = match entry(&rest) {
            Some((entry, length)) if goes(&entry) => {
                rest.drain(..length);
                continue;
            }
            Some((_, length)) => length,
            None => 1,
        };
        for line in rest.drain(..taken) {
            kept.expose_mut().extend_from_slice(line);
        }
    }
    kept
}

/// The entry that begins with the first of these lines, and how many lines it has.
fn entry<'a>(lines: &[&'a [u8]]) -> Option<(Entry<'a>, usize)> {
    let (id, ends) = begins(lines.first()?)?;
    let last = format!("{END}{id}");
    let inside = lines.iter().skip(1).take_while(|line| begins(line).is_none());
    let inside: Vec<&[u8]> = inside.map(|line| line.trim_ascii_end()).collect();
    let length = inside.iter().position(|line| *line == last.as_bytes())?;
    let lines = inside.into_iter().take(length).collect();
    Some((Entry { id, ends, lines }, length + 2))
}

fn begins(line: &[u8]) -> Option<(LeaseId, DateTime<Utc>)> {
    let text = std::str::from_utf8(line).ok()?.strip_prefix(BEGIN)?;
    let mut words = text.split_ascii_whitespace();
    let id = words.next()?.parse().ok()?;
    let ends = words.nth(1)?.parse().ok()?;
    Some((id, ends))
}

/// Takes out the entries of these leases.
pub fn remove(ids: &[LeaseId], io: &Io<'_>) {
    sweep(|entry| ids.contains(&entry.id), io);
}

/// Takes out the entries whose end is over.
pub fn tidy(io: &Io<'_>) {
    let now = io.clock.now();
    sweep(|entry| entry.ends <= now, io);
}

/// Writes down that a lease ends later.
pub fn extend(id: LeaseId, ends: DateTime<Utc>, io: &Io<'_>) {
    each_file(io, |file| {
        let mut text = file.read().ok()?;
        let lines = text.expose().split_inclusive(|byte| *byte == b'\n');
        let renewed = |line: &[u8]| match begins(line) {
            Some((known, before)) if known == id => {
                let line = String::from_utf8_lossy(line);
                line.replacen(&instant(before), &instant(ends), 1).into_bytes()
            }
            _ => line.to_vec(),
        };
        let changed = Secret::new(lines.flat_map(renewed).collect::<Vec<u8>>());
        if changed != text {
            text = changed;
            file.replace(&text).ok()?;
        }
        Some(text)
    });
}

fn sweep(goes: impl Fn(&Entry<'_>) -> bool, io: &Io<'_>) {
    each_file(io, |file| {
        let text = file.read().ok()?;
        let kept = without(text.expose(), &goes);
        if kept.expose().len() != text.expose().len() {
            file.replace(&kept).ok()?;
        }
        Some(kept)
    });
}

/// Goes through the files that have entries, and forgets those that have none any more. What cannot be read
/// or changed keeps no command from its work, and is looked at again by the next one.
fn each_file(io: &Io<'_>, change: impl Fn(&LibpqFile) -> Option<Secret<Vec<u8>>>) {
    let Ok(list) = list(io) else { return };
    if !list.exists() {
        return;
    }
    let Ok(_lock) = lock(io) else { return };
    let noted = fs::read_to_string(&list).unwrap_or_default();
    let mut still = String::new();
    for path in noted.lines() {
        let file = LibpqFile { path: PathBuf::from(path), at: At::Back };
        let has_entries = change(&file).is_none_or(|text| {
            text.expose().split(|byte| *byte == b'\n').any(|line| begins(line).is_some())
        });
        if has_entries {
            still.push_str(&format!("{path}\n"));
        }
    }
    let _ = match still.as_str() {
        "" => fs::remove_file(&list).map_err(Failure::file("forget the files")),
        _ if still == noted => Ok(()),
        _ => session::write_private(&list, &still),
    };
}

/// Writes down that a file has entries, before it gets one.
fn note(path: &Path, io: &Io<'_>) -> Result<(), Failure> {
    let list = list(io)?;
    let text = path.to_str().filter(|text| !text.contains('\n'));
    let text = text.ok_or_else(|| {
        Failure::NotSo(format!("{} is a name that cannot be written down", path.display()))
    })?;
    let noted = fs::read_to_string(&list).unwrap_or_default();
    if noted.lines().any(|line| line == text) {
        return Ok(());
    }
    session::write_private(&list, &format!("{noted}{text}\n"))
}

fn list(io: &Io<'_>) -> Result<PathBuf, Failure> {
    session::folder_path(io).map(|folder| folder.join("installed"))
}

/// One at a time: who reads what another is about to replace would put back what is gone.
fn lock(io: &Io<'_>) -> Result<fs::File, Failure> {
    let path = session::folder(io)?.join("installed.lock");
    let fault = Failure::file(format!("lock {}", path.display()));
    let opened = fs::OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
    opened.and_then(|file| file.lock().map(|()| file)).map_err(fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "lse_0190c5d3e1a27c41b1f5d0c2a1b3c4d5";
    const TWO: &str = "lse_0190c5d3e1a27c41b1f5d0c2a1b3c4d6";

    fn block(id: &str, ends: &str) -> String {
        format!("{BEGIN}{id} ends {ends} (words)\n[pgvalet-x]\nhost=a\n{END}{id}\n")
    }

    fn kept(text: &str, goes: &str) -> String {
        let goes: LeaseId = goes.parse().unwrap();
        let kept = without(text.as_bytes(), |entry| entry.id == goes);
        String::from_utf8(kept.expose().clone()).unwrap()
    }

    #[test]
    fn an_entry_goes_and_everything_else_stays_as_it_was() {
        let ends = "2026-01-01T00:00:00Z";
        let (one, two) = (block(ONE, ends), block(TWO, ends));
        for (text, left) in [
            (format!("a\n{one}b"), "a\nb".to_owned()),
            (format!("{one}{two}{one}"), two.clone()),
            (format!("\r\n\n{two}x\\\n"), format!("\r\n\n{two}x\\\n")),
            (one.replace('\n', "\r\n"), String::new()),
        ] {
            assert_eq!(kept(&text, ONE), left, "{text:?}");
        }
        // Without its end, with another one's, or with an end that cannot be read, it is not touched.
        for text in [
            one.replace(END, "# end "),
            one.replace(&format!("{END}{ONE}"), &format!("{END}{TWO}")),
            block(ONE, "soon"),
            one.replace("host=a\n", &two),
        ] {
            assert!(kept(&text, ONE).contains(BEGIN), "{text}");
        }
        assert_eq!(kept(&one.replace("host=a\n", &two), ONE), one.replace("host=a\n", &two));
    }

    #[test]
    fn lines_that_are_no_text_are_kept() {
        let ours = block(ONE, "2026-01-01T00:00:00Z");
        let text = [&[0xff, b'\n'][..], ours.as_bytes(), &[0xfe]];
        let kept = without(&text.concat(), |_| true);
        assert_eq!(kept.expose(), &[0xff, b'\n', 0xfe]);
    }
}
