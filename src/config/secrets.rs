//! Secrets of the file: written into it, or in a file of their own, which its text names.

use std::{
    fs,
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use crate::{
    document::{Table, TextSource},
    secret::Secret,
};

/// The secret under a key, without the white space around it.
pub(in crate::config) fn read(
    table: &mut Table,
    key: &'static str,
    folder: &Path,
) -> Option<Secret<String>> {
    read_with_file(table, key, folder).map(|(secret, _)| secret)
}

/// The same, with the file that it stands in, if it is one of its own.
pub(in crate::config) fn read_with_file(
    table: &mut Table,
    key: &'static str,
    folder: &Path,
) -> Option<(Secret<String>, Option<PathBuf>)> {
    match table.text_or_file(key)? {
        TextSource::Inline(text) => Some((Secret::new(text.as_str().to_owned()), None)),
        TextSource::File(file) => {
            let file = folder.join(file);
            let text = read_file(table, key, &file)?;
            Some((Secret::new(text.trim().to_owned()), Some(file)))
        }
    }
}

/// What is in a file that is named under a key.
pub(in crate::config) fn read_file(
    table: &Table,
    key: &str,
    file: &Path,
) -> Option<Zeroizing<String>> {
    let fault = match fs::read_to_string(file).map(Zeroizing::new) {
        Ok(text) if !text.trim().is_empty() => return Some(text),
        Ok(_) => format!("{} is empty", file.display()),
        Err(error) => format!("{} cannot be read: {error}", file.display()),
    };
    table.fault(key, &fault);
    None
}
