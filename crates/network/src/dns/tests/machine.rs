use super::super::machine::{Machine, machine_upstreams};
use super::*;

#[test]
fn what_a_resolv_conf_lists() {
    let text = "# nameserver 192.0.2.9\n\
                search example.com\n\
                nameserver 127.0.0.53\n\
                \tnameserver  192.0.2.1   # the office\r\n\
                nameserver 10.9.0.1\n\
                nameserver fe80::1%eth0\n\
                nameserver nonsense\n\
                nameserver\n\
                nameservers 192.0.2.8\n\
                nameserver 192.0.2.1\n\
                nameserver 2001:db8::1\n\
                options ndots:2";
    let found = machine_upstreams(text, &[ip("10.9.0.1")]);
    assert_eq!(found, ["127.0.0.53", "192.0.2.1", "2001:db8::1"].map(ip));
    assert!(machine_upstreams("", &[]).is_empty());
    let many: String = (0..50).map(|n| format!("nameserver 192.0.2.{n}\n")).collect();
    assert_eq!(machine_upstreams(&many, &[]).len(), hostler_model::limits::NETWORK_DNS_MAX);
}

#[tokio::test]
async fn the_file_is_read_again_when_it_is_another() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("resolv.conf");
    let machine = Machine::new(path.clone());
    assert!(machine.upstreams(&[]).await.is_empty(), "there is none");

    std::fs::write(&path, "nameserver 192.0.2.1\n").expect("written");
    machine.forget_the_look();
    assert_eq!(machine.upstreams(&[]).await, [ip("192.0.2.1")]);
    assert!(machine.upstreams(&[ip("192.0.2.1")]).await.is_empty(), "our own");

    let other = directory.path().join("other");
    std::fs::write(&other, "nameserver 192.0.2.2\n").expect("written");
    std::fs::rename(&other, &path).expect("renamed");
    machine.forget_the_look();
    assert_eq!(machine.upstreams(&[]).await, [ip("192.0.2.2")]);

    std::fs::remove_file(&path).expect("removed");
    machine.forget_the_look();
    assert!(machine.upstreams(&[]).await.is_empty());
}
