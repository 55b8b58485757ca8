use super::*;

fn judged(egress: &Egress, address: &str) -> Option<Sort> {
    egress.judge(address.parse().unwrap()).err().map(|refused| refused.sort)
}

fn guarded(allowed: &[&str]) -> Egress {
    Egress::guarded(allowed.iter().map(|cidr| cidr.parse().unwrap()).collect())
}

const REFUSED: &[(&str, Sort)] = &[
    ("127.0.0.1", Sort::Loopback),
    ("127.255.255.254", Sort::Loopback),
    ("::1", Sort::Loopback),
    ("169.254.0.1", Sort::LinkLocal),
    ("169.254.169.254", Sort::LinkLocal),
    ("169.254.170.2", Sort::LinkLocal),
    ("fe80::1", Sort::LinkLocal),
    ("febf:ffff::1", Sort::LinkLocal),
    ("fec0::1", Sort::LinkLocal),
    ("100.100.100.200", Sort::Metadata),
    ("192.0.0.192", Sort::Metadata),
    ("168.63.129.16", Sort::Metadata),
    ("fd00:ec2::254", Sort::Metadata),
    ("fd20:ce::254", Sort::Metadata),
    ("0.0.0.0", Sort::Unspecified),
    ("0.1.2.3", Sort::Unspecified),
    ("::", Sort::Unspecified),
    ("224.0.0.1", Sort::Multicast),
    ("239.255.255.255", Sort::Multicast),
    ("ff02::1", Sort::Multicast),
    ("255.255.255.255", Sort::Broadcast),
    // Mapped.
    ("::ffff:127.0.0.1", Sort::Embedded),
    ("::ffff:169.254.169.254", Sort::Embedded),
    ("::ffff:100.100.100.200", Sort::Embedded),
    ("::ffff:0.0.0.0", Sort::Embedded),
    ("::ffff:224.0.0.1", Sort::Embedded),
    ("::ffff:255.255.255.255", Sort::Embedded),
    // Compatible.
    ("::127.0.0.1", Sort::Embedded),
    ("::169.254.169.254", Sort::Embedded),
    ("::192.0.0.192", Sort::Embedded),
    ("::2", Sort::Embedded),
    // Translated.
    ("::ffff:0:127.0.0.1", Sort::Embedded),
    ("64:ff9b::127.0.0.1", Sort::Embedded),
    ("64:ff9b::169.254.169.254", Sort::Embedded),
    ("64:ff9b::168.63.129.16", Sort::Embedded),
    ("64:ff9b:1::169.254.169.254", Sort::Embedded),
    ("64:ff9b:1:7:8:9:7f00:1", Sort::Embedded),
    // 6to4.
    ("2002:7f00:1::", Sort::Embedded),
    ("2002:a9fe:a9fe::1", Sort::Embedded),
    ("2002:6464:64c8::", Sort::Embedded),
    ("2002::1", Sort::Embedded),
    ("2002:e000:1::", Sort::Embedded),
    ("2002:ffff:ffff::", Sort::Embedded),
    // ISATAP.
    ("2001:db8::5efe:169.254.169.254", Sort::Embedded),
    ("2001:db8::200:5efe:127.0.0.1", Sort::Embedded),
    // Teredo: 127.0.0.1 and 169.254.169.254, turned over.
    ("2001:0:1:2:3:4:80ff:fffe", Sort::Embedded),
    ("2001:0:1:2:3:4:5601:5601", Sort::Embedded),
];

#[test]
fn what_leads_to_this_machine_or_its_cloud_is_refused_in_every_disguise() {
    for (address, sort) in REFUSED {
        assert_eq!(judged(&guarded(&[]), address), Some(*sort), "{address}");
        assert_eq!(judged(&Egress::everything(), address), None, "{address}");
        assert_eq!(judged(&guarded(&["0.0.0.0/0", "::/0"]), address), None, "{address}");
    }
}

#[test]
fn private_and_public_addresses_are_dialled_in_every_disguise() {
    for address in [
        "10.0.0.1",
        "172.16.0.1",
        "192.168.0.1",
        "100.64.0.1",
        "100.100.100.201",
        "126.255.255.255",
        "128.0.0.1",
        "169.253.255.255",
        "169.255.0.1",
        "1.1.1.1",
        "223.255.255.255",
        "fd00::1",
        "fd00:ec2::253",
        "fc00::1",
        "2001:db8::1",
        "2606:4700::1",
        "::ffff:10.0.0.1",
        "64:ff9b::8.8.8.8",
        "2002:a00:1::",
        "2001:db8::5efe:10.0.0.1",
        "2001:db8:7f00:1::",
    ] {
        assert_eq!(judged(&guarded(&[]), address), None, "{address}");
    }
}

#[test]
fn a_range_allows_what_lies_in_it_and_what_leads_there() {
    let egress = guarded(&["127.0.0.0/8", "169.254.10.0/24", "fe80::/16"]);
    for address in ["127.9.9.9", "::ffff:127.0.0.1", "64:ff9b::127.0.0.1", "169.254.10.255", "fe80::1"] {
        assert_eq!(judged(&egress, address), None, "{address}");
    }
    for address in ["169.254.9.255", "169.254.11.0", "::1", "fe81::1", "::ffff:169.254.169.254", "0.0.0.0"] {
        assert!(judged(&egress, address).is_some(), "{address}");
    }
    // One form of an address, and not the address itself.
    let egress = guarded(&["::ffff:127.0.0.1/128"]);
    assert_eq!(judged(&egress, "::ffff:127.0.0.1"), None);
    assert_eq!(judged(&egress, "127.0.0.1"), Some(Sort::Loopback));
}

#[test]
fn a_refusal_names_the_address_and_the_flag_that_would_allow_it() {
    let refused = guarded(&[]).judge("169.254.169.254".parse().unwrap()).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "169.254.169.254 is not dialled: it is a link-local address, as metadata services have; the operator's flag \
         --allow-egress 169.254.169.254/32 (egress.allow of its chart) would allow it"
    );
    for (address, _) in REFUSED {
        let address: IpAddr = address.parse().unwrap();
        let text = guarded(&[]).judge(address).unwrap_err().to_string();
        let cidr = text.split_whitespace().find(|word| word.contains('/')).unwrap();
        assert_eq!(guarded(&[cidr]).judge(address), Ok(()), "{text}");
    }
}

#[test]
fn a_range_is_an_address_and_how_many_bits_count() {
    for wrong in ["", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0/8", "host/8", "10.0.0.0/-1", "/8", "1.1.1.1/8/8"] {
        assert_eq!(wrong.parse::<Cidr>(), Err(NotACidr(wrong.to_owned())));
    }
    let contains = |cidr: &str, address: &str| cidr.parse::<Cidr>().unwrap().contains(address.parse().unwrap());
    assert!(contains("10.1.2.3/8", "10.255.0.1") && !contains("10.1.2.3/8", "11.0.0.1"));
    assert!(contains("127.0.0.1", "127.0.0.1") && !contains("127.0.0.1", "127.0.0.2"));
    assert!(contains("0.0.0.0/0", "255.0.0.1") && !contains("0.0.0.0/0", "::1"));
    assert!(contains("::/0", "ffff::1") && contains("fd00:ec2::254/127", "fd00:ec2::255"));
}
