//! Completions for shells, and manual pages: from the same declarations as `--help`.

use std::path::Path;

use clap::CommandFactory;
use clap_complete::aot;

use crate::cli::{Arguments, Io, failure::Failure, local_arguments::Shell};

/// The program's name.
const NAME: &str = "pgvalet";

/// `pgvalet completions SHELL`.
///
/// # Errors
/// If standard output fails.
pub fn completions(shell: Shell, io: &mut Io<'_>) -> Result<u8, Failure> {
    let shell = match shell {
        Shell::Bash => aot::Shell::Bash,
        Shell::Zsh => aot::Shell::Zsh,
        Shell::Fish => aot::Shell::Fish,
    };
    let mut text = Vec::new();
    aot::generate(shell, &mut Arguments::command(), NAME, &mut text);
    io.out.write_all(&text)?;
    Ok(0)
}

/// `pgvalet man`.
///
/// # Errors
/// If standard output or the folder cannot be written.
pub fn manual(out: Option<&Path>, io: &mut Io<'_>) -> Result<u8, Failure> {
    let command = Arguments::command().disable_help_subcommand(true);
    match out {
        None => clap_mangen::Man::new(command).render(&mut *io.out)?,
        Some(folder) => {
            let fault = || Failure::file(format!("write manual pages into {}", folder.display()));
            std::fs::create_dir_all(folder).map_err(fault())?;
            clap_mangen::generate_to(command, folder).map_err(fault())?;
            if io.terminals.err {
                writeln!(io.err, "written to {}", folder.display())?;
            }
        }
    }
    Ok(0)
}
