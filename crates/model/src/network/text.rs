//! Attachments and published ports as people write them, on command lines and in stack files.

use core::net::IpAddr;

use super::{Attachment, Protocol, Publish};
use crate::units::parse_size_bytes;

/// `NAME[,ip=ADDRESS][,ip6=ADDRESS][,alias=NAME]…[,rate=10M]`.
pub fn attachment(text: &str) -> Result<Attachment, String> {
    let mut parts = text.split(',');
    let name = parts.next().unwrap_or_default();
    let mut attachment = Attachment::to(name.parse().map_err(|error| format!("{error}"))?);
    for part in parts {
        let bad = || format!("{part:?} of {text:?} is not an option: write ip=, ip6=, alias= or rate=");
        match part.split_once('=').ok_or_else(bad)? {
            ("ip", value) => attachment.ip = Some(value.parse().map_err(|_| format!("{value:?} is no IPv4 address"))?),
            ("ip6", value) => {
                attachment.ip6 = Some(value.parse().map_err(|_| format!("{value:?} is no IPv6 address"))?);
            }
            ("alias", value) => attachment.aliases.push(value.to_owned()),
            ("rate", value) => {
                attachment.rate_bytes_per_s = Some(parse_size_bytes(value).map_err(|error| error.to_string())?);
            }
            _ => return Err(bad()),
        }
    }
    attachment.check("network").map_err(|problem| problem.detail)?;
    Ok(attachment)
}

/// `[HOST:]PORT:PORT[/udp]`: an address of this machine, in brackets if it is IPv6; a port of this machine; one of the
/// workload.
pub fn publish(text: &str) -> Result<Publish, String> {
    let error = || {
        format!("{text:?} is not a published port: write [HOST:]PORT:PORT[/udp], as 8080:80 or 127.0.0.1:5353:53/udp")
    };
    let (ports, protocol) = match text.rsplit_once('/') {
        Some((ports, "tcp")) => (ports, Protocol::Tcp),
        Some((ports, "udp")) => (ports, Protocol::Udp),
        Some(_) => return Err(error()),
        None => (text, Protocol::Tcp),
    };
    let (rest, port) = ports.rsplit_once(':').ok_or_else(error)?;
    let (host, host_port) = match rest.rsplit_once(':') {
        Some((host, host_port)) => (Some(host), host_port),
        None => (None, rest),
    };
    let number = |text: &str| text.parse::<u16>().ok().filter(|number| *number > 0).ok_or_else(error);
    let host = host.map(|host| {
        let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        match bracketed.unwrap_or(host).parse::<IpAddr>() {
            Ok(address) if address.is_ipv6() == bracketed.is_some() => Ok(address),
            _ => Err(error()),
        }
    });
    let host = host.transpose()?.filter(|host| !host.is_unspecified());
    Ok(Publish { host, host_port: number(host_port)?, port: number(port)?, protocol })
}

/// As [`publish`] reads it.
#[must_use]
pub fn published(publish: &Publish) -> String {
    let host = match publish.host {
        Some(IpAddr::V6(host)) => format!("[{host}]:"),
        Some(host) => format!("{host}:"),
        None => String::new(),
    };
    let protocol = if publish.protocol == Protocol::Udp { "/udp" } else { "" };
    format!("{host}{}:{}{protocol}", publish.host_port, publish.port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attachments() {
        let all = attachment("blue,ip=10.0.0.7,alias=db,alias=sql,rate=1M").expect("valid");
        assert_eq!((all.name.as_str(), all.ip, all.aliases.len()), ("blue", "10.0.0.7".parse().ok(), 2));
        assert_eq!(all.rate_bytes_per_s, Some(1 << 20));
        for bad in
            ["", "a/b", "blue,ip", "blue,ip=x", "blue,ip6=1.2.3.4", "blue,alias=a b", "blue,what=1", ",ip=1.1.1.1"]
        {
            assert!(attachment(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn published_ports() {
        for text in ["8080:80", "127.0.0.1:53:53/udp", "[::1]:1:2"] {
            assert_eq!(published(&publish(text).expect(text)), text);
        }
        assert_eq!(publish("0.0.0.0:1:2").expect("all").host, None);
        assert_eq!(publish("1:2/tcp").expect("tcp").protocol, Protocol::Tcp);
        for bad in ["", "80", "0:80", "80:0", "a:1:2", "::1:1:2", "[1.2.3.4]:1:2", "1:2/sctp", "70000:1", "1:2:3:4"] {
            assert!(publish(bad).is_err(), "{bad}");
        }
    }
}
