//! Addresses that Hostler itself calls: `http://` and `https://`, and nothing a browser would put up with.

use crate::limits;

/// The parts of an address, borrowed from its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpUrl<'a> {
    /// `https`.
    pub tls: bool,
    /// Name or address, IPv6 without its brackets.
    pub host: &'a str,
    /// The scheme's own when none is written.
    pub port: u16,
    /// Host and port as written: the `Host` header.
    pub authority: &'a str,
    /// Path and query, `/` when none is written.
    pub target: &'a str,
}

impl<'a> HttpUrl<'a> {
    /// Takes a text apart; the error says what is wrong with it.
    pub fn parse(text: &'a str) -> Result<Self, &'static str> {
        if text.len() > limits::HOOK_URL_MAX || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("must be at most 2048 bytes of ASCII without blanks; write others as %XX");
        }
        let (tls, rest) = match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
            (Some(rest), _) => (false, rest),
            (_, Some(rest)) => (true, rest),
            _ => return Err("must begin with http:// or https://"),
        };
        if rest.contains('#') {
            return Err("must not have a fragment (#): it would not be sent");
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        if authority.contains('@') {
            return Err("must not hold credentials; put them into a header");
        }
        let target = match target {
            "" => "/",
            query if query.starts_with('?') => return Err("must have a path before its query: write /?…"),
            path => path,
        };
        let (host, port) = split_port(authority)?;
        Ok(Self { tls, host, port: port.unwrap_or(if tls { 443 } else { 80 }), authority, target })
    }
}

fn split_port(authority: &str) -> Result<(&str, Option<u16>), &'static str> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or("has an IPv6 address without its closing bracket")?;
            if host.parse::<core::net::Ipv6Addr>().is_err() {
                return Err("has brackets around what is no IPv6 address");
            }
            let port = match after {
                "" => None,
                after => Some(after.strip_prefix(':').ok_or("has something other than a port after its host")?),
            };
            (host, port)
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if host.is_empty() || (!authority.starts_with('[') && !host.bytes().all(is_name)) {
        return Err("must name a host");
    }
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match port {
        None => Ok((host, None)),
        Some(port) => match port.parse::<u16>() {
            Ok(number) if number > 0 && digits(port) => Ok((host, Some(number))),
            _ => Err("must have a port from 1 to 65535, or none"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let parts = |text| {
            let url = HttpUrl::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"));
            (url.tls, url.host, url.port, url.authority, url.target)
        };
        assert_eq!(parts("http://a.b"), (false, "a.b", 80, "a.b", "/"));
        assert_eq!(parts("https://a:8443/x/y?z=1"), (true, "a", 8443, "a:8443", "/x/y?z=1"));
        assert_eq!(parts("http://[::1]:9/"), (false, "::1", 9, "[::1]:9", "/"));
        for bad in [
            "",
            "a.b",
            "http://",
            "http:///x",
            "http://:80",
            "http://a:0",
            "http://a:",
            "http://a:65536",
            "http://a:+1",
            "http://u@a",
            "http://a b",
            "http://ä",
            "http://a/#x",
            "http://a?x",
            "http://[::1",
            "http://[x]",
            "HTTP://a",
            "http://a:1:2",
            "http://a\r\nX: y",
            "file:///etc/passwd",
        ] {
            assert!(HttpUrl::parse(bad).is_err(), "{bad:?}");
        }
    }
}
