//! The arguments of `pgvalet review`.

use crate::{
    domain::{duration::Seconds, name::Name},
    ids::{ReviewId, ReviewItemId},
};

/// `pgvalet review`.
#[derive(Debug, clap::Args)]
pub struct Review {
    /// What to do.
    #[command(subcommand)]
    pub command: ReviewCommand,
}

/// What to do about access reviews.
#[derive(Debug, clap::Subcommand)]
pub enum ReviewCommand {
    /// List reviews, newest first
    #[command(after_help = "Examples:\n  pgvalet review list")]
    List,
    /// Open one: of everybody, or of one principal
    #[command(
        after_help = "Examples:\n  pgvalet review open\n  pgvalet review open --person alice"
    )]
    Open {
        /// Of this person or service alone (`person:alice`, or just `alice`).
        #[arg(long)]
        person: Option<String>,
    },
    /// Show how far one is
    #[command(after_help = "Examples:\n  pgvalet review show rvw_0190c5d3e1a27c41b1f5d0c2a1b3c4d5")]
    Show {
        /// The review.
        id: ReviewId,
    },
    /// List its items: who can reach which profile, by which rule, and how it was used
    #[command(after_help = "\
Examples:
  pgvalet review items rvw_0190c5d3e1a27c41b1f5d0c2a1b3c4d5 --undecided
  pgvalet review items rvw_0190c5d3e1a27c41b1f5d0c2a1b3c4d5 --never-used --profile shop-write")]
    Items(Items),
    /// List its profiles: what is granted and no statement asked for, where the target remembers statements
    #[command(
        after_help = "Examples:\n  pgvalet review profiles rvw_0190c5d3e1a27c41b1f5d0c2a1b3c4d5"
    )]
    Profiles {
        /// The review.
        id: ReviewId,
    },
    /// Decide items: keep, narrow or remove, with a reason
    #[command(after_help = "\
Examples:
  pgvalet review decide rvw_0190c5d3e1a27c41b1f5d0c2a1b3c4d5 --never-used --remove --reason 'never used'
  pgvalet review decide rvw_0190c5d3e1a27c41b1f5d0c2a1b3c4d5 --person alice --narrow 15m --reason 'reads only'
  pgvalet review decide rvw_0190c5d3e1a27c41b1f5d0c2a1b3c4d5 --all --keep --reason 'as last quarter'

It takes effect at once: leases end with what is removed. Nobody decides about what they reach themselves: such
items are left out, and counted. Sign in with `pgvalet login`, or use a token made with --scope approve.")]
    Decide(Decide),
    /// Go through what waits, one item after the other
    #[command(after_help = "Examples:\n  pgvalet review walk rvw_0190c5d3e1a27c41b1f5d0c2a1b3c4d5")]
    Walk {
        /// The review.
        id: ReviewId,
    },
    /// Answer for a review in which everything is decided: it is over
    #[command(
        after_help = "Examples:\n  pgvalet review sign-off rvw_0190c5d3e1a27c41b1f5d0c2a1b3c4d5 --comment 'third quarter'"
    )]
    SignOff {
        /// The review.
        id: ReviewId,
        /// What is to be remembered of it.
        #[arg(long)]
        comment: Option<String>,
    },
    /// Print it as CSV or Markdown
    #[command(
        after_help = "Examples:\n  pgvalet review export rvw_0190c5d3e1a27c41b1f5d0c2a1b3c4d5 --format markdown > review.md"
    )]
    Export {
        /// The review.
        id: ReviewId,
        /// The form.
        #[arg(long, default_value = "csv", value_parser = ["csv", "markdown"])]
        format: String,
    },
    /// Give back what a review took away
    #[command(
        after_help = "Examples:\n  pgvalet review restore person:alice shop-write --reason 'on call again'\n\nFor those who look after profiles; nobody gives back what is their own."
    )]
    Restore {
        /// Whom it is given back to (`person:alice`, or just `alice`), or `anyone`.
        principal: String,
        /// The profile.
        profile: Name,
        /// Why.
        #[arg(long)]
        reason: String,
    },
}

/// `pgvalet review items`.
#[derive(Debug, clap::Args)]
pub struct Items {
    /// The review.
    pub id: ReviewId,
    /// Those that wait.
    #[arg(long)]
    pub undecided: bool,
    /// Those of this profile.
    #[arg(long)]
    pub profile: Option<Name>,
    /// Those of this person or service (`person:alice`, or just `alice`), or of `anyone`.
    #[arg(long)]
    pub person: Option<String>,
    /// Those that were never used.
    #[arg(long)]
    pub never_used: bool,
}

/// `pgvalet review decide`.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("which").required(true).multiple(true))]
#[command(group = clap::ArgGroup::new("verdict").required(true))]
pub struct Decide {
    /// The review.
    pub id: ReviewId,
    /// These items.
    #[arg(long = "item", group = "which", conflicts_with_all = ["person", "profile", "never_used", "all"])]
    pub items: Vec<ReviewItemId>,
    /// Those of this person or service (`person:alice`, or just `alice`), or of `anyone`.
    #[arg(long, group = "which")]
    pub person: Option<String>,
    /// Those of this profile.
    #[arg(long, group = "which")]
    pub profile: Option<Name>,
    /// Those that were never used.
    #[arg(long, group = "which")]
    pub never_used: bool,
    /// All that wait.
    #[arg(long, group = "which", conflicts_with_all = ["person", "profile", "never_used"])]
    pub all: bool,
    /// It stays as it is.
    #[arg(long, group = "verdict")]
    pub keep: bool,
    /// It stays; a lease lasts no longer than this, such as `15m`.
    #[arg(long, group = "verdict", value_name = "TTL")]
    pub narrow: Option<Seconds>,
    /// It is taken away, and leases end with it.
    #[arg(long, group = "verdict")]
    pub remove: bool,
    /// Why.
    #[arg(long)]
    pub reason: String,
}
