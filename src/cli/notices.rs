//! Notices: listed, sent again, and channels tried.

use reqwest::Method;

use crate::{
    api::notices::{ChannelTried, Notice, ReplayNotices, Replayed, TryChannel},
    cli::{
        Globals, Io,
        call::Call,
        failure::Failure,
        output::{self, instant, plain, watched},
        session,
    },
    domain::notice::NoticeState,
    ids::NoticeId,
};

/// `pgvalet notices`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Notices {
    /// What to do; they are listed, if nothing.
    #[command(subcommand)]
    pub command: Option<NoticesCommand>,
    /// Those that were given up.
    #[arg(long, conflicts_with = "waiting")]
    pub dead: bool,
    /// Those that were not told yet.
    #[arg(long)]
    pub waiting: bool,
    /// Those for this channel: `webhook:NAME`, `mail:ADDRESS` or `slack`.
    #[arg(long)]
    pub channel: Option<String>,
    /// How many at most.
    #[arg(short = 'n', long, default_value_t = 20)]
    pub limit: usize,
}

/// What is done with notices.
#[derive(Debug, clap::Subcommand)]
pub enum NoticesCommand {
    /// Send notices again that were given up
    #[command(after_help = "\
Examples:
  pgvalet notices replay ntc_0190c5d3e1a27c41b1f5d0c2a1b3c4d5
  pgvalet notices replay --dead --channel webhook:pager")]
    Replay {
        /// This one.
        #[arg(value_name = "NOTICE", required_unless_present = "dead")]
        id: Option<NoticeId>,
        /// All of them.
        #[arg(long, conflicts_with = "id")]
        dead: bool,
        /// All of this channel.
        #[arg(long, requires = "dead")]
        channel: Option<String>,
    },
    /// Send a notice to a channel now, and say what came of it
    #[command(after_help = "\
Examples:
  pgvalet notices test webhook:pager
  pgvalet notices test mail:dba@example.org

Exit status: 0 it was taken, 1 it was not")]
    Test {
        /// The channel: `webhook:NAME`, `mail:ADDRESS` or `slack`.
        channel: String,
    },
}

/// `pgvalet notices`.
///
/// # Errors
/// If the daemon is unavailable, or refuses.
pub async fn notices(given: Notices, globals: &Globals, io: &mut Io<'_>) -> Result<u8, Failure> {
    match given.command {
        None => list(&given, globals, io).await,
        Some(NoticesCommand::Replay { id, channel, .. }) => replay(id, channel, globals, io).await,
        Some(NoticesCommand::Test { channel }) => test(channel, globals, io).await,
    }
}

async fn list(given: &Notices, globals: &Globals, io: &mut Io<'_>) -> Result<u8, Failure> {
    let client = session::sign_in(globals, io)?;
    let state = match (given.dead, given.waiting) {
        (true, _) => Some(NoticeState::Dead.as_str()),
        (_, true) => Some(NoticeState::Waiting.as_str()),
        _ => None,
    };
    let filter = [("state", state), ("channel", given.channel.as_deref())];
    let items =
        watched(io, "asking the daemon", client.list("notices", &filter, given.limit)).await?;
    if globals.json {
        output::json(io, &serde_json::json!({ "items": items }))?;
        return Ok(0);
    }
    let notices: Vec<Notice> = output::read_items(items)?;
    let row = |notice: Notice| {
        let state = match (notice.state, notice.attempts) {
            (NoticeState::Waiting, tries @ 1..) => format!("waiting, tried {tries} times"),
            (state, _) => state.as_str().to_owned(),
        };
        let why = notice.last_error.unwrap_or_default();
        vec![
            notice.id.to_string(),
            instant(notice.created_at),
            notice.channel,
            state,
            notice.title,
            why,
        ]
    };
    let header = ["notice", "made", "channel", "state", "what", "in the way"];
    output::table(io, &header, notices.into_iter().map(row).collect())?;
    Ok(0)
}

async fn replay(
    id: Option<NoticeId>,
    channel: Option<String>,
    globals: &Globals,
    io: &mut Io<'_>,
) -> Result<u8, Failure> {
    let client = session::sign_in(globals, io)?;
    let replayed = match id {
        Some(id) => {
            let id = id.to_string();
            let path = ["v1", "notices", &id, "replay"];
            let call = Call { method: Method::POST, ..Call::get(&path) };
            watched(io, "asking the daemon", client.done(call)).await?;
            Replayed { notices: 1 }
        }
        None => {
            let call = Call::post(&["v1", "notices", "replay"], &ReplayNotices { channel })?;
            watched(io, "asking the daemon", client.read(call)).await?.value
        }
    };
    if globals.json {
        output::json(io, &replayed)?;
    } else {
        writeln!(io.err, "{} notices are sent again", replayed.notices)?;
    }
    Ok(0)
}

async fn test(channel: String, globals: &Globals, io: &mut Io<'_>) -> Result<u8, Failure> {
    let client = session::sign_in(globals, io)?;
    let name = plain(&channel);
    let call = Call::post(&["v1", "notices", "test"], &TryChannel { channel })?;
    let tried: ChannelTried = watched(io, "sending", client.read(call)).await?.value;
    if globals.json {
        output::json(io, &tried)?;
    } else if let Some(why) = &tried.why {
        writeln!(io.err, "{name} was not told: {}", plain(why))?;
    } else {
        writeln!(io.err, "{name} was told, in {} ms", tried.milliseconds)?;
    }
    Ok(u8::from(!tried.told))
}
