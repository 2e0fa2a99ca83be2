//! A token or a password typed on a terminal, unseen.
//!
//! Read key by key, with the terminal's own handling of Ctrl-C off: a process that died in the
//! middle would leave the terminal silent.

use std::io::{Read, Write};

use rustix::termios::{self, LocalModes, OptionalActions, SpecialCodeIndex, Termios};

use crate::{cli::failure::Failure, secret::Secret};

/// Puts the terminal back however the reading ends.
struct Silenced<'a> {
    terminal: &'a std::fs::File,
    before: Termios,
}

impl<'a> Silenced<'a> {
    fn new(terminal: &'a std::fs::File) -> std::io::Result<Self> {
        let before = termios::tcgetattr(terminal)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        silent.special_codes[SpecialCodeIndex::VMIN] = 1;
        silent.special_codes[SpecialCodeIndex::VTIME] = 0;
        termios::tcsetattr(terminal, OptionalActions::Flush, &silent)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Silenced<'_> {
    fn drop(&mut self) {
        // Nothing more can be done about a terminal that is gone.
        let _ = termios::tcsetattr(self.terminal, OptionalActions::Now, &self.before);
    }
}

/// Reads one line from the terminal without showing it. The question is put once the terminal is
/// silent, so that a paste right after it is not shown either.
///
/// # Errors
/// If there is no terminal, or the reading is broken off.
pub fn read_unseen(question: &str, err: &mut dyn Write) -> Result<Secret<String>, Failure> {
    let open = std::fs::OpenOptions::new().read(true).write(true).open("/dev/tty");
    let terminal = open.map_err(Failure::file("open the terminal"))?;
    let silenced = Silenced::new(&terminal).map_err(Failure::file("silence the terminal"))?;
    write!(err, "{question}")?;
    err.flush()?;
    // One at a time, so that nothing typed after Enter is taken away from the next program.
    let line = read_keys(std::iter::from_fn(|| {
        let mut terminal = silenced.terminal;
        let mut key = [0_u8];
        terminal.read_exact(&mut key).is_ok().then_some(key[0])
    }));
    drop(silenced);
    writeln!(err)?;
    line
}

/// Enter ends, Backspace takes back, Ctrl-U clears, Ctrl-C and Ctrl-D break off.
fn read_keys(keys: impl Iterator<Item = u8>) -> Result<Secret<String>, Failure> {
    let mut line = Secret::new(Vec::<u8>::new());
    for key in keys {
        match key {
            b'\r' | b'\n' => {
                let text = String::from_utf8_lossy(line.expose()).trim().to_owned();
                return if text.is_empty() {
                    Err(Failure::Usage("nothing was typed".to_owned()))
                } else {
                    Ok(Secret::new(text))
                };
            }
            0x7f | 0x08 => drop(line.expose_mut().pop()),
            0x15 => line.expose_mut().clear(),
            0x03 | 0x04 => break,
            key => line.expose_mut().push(key),
        }
    }
    Err(Failure::NotSo("broken off".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_become_a_line() {
        for (keys, line) in [
            (&b"pgv_a\n"[..], Some("pgv_a")),
            (b"x\x15pgv_a\r", Some("pgv_a")),
            (b"pgv_ab\x7f\n", Some("pgv_a")),
            (b"\n", None),
            (b"pgv\x03", None),
            (b"pgv", None),
        ] {
            let read = read_keys(keys.iter().copied()).ok();
            assert_eq!(read.as_ref().map(|s| s.expose().as_str()), line, "{keys:?}");
        }
    }
}
