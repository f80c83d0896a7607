//! The interfaces of a guest, set by the calls that need no library: a guest has one address of each kind on each of them.

use std::ffi::CString;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// An interface as it should be.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Its hardware address.
    pub mac: [u8; 6],
    /// Its addresses, at most one of each kind, with the lengths of their networks.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Where everything else is reached, at most one of each kind.
    pub gateways: Vec<IpAddr>,
    /// Its largest packet, bytes.
    pub mtu: Option<u32>,
}

/// The interfaces that are no loopback devices, in the order of their names.
pub fn names() -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir("/sys/class/net")? {
        let entry = entry?;
        // ARPHRD_ETHER of linux/if_arp.h: tunnels that the kernel puts into every network are something else.
        let kind = fs::read_to_string(entry.path().join("type")).unwrap_or_default();
        if kind.trim() == "1"
            && let Ok(name) = entry.file_name().into_string()
        {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn socket(family: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: takes numbers; the descriptor is checked, and ours.
    unsafe {
        let raw = libc::socket(family, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        if raw == -1 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(raw)) }
    }
}

fn call<T>(socket: &OwnedFd, request: libc::c_ulong, argument: &mut T) -> io::Result<()> {
    // SAFETY: each request below is given the structure that the kernel expects with it, valid for reads and writes.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), request as libc::Ioctl, std::ptr::from_mut(argument)) };
    if done == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn request(name: &str) -> io::Result<libc::ifreq> {
    // SAFETY: all zeroes is a value of this plain structure.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let name = CString::new(name)?;
    let bytes = name.as_bytes_with_nul();
    if bytes.len() > request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(bytes) {
        *to = from.cast_signed();
    }
    Ok(request)
}

fn set_up(socket: &OwnedFd, name: &str, is_up: libc::c_int) -> io::Result<()> {
    let mut change = request(name)?;
    call(socket, libc::SIOCGIFFLAGS, &mut change)?;
    // SAFETY: the kernel has just filled in this member.
    let flags = unsafe { change.ifr_ifru.ifru_flags };
    let up = libc::IFF_UP as libc::c_short;
    change.ifr_ifru.ifru_flags = if is_up == 1 { flags | up } else { flags & !up };
    call(socket, libc::SIOCSIFFLAGS, &mut change)
}

/// Brings up the loopback device.
pub fn raise_loopback() -> io::Result<()> {
    set_up(&socket(libc::AF_INET)?, "lo", 1)
}

fn four(address: Ipv4Addr) -> libc::sockaddr {
    // SAFETY: all zeroes is a value of this plain structure.
    let mut inner: libc::sockaddr_in = unsafe { std::mem::zeroed() };
    inner.sin_family = libc::AF_INET as libc::sa_family_t;
    inner.sin_addr.s_addr = u32::from_ne_bytes(address.octets());
    // SAFETY: both are plain structures of the same size, made to stand for each other.
    unsafe { std::mem::transmute::<libc::sockaddr_in, libc::sockaddr>(inner) }
}

fn six(address: Ipv6Addr) -> libc::in6_addr {
    libc::in6_addr { s6_addr: address.octets() }
}

/// Makes an interface what it should be, whatever it was.
pub fn set(name: &str, wanted: &Wanted) -> io::Result<()> {
    let inet = socket(libc::AF_INET)?;
    // Takes addresses and routes of an earlier life away, and lets the hardware address be changed.
    set_up(&inet, name, 0)?;
    let mut hardware = request(name)?;
    // SAFETY: all zeroes is a value of this plain structure.
    let mut address: libc::sockaddr = unsafe { std::mem::zeroed() };
    address.sa_family = libc::ARPHRD_ETHER;
    for (to, from) in address.sa_data.iter_mut().zip(wanted.mac) {
        *to = from.cast_signed();
    }
    hardware.ifr_ifru.ifru_hwaddr = address;
    call(&inet, libc::SIOCSIFHWADDR, &mut hardware)?;
    if let Some(mtu) = wanted.mtu {
        let mut change = request(name)?;
        change.ifr_ifru.ifru_mtu = i32::try_from(mtu).unwrap_or(1_500);
        call(&inet, libc::SIOCSIFMTU, &mut change)?;
    }
    let has_six = wanted.addresses.iter().any(|(address, _)| address.is_ipv6());
    let settings = format!("/proc/sys/net/ipv6/conf/{name}");
    // Nobody else has its addresses, so it need not wait a second to find that out.
    for (setting, value) in [("accept_dad", "0"), ("disable_ipv6", if has_six { "0" } else { "1" })] {
        let _ = fs::write(format!("{settings}/{setting}"), value);
    }
    set_up(&inet, name, 1)?;
    wanted.addresses.iter().try_for_each(|(address, length)| add_address(&inet, name, *address, *length))?;
    wanted.gateways.iter().try_for_each(|gateway| add_default_route(&inet, name, *gateway))
}

fn index(inet: &OwnedFd, name: &str) -> io::Result<i32> {
    let mut ask = request(name)?;
    call(inet, libc::SIOCGIFINDEX, &mut ask)?;
    // SAFETY: the kernel has just filled in this member.
    Ok(unsafe { ask.ifr_ifru.ifru_ifindex })
}

fn add_address(inet: &OwnedFd, name: &str, address: IpAddr, length: u8) -> io::Result<()> {
    match address {
        IpAddr::V4(address) => {
            let mut change = request(name)?;
            change.ifr_ifru.ifru_addr = four(address);
            call(inet, libc::SIOCSIFADDR, &mut change)?;
            let mask = u32::MAX.checked_shl(32 - u32::from(length.min(32))).unwrap_or(0);
            change.ifr_ifru.ifru_netmask = four(Ipv4Addr::from(mask));
            call(inet, libc::SIOCSIFNETMASK, &mut change)
        }
        IpAddr::V6(address) => {
            let mut change = libc::in6_ifreq {
                ifr6_addr: six(address),
                ifr6_prefixlen: u32::from(length),
                ifr6_ifindex: index(inet, name)?,
            };
            call(&socket(libc::AF_INET6)?, libc::SIOCSIFADDR, &mut change)
        }
    }
}

/// `struct in6_rtmsg` of linux/ipv6_route.h, whose fields the C library's crate keeps to itself.
#[repr(C)]
struct RouteSix {
    to: libc::in6_addr,
    from: libc::in6_addr,
    gateway: libc::in6_addr,
    kind: u32,
    to_length: u16,
    from_length: u16,
    metric: u32,
    info: libc::c_ulong,
    flags: u32,
    index: libc::c_int,
}

fn add_default_route(inet: &OwnedFd, name: &str, gateway: IpAddr) -> io::Result<()> {
    let flags = libc::RTF_UP | libc::RTF_GATEWAY;
    match gateway {
        IpAddr::V4(gateway) => {
            // SAFETY: all zeroes is a value of this plain structure.
            let mut route: libc::rtentry = unsafe { std::mem::zeroed() };
            route.rt_dst = four(Ipv4Addr::UNSPECIFIED);
            route.rt_genmask = four(Ipv4Addr::UNSPECIFIED);
            route.rt_gateway = four(gateway);
            route.rt_flags = flags;
            call(inet, libc::SIOCADDRT, &mut route)
        }
        IpAddr::V6(gateway) => {
            let mut route = RouteSix {
                to: six(Ipv6Addr::UNSPECIFIED),
                from: six(Ipv6Addr::UNSPECIFIED),
                gateway: six(gateway),
                kind: 0,
                to_length: 0,
                from_length: 0,
                metric: 1,
                info: 0,
                flags: u32::from(flags),
                index: index(inet, name)?,
            };
            call(&socket(libc::AF_INET6)?, libc::SIOCADDRT, &mut route)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_none_are_refused() {
        assert!(request("eth0").is_ok());
        assert!(request("a name that no interface can have").is_err());
        assert!(request("a\0b").is_err());
    }
}
