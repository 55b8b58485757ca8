//! Which IP addresses may be dialled. Pure.
//!
//! Whoever may write a listener names hosts that we dial from where we run: our own loopback, the node's link-local
//! services, and the cloud's metadata service, which hands out credentials, are none of theirs. Private networks are not
//! refused: that is where Redis and receivers live.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// The flag of `controller` that widens it, as messages name it.
const FLAG: &str = "--allow-egress";
/// The value of its chart that sets the flag.
const VALUE: &str = "egress.allow";

/// What may be dialled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Egress {
    /// `None`: everything.
    allowed: Option<Vec<Cidr>>,
}

impl Egress {
    /// For whoever runs it for themselves: `run` and its `check`, `demo`.
    pub const fn everything() -> Self {
        Self { allowed: None }
    }

    /// What is harmless, and these.
    pub const fn guarded(allowed: Vec<Cidr>) -> Self {
        Self { allowed: Some(allowed) }
    }

    /// # Errors
    /// What sort of address it is, and what would allow it.
    pub fn judge(&self, address: IpAddr) -> Result<(), Refused> {
        let Some(allowed) = &self.allowed else { return Ok(()) };
        let Some(sort) = sort(address) else { return Ok(()) };
        // `::ffff:127.0.0.1` leads where 127.0.0.1 does: what allows either allows it.
        let same = [Some(address), embedded(address).map(IpAddr::V4)];
        if same.into_iter().flatten().any(|address| allowed.iter().any(|cidr| cidr.contains(address))) {
            return Ok(());
        }
        Err(Refused { address, sort })
    }
}

/// An address that must not be dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Refused {
    pub address: IpAddr,
    pub sort: Sort,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, sort } = self;
        let all = if address.is_ipv4() { 32 } else { 128 };
        write!(
            f,
            "{address} is not dialled: {sort}; the operator's flag {FLAG} {address}/{all} ({VALUE} of its chart) would allow it"
        )
    }
}

/// Why an address is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    Loopback,
    LinkLocal,
    /// A cloud's metadata service that is not link-local.
    Metadata,
    Unspecified,
    Multicast,
    Broadcast,
    /// An IPv6 address that leads to an IPv4 address which is refused.
    Embedded,
}

impl fmt::Display for Sort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loopback => "it is a loopback address",
            Self::LinkLocal => "it is a link-local address, as metadata services have",
            Self::Metadata => "it is the address of a cloud's metadata service",
            Self::Unspecified => "it is no address of a host, and leads to this one",
            Self::Multicast => "it is a multicast address",
            Self::Broadcast => "it is a broadcast address",
            Self::Embedded => "it leads to an IPv4 address that is not dialled",
        })
    }
}

/// `None`: nothing is wrong with it.
fn sort(address: IpAddr) -> Option<Sort> {
    match address {
        IpAddr::V4(address) => sort_v4(address),
        IpAddr::V6(address) => sort_v6(address),
    }
}

/// Alibaba Cloud's; Oracle Cloud's older one; and Azure's host agent, which any process of a virtual machine can ask for
/// its certificates and settings.
const METADATA_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(192, 0, 0, 192), Ipv4Addr::new(168, 63, 129, 16)];
/// AWS's, Google Cloud's.
const METADATA_V6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)];

fn sort_v4(address: Ipv4Addr) -> Option<Sort> {
    // 0.0.0.0/8 is "this network"; Linux takes 0.0.0.0 for itself.
    if address.octets()[0] == 0 {
        Some(Sort::Unspecified)
    } else if address.is_loopback() {
        Some(Sort::Loopback)
    } else if address.is_link_local() {
        Some(Sort::LinkLocal)
    } else if address.is_multicast() {
        Some(Sort::Multicast)
    } else if address.is_broadcast() {
        Some(Sort::Broadcast)
    } else {
        METADATA_V4.contains(&address).then_some(Sort::Metadata)
    }
}

fn sort_v6(address: Ipv6Addr) -> Option<Sort> {
    if address.is_unspecified() {
        Some(Sort::Unspecified)
    } else if address.is_loopback() {
        Some(Sort::Loopback)
    } else if address.is_unicast_link_local() || address.segments()[0] & 0xffc0 == 0xfec0 {
        // fec0::/10 was for sites, and never leads further than one.
        Some(Sort::LinkLocal)
    } else if address.is_multicast() {
        Some(Sort::Multicast)
    } else if METADATA_V6.contains(&address) {
        Some(Sort::Metadata)
    } else {
        embedded(IpAddr::V6(address)).and_then(sort_v4).map(|_| Sort::Embedded)
    }
}

/// The IPv4 address that an IPv6 address leads to.
fn embedded(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(address) = address else { return None };
    let of = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match address.segments() {
        // Compatible and mapped: ::a.b.c.d, ::ffff:a.b.c.d.
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        // Translated, by SIIT (RFC 2765) and NAT64 (RFC 6052, and RFC 8215 with prefixes of 96 bits).
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x64, 0xff9b, 1, _, _, _, high, low]
        // 6to4 (RFC 3056).
        | [0x2002, high, low, _, _, _, _, _]
        // ISATAP (RFC 5214).
        | [_, _, _, _, 0 | 0x200, 0x5efe, high, low] => Some(of(high, low)),
        // Teredo (RFC 4380), which turns the bits over.
        [0x2001, 0, _, _, _, _, high, low] => Some(of(!high, !low)),
        _ => None,
    }
}

/// A range of addresses: `10.0.0.0/8`, `fe80::/10`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    address: IpAddr,
    bits: u8,
}

impl Cidr {
    pub fn contains(&self, address: IpAddr) -> bool {
        let bits = u32::from(self.bits);
        match (self.address, address) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => (u32::from(ours) ^ u32::from(theirs)).leading_zeros() >= bits,
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => (u128::from(ours) ^ u128::from(theirs)).leading_zeros() >= bits,
            _ => false,
        }
    }
}

/// Not a range of addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a range of addresses; write it as 10.0.0.0/8, fd00::/8 or 127.0.0.1")]
pub struct NotACidr(String);

impl FromStr for Cidr {
    type Err = NotACidr;

    fn from_str(text: &str) -> Result<Self, NotACidr> {
        let wrong = || NotACidr(text.to_owned());
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let all = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(all), str::parse).ok().filter(|bits| *bits <= all).ok_or_else(wrong)?;
        Ok(Self { address, bits })
    }
}

#[cfg(test)]
mod tests;
