//! Where a credential goes. What can be seen to fail is seen before a lease is asked for, so that it costs
//! none.

use std::{
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use crate::{
    cli::{
        Globals, Io,
        access_arguments::Form,
        failure::Failure,
        format::{Access, CannotWrite, Format},
        libpq_files::LibpqFile,
        output::instant,
    },
    secret::Secret,
};

/// Where any text can go.
#[derive(Debug)]
pub enum Plain {
    /// Standard output.
    Standard,
    /// A new file. It gets its name when it is whole.
    File(tempfile::NamedTempFile, PathBuf),
}

impl Plain {
    /// Standard output, or a file that is not there yet.
    ///
    /// # Errors
    /// If the file is there, or its folder cannot be written.
    pub fn open(path: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = path else { return Ok(Self::Standard) };
        if path.symlink_metadata().is_ok() {
            let path = path.display();
            return Err(Failure::NotSo(format!("{path} is there already, and is not overwritten")));
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        // tempfile makes it with mode 0600.
        let file = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))
            .map_err(Failure::file(format!("make {}", path.display())))?;
        Ok(Self::File(file, path.to_owned()))
    }

    /// Writes bytes as they are.
    ///
    /// # Errors
    /// If it fails.
    pub fn write(self, text: &[u8], io: &mut Io<'_>) -> Result<(), Failure> {
        match self {
            Self::Standard => {
                io.out.write_all(text)?;
                io.out.flush()?;
            }
            Self::File(mut file, path) => {
                let fault = || Failure::file(format!("write {}", path.display()));
                file.write_all(text).map_err(fault())?;
                file.as_file().sync_all().map_err(fault())?;
                file.persist_noclobber(&path).map_err(|e| fault()(e.error))?;
            }
        }
        Ok(())
    }

    /// Writes one part of a credential: with a newline for a person, without one for a program, which would
    /// have to cut it off.
    ///
    /// # Errors
    /// If it fails.
    pub fn write_field(self, value: &Secret<String>, io: &mut Io<'_>) -> Result<(), Failure> {
        let for_a_person = matches!(self, Self::Standard) && io.terminals.out;
        self.write(value.expose().as_bytes(), io)?;
        if for_a_person {
            writeln!(io.out)?;
        }
        Ok(())
    }
}

/// Where a credential goes.
#[derive(Debug)]
pub enum Destination {
    /// Where any text can go.
    Plain(Plain),
    /// libpq's own file.
    Installed(LibpqFile),
    /// The files of a step of GitHub Actions.
    GitHub {
        /// For variables.
        environment: fs::File,
        /// For outputs, if the runner has them.
        output: Option<fs::File>,
    },
}

impl Destination {
    /// The one that a form names.
    ///
    /// # Errors
    /// If it cannot be written, or does not go with the rest of the form.
    pub fn open(form: &Form, globals: &Globals, io: &Io<'_>) -> Result<Self, Failure> {
        let destination = match (form.format, form.install) {
            (Format::Pgservice, true) => LibpqFile::services(io).map(Self::Installed)?,
            (Format::Pgpass, true) => LibpqFile::passwords(io).map(Self::Installed)?,
            (_, true) => {
                return Err(Failure::Usage(
                    "--install is for --format pgservice and --format pgpass".to_owned(),
                ));
            }
            (Format::Github, false) if form.out.is_some() => {
                return Err(Failure::Usage(
                    "--format github writes to $GITHUB_ENV and $GITHUB_OUTPUT, not to --out"
                        .to_owned(),
                ));
            }
            (Format::Github, false) => Self::github(io)?,
            (_, false) => Plain::open(form.out.as_deref()).map(Self::Plain)?,
        };
        if globals.json { destination.plain().map(Self::Plain) } else { Ok(destination) }
    }

    /// Where the API's JSON can go.
    ///
    /// # Errors
    /// If it can not.
    pub fn plain(self) -> Result<Plain, Failure> {
        match self {
            Self::Plain(plain) => Ok(plain),
            Self::Installed(_) | Self::GitHub { .. } => Err(Failure::Usage(
                "--json prints the API's answer: it goes with neither --install nor --format github"
                    .to_owned(),
            )),
        }
    }

    fn github(io: &Io<'_>) -> Result<Self, Failure> {
        let open = |path: String| {
            // The runner makes the files. Where somebody tries it without one, they are private.
            let mut options = fs::OpenOptions::new();
            options.append(true).create(true).mode(0o600);
            options.open(&path).map_err(Failure::file(format!("write {path}")))
        };
        let environment = io.environment.text("GITHUB_ENV").ok_or_else(|| {
            Failure::Usage(
                "--format github is for a step of GitHub Actions: GITHUB_ENV is not set".to_owned(),
            )
        })?;
        let output = io.environment.text("GITHUB_OUTPUT").map(open).transpose()?;
        Ok(Self::GitHub { environment: open(environment)?, output })
    }

    /// Writes a credential in a format.
    ///
    /// # Errors
    /// If the format cannot hold it, or the destination fails.
    pub fn hand_over(
        self,
        access: &Access<'_>,
        format: Format,
        io: &mut Io<'_>,
    ) -> Result<(), Failure> {
        let not_so = |e: CannotWrite| Failure::NotSo(e.to_string());
        let text = access.write(format).map_err(not_so)?;
        match self {
            Self::Installed(file) => {
                let replaced = file.install(access, &text, io)?;
                let how = match format {
                    Format::Pgservice => format!("service={}", access.service_name()),
                    _ => access.uri_without_password(),
                };
                writeln!(io.out, "{how}")?;
                if io.terminals.err {
                    let until = instant(access.expires_at);
                    writeln!(io.err, "in {} until {until}", file.path().display())?;
                    for id in replaced {
                        writeln!(
                            io.err,
                            "in the place of {id}, which is alive: pgvalet revoke {id}"
                        )?;
                    }
                }
                Ok(())
            }
            Self::GitHub { mut environment, output } => {
                // Whatever happens next, nothing of it is shown.
                io.out.write_all(access.github_masks().expose().as_bytes())?;
                io.out.flush()?;
                let written = environment.write_all(text.expose().as_bytes());
                written.map_err(Failure::file("write $GITHUB_ENV"))?;
                if let Some(mut output) = output {
                    let text = access.github_output().map_err(not_so)?;
                    let written = output.write_all(text.as_bytes());
                    written.map_err(Failure::file("write $GITHUB_OUTPUT"))?;
                }
                Ok(())
            }
            Self::Plain(plain) => plain.write(text.expose().as_bytes(), io),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_that_is_there_is_not_overwritten_and_a_new_one_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("credential");
        let Plain::File(mut file, to) = Plain::open(Some(&path)).unwrap() else {
            panic!("a file was asked for");
        };
        file.write_all(b"x").unwrap();
        file.persist_noclobber(&to).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Plain::open(Some(&path)).unwrap_err().exit_status(), 1);
    }
}
