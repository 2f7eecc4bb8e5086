//! Hosts in network namespaces of their own, joined by a bridge.
//!
//! Used by the program `group_hosts`, which runs in a namespace itself: all devices, addresses and rules go with it. A host
//! is the same program again, told by lines what to do; it ends with its input.

use std::error::Error;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// What goes wrong is told and ends the program.
pub type Failed = Box<dyn Error>;

/// A host on the bridge.
pub struct Host {
    number: u8,
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// Makes the bridge of this namespace, which is on it itself as 10.77.0.100 and fd77::100.
///
/// # Errors
/// Devices cannot be made here.
pub fn make() -> Result<(), Failed> {
    run("ip link set lo up")?;
    run("ip link add br0 type bridge")?;
    run("ip addr add 10.77.0.100/24 broadcast 10.77.0.255 dev br0")?;
    run("ip link set br0 up")?;
    run("ip addr add fd77::100/64 dev br0 nodad")
}

impl Host {
    /// Starts the program with these arguments as a host with the device `eth0`, and waits until it says that it is ready.
    ///
    /// # Errors
    /// It does not.
    pub fn start(number: u8, arguments: &[&str], log: &Path) -> Result<Host, Failed> {
        let mut process = Command::new("unshare")
            .args(["-n".as_ref(), std::env::current_exe()?.as_os_str()])
            .args(arguments)
            .arg(number.to_string())
            .arg(log)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = process.stdin.take().ok_or("it has an input")?;
        let output = BufReader::new(process.stdout.take().ok_or("it has an output")?);
        let mut host = Host { number, process, input, output };
        let id = host.process.id();
        // `unshare` becomes the host itself; its namespace is there when it has left ours.
        let ours = std::fs::read_link("/proc/self/ns/net")?;
        while std::fs::read_link(format!("/proc/{id}/ns/net"))? == ours {
            std::thread::yield_now();
        }
        // A host that comes back has the address that the others have noted.
        let address = format!("address 02:00:00:00:77:{number:02x}");
        run(&format!("ip link add v{number} type veth peer name eth0 {address} netns {id}"))?;
        run(&format!("ip link set v{number} master br0 up"))?;
        let said = host.ask("go")?;
        if said == "ready" { Ok(host) } else { Err(format!("host {number}: {said}").into()) }
    }

    /// Says a line, and gives the line that is said then.
    ///
    /// # Errors
    /// The host is gone.
    pub fn ask(&mut self, line: &str) -> Result<String, Failed> {
        writeln!(self.input, "{line}")?;
        let mut said = String::new();
        self.output.read_line(&mut said)?;
        Ok(said.trim().to_owned())
    }

    /// SIGKILL: nothing of it is heard any more, and its device is gone.
    ///
    /// # Errors
    /// The system refuses.
    pub fn kill(mut self) -> Result<(), Failed> {
        self.process.kill()?;
        self.process.wait()?;
        // The kernel takes the device away in its own time, and the host that comes back needs its name.
        let _ = run(&format!("ip link del v{}", self.number));
        Ok(())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // It may have been killed before.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Gives this host's device its addresses, and sets it up.
///
/// # Errors
/// There is no device.
pub fn set_up(number: u8) -> Result<(), Failed> {
    run(&format!("ip addr add 10.77.0.{number}/24 broadcast 10.77.0.255 dev eth0"))?;
    run("ip link set lo up")?;
    run("ip link set eth0 up")?;
    run(&format!("ip addr add fd77::{number}/64 dev eth0 nodad"))
}

/// Loses five of a hundred datagrams that arrive in this namespace, by chance.
///
/// # Errors
/// There is no `nft`, or the kernel has no such rules.
pub fn lose() -> Result<(), Failed> {
    rule("input", "meta l4proto udp numgen random mod 100 < 5 counter drop")
}

/// Adds a rule of nftables to a hook of this namespace: `input`, `output`.
///
/// # Errors
/// As [`lose`].
pub fn rule(hook: &str, rule: &str) -> Result<(), Failed> {
    chain(hook)?;
    run(&format!("nft add rule inet test {hook} {rule}"))
}

/// Counts what each rule of a hook matches from now on, and nothing that was before.
///
/// # Errors
/// As [`lose`].
pub fn count_anew(hook: &str, rules: &[&str]) -> Result<(), Failed> {
    chain(hook)?;
    run(&format!("nft flush chain inet test {hook}"))?;
    rules.iter().try_for_each(|rule| run(&format!("nft add rule inet test {hook} {rule} counter")))
}

fn chain(hook: &str) -> Result<(), Failed> {
    run("nft add table inet test")?;
    let kind = format!("{{ type filter hook {hook} priority 0 ; }}");
    output(Command::new("nft").args(["add", "chain", "inet", "test", hook, &kind])).map(drop)
}

/// What a rule has counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// Datagrams.
    pub packets: u64,
    /// Their bytes, with the headers of IP and UDP.
    pub bytes: u64,
}

impl Count {
    /// Bytes within the datagrams, which IPv4 carried.
    #[must_use]
    pub fn payload(self) -> u64 {
        self.bytes - 28 * self.packets
    }
}

/// What the rules of a hook have counted, one after the other.
///
/// # Errors
/// There are none.
pub fn counted(hook: &str) -> Result<Vec<Count>, Failed> {
    let listed = output(Command::new("nft").args(["list", "chain", "inet", "test", hook]))?;
    let count = |rest: &str| -> Result<Count, Failed> {
        let mut words = rest.split_whitespace();
        let packets = words.next().ok_or("a number")?.parse()?;
        let bytes = words.nth(1).ok_or("another")?.parse()?;
        Ok(Count { packets, bytes })
    };
    listed.split("packets ").skip(1).map(count).collect()
}

/// The number of a device.
///
/// # Errors
/// There is none of that name.
pub fn index_of(device: &str) -> Result<u32, Failed> {
    let said = output(Command::new("ip").args(["-o", "link", "show", device]))?;
    Ok(said.split(':').next().unwrap_or_default().trim().parse()?)
}

/// Runs a command, whose words are parted by single spaces.
///
/// # Errors
/// It fails; what it said.
pub fn run(command: &str) -> Result<(), Failed> {
    let words: Vec<&str> = command.split(' ').collect();
    output(Command::new(words[0]).args(&words[1..])).map(drop)
}

fn output(command: &mut Command) -> Result<String, Failed> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{command:?}: {said}").into());
    }
    Ok(String::from_utf8(output.stdout)?)
}
