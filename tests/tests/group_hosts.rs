//! Three hosts in network namespaces, joined by a bridge: found by multicast and broadcast of IPv4 and by multicast of
//! IPv6, called a thousand times, one of them killed.
//!
//! Needs the right to make namespaces, and `ip`: in CI it fails without them, elsewhere it says so and is skipped.

use std::process::Command;

#[test]
fn three_hosts_on_a_bridge_are_found_and_called_while_one_is_killed() {
    if !can_unshare() {
        assert!(std::env::var_os("CI").is_none(), "CI needs namespaces and iproute2");
        println!("skipped: no right to make network namespaces, or no `ip`");
        return;
    }
    let output = Command::new("unshare")
        .args(["-n", env!("CARGO_BIN_EXE_group_hosts")])
        .output()
        .expect("it ran a moment ago");
    let (said, complaints) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}{complaints}");
    // 499 calls to three before the kill, 501 after it.
    assert_eq!(said.trim(), "1497 answers of all, 501 majorities", "{complaints}");
}

fn can_unshare() -> bool {
    let tried = Command::new("unshare").args(["-n", "ip", "link", "show", "lo"]).output();
    tried.is_ok_and(|output| output.status.success())
}
