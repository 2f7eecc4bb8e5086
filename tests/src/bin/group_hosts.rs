//! Three hosts on a bridge, each in a network namespace of its own, and a client that finds and calls them; one of them
//! is killed meanwhile.
//!
//! The test `group_hosts` runs it with `unshare -n`: what it makes of devices and addresses is in its own namespaces and
//! goes with them. Without arguments it is the client, with a number one of the hosts. The last line says what held.

use std::error::Error;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use farcall::{CallError, Discovery, Group as _, Node};
use farcall_tests::service::{Log, WorkGroup, WorkProxy, Worker, order};

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match std::env::args().nth(1) {
        Some(number) => runtime.block_on(host(number.parse()?)),
        None => runtime.block_on(client()),
    }
}

/// One of the hosts: waits until it has a device, then serves until its input ends.
async fn host(number: u8) -> Result<(), Box<dyn Error>> {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    let here = Ipv4Addr::new(10, 77, 0, number);
    run(&format!("ip addr add {here}/24 broadcast 10.77.0.255 dev eth0"))?;
    run("ip link set lo up")?;
    run("ip link set eth0 up")?;
    run(&format!("ip addr add fd77::{number}/64 dev eth0 nodad"))?;
    let node = Node::builder().build();
    node.registry().bind("work", Worker::new(&Log::new()))?;
    node.listen(format!("udp://{here}:0")).await?;
    node.listen(format!("udp://[fd77::{number}]:0")).await?;
    let (interface, interface_index) = (Some(here), index_of("eth0")?);
    let settings = Discovery { interface, interface_index, ..Discovery::default() };
    for group in GROUPS {
        node.announce(group, &settings).await?;
    }
    println!("ready");
    std::io::stdout().flush()?;
    // The reading is a thread's: the runtime has two.
    tokio::task::spawn_blocking(move || std::io::stdin().read_line(&mut line)).await??;
    Ok(())
}

struct Host {
    process: Child,
}

impl Host {
    fn start(number: u8) -> Result<Host, Box<dyn Error>> {
        let process = Command::new("unshare")
            .args(["-n".as_ref(), std::env::current_exe()?.as_os_str()])
            .arg(number.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut host = Host { process };
        let id = host.process.id();
        // `unshare` becomes the host itself; its namespace is there when it has left ours.
        let ours = std::fs::read_link("/proc/self/ns/net")?;
        while std::fs::read_link(format!("/proc/{id}/ns/net"))? == ours {
            std::thread::yield_now();
        }
        run(&format!("ip link add v{number} type veth peer name eth0 netns {id}"))?;
        run(&format!("ip link set v{number} master br0 up"))?;
        let input = host.process.stdin.as_mut().ok_or("it has an input")?;
        input.write_all(b"go\n")?;
        let mut output = BufReader::new(host.process.stdout.take().ok_or("it has an output")?);
        let mut line = String::new();
        output.read_line(&mut line)?;
        if line == "ready\n" { Ok(host) } else { Err(format!("host {number}: {line}").into()) }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // It may have been killed before.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn client() -> Result<(), Box<dyn Error>> {
    run("ip link set lo up")?;
    run("ip link add br0 type bridge")?;
    run("ip addr add 10.77.0.100/24 broadcast 10.77.0.255 dev br0")?;
    run("ip link set br0 up")?;
    run("ip addr add fd77::100/64 dev br0 nodad")?;
    let mut hosts = Vec::new();
    for number in 1..=HOSTS {
        hosts.push(Host::start(number)?);
    }
    let node = Node::builder().build();
    let settings = Discovery {
        interface: Some(Ipv4Addr::new(10, 77, 0, 100)),
        interface_index: index_of("br0")?,
        wait: Duration::from_secs(2),
        ..Discovery::default()
    };
    let mut urls = Vec::new();
    for group in GROUPS {
        let mut finding = node.discover::<WorkProxy>(format!("{group}/work"), &settings)?;
        let mut found = Vec::new();
        while let Some(one) = finding.next().await {
            found.extend(one.urls);
        }
        assert_eq!(found.len(), usize::from(HOSTS), "at {group}: {found:?}");
        found.sort_by_key(ToString::to_string);
        urls = found;
    }
    let group: WorkGroup = node.group(urls).await?;
    let (mut all, mut met) = (0, 0);
    for id in 1..=CALLS {
        if id == CALLS / 2 {
            // SIGKILL: nothing of it is heard any more.
            hosts[0].process.kill()?;
        }
        let killed = id >= CALLS / 2;
        let call = group.at_most_once(order(id)).timeout(Duration::from_secs(10));
        if killed {
            // Two of three go on.
            let replies = call.majority().await.require()?;
            met += usize::from(replies.accepted().count() == 2);
        } else {
            let replies = call.all().await.require()?;
            all += replies.accepted().count();
        }
    }
    let dead = &group.members()[0];
    let call = group.at_most_once(order(CALLS + 1)).timeout(Duration::from_millis(300));
    let replies = call.all().await;
    let silent = replies.of(dead).ok_or("one entry a member")?;
    let error = silent.result.as_ref().err().ok_or("it is dead")?;
    assert!(!matches!(error, CallError::Method(_)) && !silent.accepted, "{error}");
    assert_eq!(replies.accepted().count(), 2);
    println!("{all} answers of all, {met} majorities");
    Ok(())
}

/// The number of a device.
fn index_of(device: &str) -> Result<u32, Box<dyn Error>> {
    let output = Command::new("ip").args(["-o", "link", "show", device]).output()?;
    let said = String::from_utf8(output.stdout)?;
    Ok(said.split(':').next().unwrap_or_default().trim().parse()?)
}

fn run(command: &str) -> Result<(), Box<dyn Error>> {
    let words: Vec<&str> = command.split(' ').collect();
    let output = Command::new(words[0]).args(&words[1..]).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("{command}: {said}").into()) }
}

/// A multicast group, the broadcast address of the bridge, and a group of IPv6, by which the hosts are called then.
const GROUPS: [&str; 3] =
    ["udp://239.255.77.1:7400", "udp://10.77.0.255:7401", "udp://[ff02::4242]:7402"];
const HOSTS: u8 = 3;
const CALLS: u64 = 1000;
