//! The daemon's address, and whether a token may be sent there.

use reqwest::Url;

use crate::{cli::failure::Failure, domain::network::is_this_machine};

/// Where a token may travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Over https, or over http to this machine.
    Protected,
    /// Over http to anywhere: the caller said so.
    PlainHttp,
}

/// Reads an address.
///
/// # Errors
/// If a token must not be sent there, with the reason.
pub fn read(text: &str, transport: Transport) -> Result<Url, Failure> {
    let usage = |why: &str| Failure::Usage(format!("`{text}` is not a daemon's address: {why}"));
    let url: Url = text.parse().map_err(|_| usage("write it like https://pgvalet.example.org"))?;
    let host = url.host_str().ok_or_else(|| usage("it names no host"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Failure::Usage(
            "the daemon's address must not hold a user or password: the token says who you are"
                .to_owned(),
        ));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(usage("leave out everything from `?` or `#` on"));
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_this_machine(host) || transport == Transport::PlainHttp => Ok(url),
        "http" => Err(usage(
            "over plain http to another machine your token and every password would travel in clear \
             text. Use https, or --insecure-http if the way is protected otherwise",
        )),
        _ => Err(usage("it begins with https:// (or http:// for this machine)")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_travels_only_where_nobody_reads_it() {
        for (url, transport, allowed) in [
            ("https://pgvalet.example.org", Transport::Protected, true),
            ("https://pgvalet.example.org/below/", Transport::Protected, true),
            ("http://127.0.0.1:8432", Transport::Protected, true),
            ("http://[::1]:8432", Transport::Protected, true),
            ("http://localhost:8432", Transport::Protected, true),
            ("http://pgvalet.example.org", Transport::Protected, false),
            ("http://127.0.0.1.example.org", Transport::Protected, false),
            ("http://localhost.example.org", Transport::Protected, false),
            ("http://pgvalet.example.org", Transport::PlainHttp, true),
            ("ftp://127.0.0.1", Transport::PlainHttp, false),
            ("https://alice:secret@pgvalet.example.org", Transport::Protected, false),
            ("https://pgvalet.example.org/?a=b", Transport::Protected, false),
            ("pgvalet.example.org", Transport::Protected, false),
            ("localhost:8432", Transport::Protected, false),
        ] {
            let read = read(url, transport);
            assert_eq!(read.is_ok(), allowed, "{url}");
            if let Err(failure) = read {
                assert_eq!(failure.exit_status(), 2);
                assert!(!failure.to_string().contains("secret"), "{failure}");
            }
        }
    }
}
