//! Proxies on loopback that count the bytes which pass, and `perf` for counting system calls.

use std::collections::HashMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Bytes that passed, both ways, of all proxies.
pub(crate) static PASSED: AtomicU64 = AtomicU64::new(0);

/// The same address, by way of a proxy. It ends with the process.
pub(crate) fn through_proxy(address: &str, datagrams: bool) -> String {
    around(address, if datagrams { datagram_proxy } else { stream_proxy })
}

/// The same address, by way of what the function starts.
pub(crate) fn around(address: &str, proxy: impl FnOnce(SocketAddr) -> SocketAddr) -> String {
    // An address may stand in a URL.
    let begin = address.find("127.0.0.1:").expect("a server on loopback");
    let rest = &address[begin..];
    let end = rest.find('/').unwrap_or(rest.len());
    let server: SocketAddr = rest[..end].parse().expect("an address");
    address.replace(&rest[..end], &proxy(server).to_string())
}

fn stream_proxy(server: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let server = TcpStream::connect(server).expect("the server listens");
            let clone = |stream: &TcpStream| stream.try_clone().expect("a socket");
            let (back, forth) = ((clone(&server), clone(&client)), (client, server));
            for (from, to) in [back, forth] {
                std::thread::spawn(move || copy(from, to));
            }
        }
    });
    address
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    to.set_nodelay(true).expect("a socket");
    let mut bytes = vec![0; 1 << 16];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        PASSED.fetch_add(count as u64, Ordering::Relaxed);
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

fn datagram_proxy(server: SocketAddr) -> SocketAddr {
    let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").expect("a port"));
    let address = socket.local_addr().expect("an address");
    std::thread::spawn(move || {
        let (mut bytes, mut clients) = (vec![0; 1 << 16], HashMap::new());
        while let Ok((count, from)) = socket.recv_from(&mut bytes) {
            PASSED.fetch_add(count as u64, Ordering::Relaxed);
            let onward = clients.entry(from).or_insert_with(|| onward(server, from, &socket));
            let _ = onward.send(&bytes[..count]);
        }
    });
    address
}

/// A socket that stands for one client at the server.
fn onward(server: SocketAddr, client: SocketAddr, back: &Arc<UdpSocket>) -> Arc<UdpSocket> {
    let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").expect("a port"));
    socket.connect(server).expect("an address");
    let (receiver, back) = (socket.clone(), back.clone());
    std::thread::spawn(move || {
        let mut bytes = vec![0; 1 << 16];
        while let Ok(count) = receiver.recv(&mut bytes) {
            PASSED.fetch_add(count as u64, Ordering::Relaxed);
            let _ = back.send_to(&bytes[..count], client);
        }
    });
    socket
}

/// Counts the system calls of these processes until it is asked.
pub(crate) struct Trace(Child);

/// How often it is looked whether `perf` has begun.
const LOOKS: u32 = 200;

impl Trace {
    /// Nothing if there is no `perf`, or if it may not.
    pub(crate) fn begin(processes: &[u32]) -> Option<Trace> {
        let processes: Vec<String> = processes.iter().map(u32::to_string).collect();
        let perf = Command::new("perf")
            .args(["stat", "-x", ",", "-e", "raw_syscalls:sys_enter", "-p", &processes.join(",")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .ok()?;
        let mut trace = Trace(perf);
        for _ in 0..LOOKS {
            if trace.counts() {
                return Some(trace);
            }
            if trace.0.try_wait().ok()?.is_some() {
                return None;
            }
            pause(Duration::from_millis(10));
        }
        trace.end();
        None
    }

    /// Whether its counters are open.
    fn counts(&self) -> bool {
        let Ok(files) = fs::read_dir(format!("/proc/{}/fd", self.0.id())) else { return false };
        let mut files = files.flatten().filter_map(|file| fs::read_link(file.path()).ok());
        let opened = files.any(|file| file.to_string_lossy().contains("perf_event"));
        if opened {
            // They are opened one by one and begin together.
            pause(Duration::from_millis(50));
        }
        opened
    }

    /// System calls so far.
    pub(crate) fn end(self) -> Option<f64> {
        let process = rustix::process::Pid::from_raw(self.0.id() as i32)?;
        rustix::process::kill_process(process, rustix::process::Signal::INT).ok()?;
        let output = self.0.wait_with_output().ok()?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        text.lines().find_map(|line| line.split(',').next()?.parse().ok())
    }
}

#[allow(clippy::disallowed_methods, reason = "another program's start cannot be waited for")]
fn pause(span: Duration) {
    std::thread::sleep(span);
}
