//! Networks as they are written in stacks: a network of its own table, and how a container is attached to one.

use core::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::container::{Complain, ContainerTable, parsed};
use super::written::Several;
use crate::container::{Network, text};
use crate::network::text::publish;

/// `[network.NAME]`. Every key may be absent.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct NetworkTable {
    /// IPv4 addresses of its workloads, such as `"10.1.2.0/24"`; chosen by the node when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subnet: Option<String>,
    /// The node's own address in it; the first when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// Its workloads get IPv6 addresses as well.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ipv6: bool,
    /// IPv6 addresses of its workloads, such as `"fd12:3456::/64"`; chosen by the node when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subnet6: Option<String>,
    /// Its workloads reach each other and nothing else.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub internal: bool,
    /// Largest packet, bytes; 1,500 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Who is asked about names outside of it; the machine's resolvers when absent.
    #[serde(skip_serializing_if = "Several::is_none")]
    pub dns: Several,
    /// A CNI configuration list: its plugins make the network. A file, relative to the stack's file; on the wire, what
    /// that file says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cni: Option<String>,
}

/// A resolver's address.
pub(super) fn resolver(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("{text:?} is no IP address"))
}

/// The network of a container, with what is published of it. What makes no sense is told.
pub(super) fn of_container(table: &ContainerTable, complain: Complain<'_>) -> Option<Network> {
    let mut network = match table.network.as_deref().map(text::network).transpose() {
        Ok(network) => network,
        Err(why) => {
            complain("network", why);
            return None;
        }
    };
    let ports = parsed("publish", &table.publish, publish, complain);
    let dns = parsed("dns", &table.dns, resolver, complain);
    if let Some(Network::Named(attachment)) = &mut network {
        (attachment.publish, attachment.dns) = (ports, dns);
        return network;
    }
    for (field, written) in [("publish", &table.publish), ("dns", &table.dns)] {
        if !written.is_none() {
            complain(field, "needs a network of the node: write network = \"NAME\" beside it".to_owned());
        }
    }
    network
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_attached_as_it_is_written() {
        let table = |json: &str| serde_json::from_str::<ContainerTable>(json).expect("a table");
        let mut told = Vec::new();
        let written = r#"{"rootfs":"/r","network":"blue,alias=db","publish":["8080:80","53:53/udp"],"dns":"9.9.9.9"}"#;
        let network = of_container(&table(written), &mut |field, what| told.push(format!("{field}: {what}")));
        let attachment = network.as_ref().and_then(Network::attachment).expect("attached");
        assert_eq!((attachment.publish.len(), attachment.dns.len(), attachment.aliases.len()), (2, 1, 1));
        assert!(told.is_empty(), "{told:?}");
        for (json, fields) in [
            (r#"{"network":"host","publish":"80:80"}"#, &["publish"][..]),
            (r#"{"dns":"1.1.1.1","publish":"80:80"}"#, &["publish", "dns"]),
            (r#"{"network":"blue","publish":"80","dns":["x"]}"#, &["publish", "dns"]),
            (r#"{"network":"a/b","publish":"80:80"}"#, &["network"]),
        ] {
            let mut told = Vec::new();
            of_container(&table(json), &mut |field, _| told.push(field.to_owned()));
            assert_eq!(told, fields, "{json}");
        }
    }
}
