//! The keys that seal secrets in the state database.
//!
//! They come as a text of one key a line: the first seals, the others only open what was sealed
//! before, which is how a key is replaced without a moment in which nothing can be opened.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose};
use zeroize::Zeroizing;

use crate::secret::Secret;

/// The length of a key: AES-256.
pub const KEY_BYTES: usize = 32;

/// More than any list of keys is long; a larger file is a wrong path.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// One key.
#[derive(Debug, PartialEq, Eq)]
pub struct MasterKey {
    /// The first bytes of its SHA-256: says which key sealed something, and nothing about the key.
    pub id: [u8; 4],
    /// The key itself.
    pub bytes: Secret<[u8; KEY_BYTES]>,
}

/// The key that seals, and those that only open.
#[derive(Debug, PartialEq, Eq)]
pub struct MasterKeys {
    sealing: MasterKey,
    opening: Vec<MasterKey>,
}

/// Why there are no keys. Lines are counted from 1; what is on them is never shown.
#[derive(Debug, thiserror::Error)]
pub enum KeyFault {
    /// Nothing but comments and empty lines.
    #[error(
        "there is no key in it; write 32 random bytes in base64, as `openssl rand -base64 32` prints"
    )]
    None,
    /// A line that is no key.
    #[error(
        "line {0} is no key; write 32 bytes in base64 (44 characters) or hex (64 characters), as \
         `openssl rand -base64 32` prints"
    )]
    NotAKey(usize),
    /// A key of equal bytes, which is a placeholder that somebody forgot.
    #[error(
        "line {0} is a placeholder, not a random key; write what `openssl rand -base64 32` prints"
    )]
    Placeholder(usize),
    /// The same key, or one with the same id, again.
    #[error("line {0} repeats an earlier key; take it out")]
    Twice(usize),
    /// Others than its owner can read or change the file.
    #[error("{path} can be read or changed by others (mode {mode:04o}); run: chmod 600 {path}", path = .path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The file is no regular file of a sensible size.
    #[error("{} is not a file of a few keys", .0.display())]
    NotAKeyFile(PathBuf),
    /// The file cannot be read or made.
    #[error("{doing} {path}", path = .path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

impl MasterKey {
    fn new(bytes: [u8; KEY_BYTES]) -> Self {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes);
        let mut id = [0; 4];
        id.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
        Self { id, bytes: Secret::new(bytes) }
    }
}

impl MasterKeys {
    /// Reads keys from a text.
    ///
    /// # Errors
    /// If there is none, or a line is none.
    pub fn parse(text: &str) -> Result<Self, KeyFault> {
        let mut keys: Vec<MasterKey> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let number = index + 1;
            let key = MasterKey::new(decode(line).ok_or(KeyFault::NotAKey(number))?);
            let (first, rest) = key.bytes.expose().split_at(1);
            if rest.iter().all(|byte| first.contains(byte)) {
                return Err(KeyFault::Placeholder(number));
            }
            if keys.iter().any(|earlier| earlier.id == key.id) {
                return Err(KeyFault::Twice(number));
            }
            keys.push(key);
        }
        let mut keys = keys.into_iter();
        let sealing = keys.next().ok_or(KeyFault::None)?;
        Ok(Self { sealing, opening: keys.collect() })
    }

    /// Reads keys from a file that only its owner can read. The permissions are those of the opened
    /// file, so that it cannot be exchanged between the look and the reading.
    ///
    /// # Errors
    /// If it cannot be read, is open to others, or holds no keys.
    pub fn read(path: &Path) -> Result<Self, KeyFault> {
        let io = |source| KeyFault::Io { doing: "read master key", path: path.to_owned(), source };
        let file = File::open(path).map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        if !metadata.is_file() || metadata.len() > MAX_FILE_BYTES {
            return Err(KeyFault::NotAKeyFile(path.to_owned()));
        }
        let mode = metadata.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(KeyFault::Exposed { path: path.to_owned(), mode });
        }
        let mut text = Zeroizing::new(String::new());
        file.take(MAX_FILE_BYTES).read_to_string(&mut text).map_err(io)?;
        Self::parse(&text)
    }

    /// Writes `random` as the one key into a new file that only its owner can read, and on to the
    /// disk: something will be sealed with it at once. A file that exists is never touched.
    ///
    /// # Errors
    /// If the file exists or cannot be written, or `random` is no key.
    pub fn generate_file(path: &Path, random: [u8; KEY_BYTES]) -> Result<Self, KeyFault> {
        let io = |source| KeyFault::Io { doing: "make master key", path: path.to_owned(), source };
        let line = Zeroizing::new(general_purpose::STANDARD.encode(random));
        let text = Zeroizing::new(format!(
            "# The master key of this pgvalet: without it, nothing sealed in the state database can\n\
             # be opened. Keep a copy apart from the backups of that database.\n{}\n",
            line.as_str()
        ));
        let keys = Self::parse(&text)?;
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(path).map_err(io)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(io)?;
        // The name has to be on the disk too.
        path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all()).map_err(io)?;
        Ok(keys)
    }

    /// The key that seals.
    #[must_use]
    pub const fn sealing(&self) -> &MasterKey {
        &self.sealing
    }

    /// The key of this id, to open with.
    #[must_use]
    pub fn find(&self, id: [u8; 4]) -> Option<&MasterKey> {
        self.all().find(|key| key.id == id)
    }

    /// All keys, the sealing one first.
    pub fn all(&self) -> impl Iterator<Item = &MasterKey> {
        std::iter::once(&self.sealing).chain(&self.opening)
    }
}

/// 32 bytes from hex or base64, either alphabet, with or without padding. 64 characters are always
/// hex: in base64 they would be 48 bytes.
fn decode(line: &str) -> Option<[u8; KEY_BYTES]> {
    let bytes = Zeroizing::new(if line.len() == KEY_BYTES * 2 {
        let digits = line.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok()));
        let digits = Zeroizing::new(digits.collect::<Option<Vec<u8>>>()?);
        let pairs = digits.chunks_exact(2);
        pairs.map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect()
    } else {
        let bare = line.trim_end_matches('=');
        let standard = general_purpose::STANDARD_NO_PAD.decode(bare);
        standard.or_else(|_| general_purpose::URL_SAFE_NO_PAD.decode(bare)).ok()?
    });
    bytes.as_slice().try_into().ok()
}
