//! How values stand in a URI, in libpq's keywords and values, and in a shell.

/// A path, or (`@`) Linux's abstract sockets: what libpq takes for a socket.
pub(super) fn is_socket(host: &str) -> bool {
    host.starts_with(['/', '@'])
}

/// An IPv6 address stands in brackets.
pub(super) fn uri_host(host: &str) -> String {
    match host.parse::<std::net::Ipv6Addr>() {
        Ok(_) => format!("[{host}]"),
        Err(_) => percent(host),
    }
}

/// RFC 3986: everything but the unreserved letters, as UTF-8.
pub(super) fn percent(text: &str) -> String {
    use std::fmt::Write;
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing into a string cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

pub(super) fn query<'a>(pairs: impl Iterator<Item = &'a (&'static str, String)>) -> String {
    let pairs: Vec<String> =
        pairs.map(|(key, value)| format!("{key}={}", percent(value))).collect();
    format!("?{}", pairs.join("&"))
}

/// A value among libpq's keywords and values.
pub(super) fn libpq_quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', r"\\").replace('\'', r"\'"))
}

/// One word of a POSIX shell, which has no escapes between single quotes.
pub(super) fn shell_quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}
