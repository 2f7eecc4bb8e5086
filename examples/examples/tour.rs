//! The tour: what an interface looks like, what calling is like, and what each semantics does when
//! the network loses, repeats and cuts and processes are killed.
//!
//! Run it with `cargo run --example tour`. This process is a client; it starts itself again as the
//! server, and as a client that can be killed. It ends with an error if a promise of a semantics was
//! broken.

#[path = "tour/datagrams.rs"]
mod datagrams;
#[path = "tour/experiment.rs"]
mod experiment;
#[path = "tour/process.rs"]
mod process;
#[path = "tour/server.rs"]
mod server;
#[path = "tour/shipping.rs"]
mod shipping;
#[path = "tour/shop.rs"]
mod shop;

use std::error::Error;
use std::fmt::Display;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use farcall::{Proxy, Replies};
use farcall_examples::report::Report;
use farcall_examples::screen::Screen;
use farcall_tests::service::Transport;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use experiment::Findings;
use server::Server;
use shop::{BuyerProxy, ShopGroup, ShopProxy};

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.split_first() {
        Some((role, arguments)) if role == server::ROLE => server::serve(arguments).await,
        Some((role, arguments)) if role == shipping::ROLE => shipping::ship(arguments).await,
        _ => tokio::select! {
            done = tour() => done,
            // Dropping the tour kills what it has started, and removes its folder.
            _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
        },
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tour: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn tour() -> Result<(), Box<dyn Error>> {
    let screen = Screen::new();
    let folder = Folder::new()?;

    screen.heading("1. The interface: all that a client and a server have in common");
    screen.quote(shop::source());

    let server = Server::start(&folder.path, [0, 0]).await?;
    screen.line("");
    screen.heading(&format!(
        "2. Calls from process {} to process {} at {}",
        std::process::id(),
        server.process_id(),
        server.url(Transport::Tcp),
    ));
    calls(&screen, &server).await?;
    let datagrams::PerCall { back_to_back, alone } = datagrams::count(&server).await?;
    screen.line(&format!(
        "    At {}: {back_to_back:.2} datagrams a call back to back, {alone:.2} for a call on its own",
        server.url(Transport::Udp)
    ));

    screen.line("");
    screen.heading(&format!(
        "3. The experiment: {} calls of each semantics over two links that drop, repeat and cut",
        experiment::CALLS,
    ));
    let began = Instant::now();
    let findings = experiment::run(server, &folder.path, &screen).await?;
    show(&screen, &findings);
    let broken: Vec<_> = findings.reports.iter().flat_map(Report::broken_promises).collect();
    if broken.is_empty() {
        let seconds = began.elapsed().as_secs_f32();
        screen.good(&format!("    Every promise was kept. It took {seconds:.1} s."));
        NOTICE.iter().for_each(|line| screen.line(&format!("    {line}")));
        return Ok(());
    }
    broken.iter().for_each(|sentence| screen.bad(&format!("    {sentence}")));
    Err("a promise was broken".into())
}

/// Makes a call as it is written, and shows that text with what came back and how long it took.
macro_rules! shown {
    ($screen:expr, $call:expr, $what:expr) => {{
        let began = Instant::now();
        let value = $call;
        let took = began.elapsed();
        show_call($screen, stringify!($call), &$what(&value), took.as_secs_f64() * 1e3);
        value
    }};
}

/// The three ways to make a call, one to many at once, and one that is called back.
async fn calls(screen: &Screen, server: &Server) -> Result<(), Box<dyn Error>> {
    let shop: ShopProxy = farcall::connect(server.url(Transport::Tcp)).await?;
    let paid = |receipt: &shop::Receipt| {
        format!("receipt {} from process {}", receipt.call, receipt.process)
    };
    shown!(screen, shop.pay(1).await?, paid);

    let in_a_thread = shop.clone();
    let screen_there = *screen;
    spawn_blocking(move || {
        let shop = in_a_thread;
        shown!(&screen_there, shop.pay(2).blocking()?, paid);
        Ok::<_, farcall::CallError>(())
    })
    .await??;

    let sent = |_: &_| "sent, not waited for".to_owned();
    let pending = shown!(screen, shop.pay(3).start().await?, sent);
    shown!(screen, pending.await?, paid);

    let urls = [Transport::Tcp, Transport::Udp].map(|transport| server.url(transport));
    let shops: ShopGroup = farcall::group(urls).await?;
    let first = |replies: &Replies<shop::Receipt>| {
        let receipts = replies.accepted().map(|(_, receipt)| receipt.call).next();
        format!("receipt {}, first of {} members", receipts.unwrap_or(0), replies.len())
    };
    let replies = shown!(screen, shops.price(4).first().await, first);
    replies.require()?;

    let buyer: BuyerProxy = shop.node().export(shop::Signer);
    let signed = |receipt: &shop::Receipt| {
        format!("receipt {} signed by process {}", receipt.call, receipt.process)
    };
    shown!(screen, shop.sell(5, buyer).await?, signed);
    Ok(())
}

fn show_call(screen: &Screen, call: &str, what: &dyn Display, took_ms: f64) {
    screen.line(&format!("    {call:<28}  {what:<34}  {took_ms:>6.2} ms"));
}

fn show(screen: &Screen, findings: &Findings) {
    let Findings { reports, connections, datagrams, killed } = findings;
    screen.line(&format!(
        "    TCP: {} cuts, {} lost, {} twice; UDP, shuffled: {} of {} lost, {} twice, {} corrupt.",
        connections.cuts,
        connections.lost,
        connections.repeated,
        datagrams.lost,
        datagrams.sent,
        datagrams.repeated,
        datagrams.corrupted,
    ));
    screen.line(&format!(
        "    SIGKILL halfway: server {} and exactly_once client {}, which made all its calls again.",
        killed.server, killed.client,
    ));
    for line in Report::HEADER {
        screen.line(&format!("    {line}"));
    }
    for report in reports {
        screen.line(&format!("    {}", report.row()));
    }
}

/// A folder of our own, removed with all that is in it at the end.
struct Folder {
    path: PathBuf,
}

impl Folder {
    fn new() -> io::Result<Folder> {
        let path = std::env::temp_dir().join(format!("farcall-tour-{}", std::process::id()));
        if path.exists() {
            // Of a process that was killed: its id is ours now.
            fs::remove_dir_all(&path)?;
        }
        fs::create_dir(&path)?;
        Ok(Folder { path })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // The system clears its folder for temporary files as well, if this fails.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// What a reader should see in the table.
const NOTICE: [&str; 2] = [
    "at_least_once runs what it repeats; at_most_once answers repeats from saved replies, and says",
    "unknown where nobody can know; exactly_once gave the same answers by their keys, after the kill.",
];
