//! A stranger on the wire of the hosts: hears the group's traffic, and sends it again from an address in their subnet or
//! from one outside of it.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use farcall::{CallError, Group as _, Node};
use farcall_tests::bridge::{self, Failed, Host, run, set_up};
use farcall_tests::recorder::runs;
use farcall_tests::service::{WorkGroup, order};
use socket2::{Domain, Socket, Type};

use super::{GROUPS, HOSTS, log_of, quick, settings};

/// What the client sends to the group reaches nobody but the stranger, who passes it on, to hosts of this kind.
pub(super) async fn client(folder: &Path, kind: &str) -> Result<(), Failed> {
    bridge::make()?;
    let mut hosts = Vec::new();
    for number in 1..=HOSTS {
        hosts.push(Host::start(number, &[kind], &log_of(folder, number))?);
    }
    let mut stranger = Host::start(66, &["stranger"], folder)?;
    let node = Node::builder().limits(quick()).build();
    let group: WorkGroup = node.multicast_with(format!("{}/work", GROUPS[0]), &settings()?).await?;
    assert_eq!(group.members().len(), usize::from(HOSTS));
    for host in &mut hosts {
        // An answer to the stranger needs no router: it is not the way back that keeps it from being answered.
        assert_eq!(host.ask("ip route add 10.78.0.0/24 dev eth0")?, "done");
        assert_eq!(host.ask("ip saddr 10.77.0.100 ip daddr 239.255.77.1 drop")?, "done");
    }
    let mut said = Vec::new();
    for (id, place) in [(1, "outside"), (2, "inside")] {
        let answers = stranger.ask(&format!("seek {place}"))?;
        assert_eq!(stranger.ask(&format!("relay {place}"))?, "done");
        let call = group.maybe(order(id)).timeout(Duration::from_secs(1));
        let replies = call.all().await;
        let silent = |error: &CallError| matches!(error, CallError::DeadlineExceeded { .. });
        let all_silent = replies.iter().filter_map(|reply| reply.result.as_ref().err()).all(silent);
        assert!(all_silent, "{replies:?}");
        let mut ran = 0;
        for number in 1..=HOSTS {
            ran += runs(&log_of(folder, number))?.get(&id).copied().unwrap_or(0);
        }
        let met = replies.accepted().count();
        said.push(format!("{place}: {answers} answers to a question, {ran} runs, {met} results"));
    }
    println!("{}", said.join("; "));
    Ok(())
}

/// Seeks, and passes on what it hears, from where it is told.
pub(super) fn stranger(number: u8) -> Result<(), Failed> {
    let mut lines = std::io::stdin().lines();
    lines.next().ok_or("told to go")??;
    set_up(number)?;
    run(&format!("ip addr add {}/24 dev eth0", place("outside")))?;
    let group: SocketAddr = GROUPS[0].trim_start_matches("udp://").parse()?;
    let ear = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    ear.bind(&group.into())?;
    ear.join_multicast_v4(&Ipv4Addr::new(239, 255, 77, 1), &place("inside"))?;
    let ear: UdpSocket = ear.into();
    println!("ready");
    for line in lines {
        let line = line?;
        let (what, at) = line.split_once(' ').ok_or("seek or relay, and a place")?;
        let mouth = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
        mouth.set_multicast_if_v4(&place(at))?;
        // It would pass routers.
        mouth.set_multicast_ttl_v4(64)?;
        mouth.set_multicast_loop_v4(false)?;
        mouth.bind(&SocketAddr::from((place(at), 0)).into())?;
        let mouth: UdpSocket = mouth.into();
        match what {
            "seek" => println!("{}", seek(&mouth, group)?),
            _ => {
                let ear = ear.try_clone()?;
                std::thread::spawn(move || relay(&ear, &mouth, group));
                println!("done");
            }
        }
    }
    Ok(())
}

/// How many answers a question for the hosts' object gets.
fn seek(socket: &UdpSocket, group: SocketAddr) -> Result<u64, Failed> {
    let mut question = [&[5][..], &9_u64.to_be_bytes(), &[0], b"\x04work\x04Work"].concat();
    question.resize(544, 0);
    question.extend_from_slice(&crc32c::crc32c(&question).to_be_bytes());
    socket.send_to(&question, group)?;
    let mut answers = 0;
    // Asked for answers at once: none comes so long after the last.
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    while socket.recv_from(&mut [0; 2000]).is_ok() {
        answers += 1;
    }
    Ok(answers)
}

/// Passes on what calls many members, until one was passed on.
fn relay(ear: &UdpSocket, mouth: &UdpSocket, group: SocketAddr) {
    let mut bytes = [0; 65_535];
    while let Ok((length, _)) = ear.recv_from(&mut bytes) {
        if bytes[0] == 7 {
            let _ = mouth.send_to(&bytes[..length], group);
            return;
        }
    }
}

/// The stranger's two addresses.
fn place(name: &str) -> Ipv4Addr {
    match name {
        "inside" => Ipv4Addr::new(10, 77, 0, 66),
        _ => Ipv4Addr::new(10, 78, 0, 66),
    }
}
