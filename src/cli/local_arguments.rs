//! The commands of the client that ask no daemon, and their arguments.

use std::path::PathBuf;

/// The commands that work on this machine alone.
#[derive(Debug, clap::Subcommand)]
pub enum LocalCommand {
    /// List the daemons that you are signed in to, and which one is asked
    #[command(after_help = "\
Examples:
  pgvalet daemons
  pgvalet login --as prod --url https://pgvalet.example.org    one more of them
  pgvalet --daemon prod get shop-read                          ask this one, once
  PGVALET_DAEMON=prod pgvalet get shop-read                    the same")]
    Daemons,
    /// Choose the daemon that is asked when none is named
    #[command(after_help = "Examples:\n  pgvalet use prod")]
    Use {
        /// Its name, as `pgvalet daemons` shows it.
        name: String,
    },
    /// Print a shell's completions
    #[command(after_help = "\
Examples:
  source <(pgvalet completions bash)                       for this bash
  pgvalet completions bash > ~/.local/share/bash-completion/completions/pgvalet
  pgvalet completions zsh > ~/.zfunc/_pgvalet              with ~/.zfunc in $fpath
  pgvalet completions fish > ~/.config/fish/completions/pgvalet.fish")]
    Completions {
        /// Whose.
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Print the manual page, or write those of all commands
    #[command(after_help = "\
Examples:
  pgvalet man | man -l -
  pgvalet man --out ~/.local/share/man/man1            then: man pgvalet-get")]
    Man {
        /// Write a page for each command into this folder, which is made if need be.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
}

/// A shell that completions are made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Shell {
    /// bash, 4.4 or newer.
    Bash,
    /// zsh.
    Zsh,
    /// fish.
    Fish,
}
