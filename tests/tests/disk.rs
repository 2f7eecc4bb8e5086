//! Disks that fail under real databases: a sync that gives an error, a process that dies in one, with and without what was
//! not synced, and disks that are full, for a while.
//!
//! `strace` makes system calls of the real server and the real client fail, and notes what was written since the last
//! sync, so that it can be taken away as by a power failure. What callers were told then is held against the books.

use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command as Program;

use farcall::Execution;
use farcall_tests::bank::Word;
use farcall_tests::bank_processes::{Programs, World};
use farcall_tests::ledger::Folder;
use farcall_tests::service::{Transport, eventually};
use tokio::process::Command;

const PROGRAMS: Programs = Programs {
    server: env!("CARGO_BIN_EXE_bank_server"),
    client: env!("CARGO_BIN_EXE_bank_client"),
};

/// What goes wrong, in the words of strace. It counts the calls of each thread.
struct Trouble {
    inject: String,
    trace: PathBuf,
}

impl Trouble {
    /// The sync of this number gives an error, and what it was to sync may be on the disk.
    fn sync_fails(world: &World, number: u32) -> Trouble {
        Trouble::new(world, format!("fsync,fdatasync:error=EIO:when={number}"))
    }

    /// The process is killed in the sync of this number.
    fn dies_in_sync(world: &World, number: u32) -> Trouble {
        Trouble::new(world, format!("fsync,fdatasync:error=EIO:signal=KILL:when={number}"))
    }

    /// There is no room, from one write on and until another.
    fn is_full(world: &World, first: u32, last: u32) -> Trouble {
        Trouble::new(world, format!("pwrite64:error=ENOSPC:when={first}..{last}"))
    }

    fn new(world: &World, inject: String) -> Trouble {
        Trouble { inject, trace: world.folder.file("trace") }
    }

    /// The program under it.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-y", "-s0"]).arg("-o").arg(&self.trace);
        command.args(["-e", "trace=pwrite64,fsync,fdatasync", "-e", "signal=none"]);
        command.arg("-e").arg(format!("inject={}", self.inject)).arg(program);
        command
    }

    fn happened(&self) -> usize {
        let trace = std::fs::read_to_string(&self.trace).unwrap_or_default();
        trace.lines().filter(|line| line.contains("(INJECTED)")).count()
    }

    /// Waits until it has happened so often.
    async fn happens(&self, times: usize) {
        eventually("trouble", || self.happened() >= times).await;
    }

    /// Whether a database's log was written after what went wrong. What the failed commit wrote may be in the books or not.
    fn was_written_on(&self, database: &Path) -> bool {
        let trace = std::fs::read_to_string(&self.trace).expect("a trace");
        let (_, after) = trace.split_once("(INJECTED)").expect("it has happened");
        let file = format!("<{}-wal>", database.display());
        after.lines().any(|line| line.contains(" pwrite64(") && line.contains(&file))
    }

    /// Takes from a database's log what was written and not synced. Returns how many writes that were.
    fn lose_what_was_not_synced(&self, database: &Path) -> usize {
        let log = PathBuf::from(format!("{}-wal", database.display()));
        let file = format!("<{}>", log.display());
        let trace = std::fs::read_to_string(&self.trace).expect("a trace");
        let mut written = Vec::new();
        for line in trace.lines().filter(|line| line.contains(&file)) {
            if line.contains(" pwrite64(") {
                written.push(extent(line).expect("length and offset"));
            } else if line.ends_with("= 0") {
                written.clear();
            }
        }
        let mut log = File::options().write(true).open(log).expect("the log is there");
        for (length, offset) in &written {
            log.seek(SeekFrom::Start(*offset)).expect("a file");
            log.write_all(&vec![0; *length]).expect("a file");
        }
        written.len()
    }
}

/// Length and offset of `… pwrite64(9</path>, ""..., 24, 32) = 24`, which may be unfinished.
fn extent(line: &str) -> Option<(usize, u64)> {
    let arguments = line.split("pwrite64(").nth(1)?;
    let arguments = arguments.split([')', '<']).find(|part| part.contains("..., "))?;
    let mut numbers = arguments.rsplit(", ").map(|number| number.trim().parse::<u64>());
    let (offset, length) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    Some((length as usize, offset))
}

/// Whether faults can be injected here. Where everything must be tested, they must.
fn can_inject() -> bool {
    let probe = Program::new("strace").args(["-o", "/dev/null", "true"]).output();
    let works = probe.as_ref().is_ok_and(|output| output.status.success());
    assert!(works || std::env::var_os("CI").is_none(), "no strace: {probe:?}");
    if !works {
        println!("skipped: strace does not work here: {probe:?}");
    }
    works
}

/// Lets the first client make some transfers, so that its journal is there, and end.
async fn practise(world: &mut World) {
    world.add_client();
    world.hear(20).await;
    world.clients[0].stop().await;
    world.clients.clear();
}

/// Ends the clients and the server in good order, has everything asked again, and checks it.
async fn settle(mut world: World) -> World {
    for client in &mut world.clients {
        client.stop().await;
    }
    world.server.hang_up().await;
    world.start_server();
    world.ask_again().await;
    world.server.kill().await;
    let books = world.books();
    books.check();
    let mut made = 0;
    for client in 0..world.clients.len() {
        for case in world.cases(client) {
            books.check_case(&case);
            made += usize::from(matches!(case.answer(), Some(Word::Made(_))));
        }
    }
    assert_eq!(books.ledger.len(), made, "a transfer that was not asked, or said not to be made");
    assert!(made >= 20, "only {made} were made");
    world
}

/// What clients were told that is neither a receipt nor the method's own error.
fn failures(world: &World) -> Vec<(Execution, String)> {
    let clients = 0..world.clients.len();
    let words = clients.flat_map(|client| world.cases(client)).flat_map(|case| case.words);
    words
        .filter_map(|(_, word)| match word {
            Word::Failed(execution, text) => Some((execution, text)),
            _ => None,
        })
        .collect()
}

#[tokio::test]
async fn a_server_whose_sync_fails_answers_nothing_more_and_stops_cleanly() {
    for number in [4, 15].into_iter().filter(|_| can_inject()) {
        println!("sync {number}");
        let mut world = World::new(PROGRAMS, Transport::Tcp).await;
        world.server.hang_up().await;
        let trouble = Trouble::sync_fails(&world, number);
        world.start_server_under(trouble.command(PROGRAMS.server));
        world.add_client();
        trouble.happens(1).await;
        world.server.hang_up().await;
        assert!(!trouble.was_written_on(&world.databases.join("bank.db")));
        world.start_server();
        world.hear(30).await;
        let world = settle(world).await;
        assert_eq!(failures(&world), [], "nobody need know");
    }
}

#[tokio::test]
async fn a_server_that_dies_in_a_sync_has_told_nothing_that_the_disk_can_lose() {
    let cases = [(5, true), (5, false), (16, true), (16, false)];
    for (number, loses) in cases.into_iter().filter(|_| can_inject()) {
        println!("sync {number}, what was not synced is lost: {loses}");
        let mut world = World::new(PROGRAMS, Transport::Tcp).await;
        world.server.hang_up().await;
        let trouble = Trouble::dies_in_sync(&world, number);
        world.start_server_under(trouble.command(PROGRAMS.server));
        world.add_client();
        let status = world.server.ends().await;
        assert!(!status.success(), "{status}");
        if loses {
            let lost = trouble.lose_what_was_not_synced(&world.databases.join("bank.db"));
            assert!(lost > 0, "everything was synced");
        }
        world.start_server();
        world.hear(30).await;
        let world = settle(world).await;
        assert_eq!(failures(&world), [], "nobody need know");
    }
}

#[tokio::test]
async fn a_client_whose_sync_fails_says_what_it_knows_and_stops_cleanly() {
    for first in [6, 20].into_iter().filter(|_| can_inject()) {
        let mut number = first;
        // A commit may hold nothing but the ends of calls, for which nobody waits.
        while !somebody_waits_for_the_sync_that_fails(number).await {
            number += 1;
            assert!(number < first + 10, "nobody waits for any of ten commits");
        }
    }
}

/// Whether somebody was told that a call may have been saved, when the client's sync of this number failed.
async fn somebody_waits_for_the_sync_that_fails(number: u32) -> bool {
    println!("sync {number}");
    let mut world = World::new(PROGRAMS, Transport::Tcp).await;
    practise(&mut world).await;
    let trouble = Trouble::sync_fails(&world, number);
    world.add_client_under(trouble.command(PROGRAMS.client));
    trouble.happens(1).await;
    world.hear(50).await;
    let world = settle(world).await;
    let failures = failures(&world);
    let refused = failures.iter().find(|(execution, _)| *execution == Execution::NotExecuted);
    let (_, text) = refused.expect("nothing more is saved");
    assert!(text.contains("is to be opened again"), "{text}");
    failures.iter().any(|(execution, _)| *execution == Execution::Unknown)
}

#[tokio::test]
async fn a_client_that_dies_in_a_sync_has_told_nothing_that_the_disk_can_lose() {
    let cases = [(7, true), (7, false), (21, true), (21, false)];
    for (number, loses) in cases.into_iter().filter(|_| can_inject()) {
        println!("sync {number}, what was not synced is lost: {loses}");
        let mut world = World::new(PROGRAMS, Transport::Tcp).await;
        practise(&mut world).await;
        let trouble = Trouble::dies_in_sync(&world, number);
        world.add_client_under(trouble.command(PROGRAMS.client));
        let status = world.clients[0].ends().await;
        assert!(!status.success(), "{status}");
        if loses {
            let lost = trouble.lose_what_was_not_synced(&world.journal(0));
            assert!(lost > 0, "everything was synced");
        }
        world.clients.clear();
        world.add_client();
        world.hear(30).await;
        let world = settle(world).await;
        assert_eq!(failures(&world), [], "nobody need know");
    }
}

#[tokio::test]
async fn a_store_that_cannot_be_made_is_an_error_and_is_made_the_next_time() {
    for number in (1..=6).filter(|_| can_inject()) {
        println!("sync {number}");
        let mut world = World::new(PROGRAMS, Transport::Tcp).await;
        let trouble = match number % 2 {
            0 => Trouble::dies_in_sync(&world, number),
            _ => Trouble::sync_fails(&world, number),
        };
        world.add_client_under(trouble.command(PROGRAMS.client));
        let status = world.clients[0].ends().await;
        let complaints = world.clients[0].complaints().await;
        assert!(!status.success() && !complaints.contains("panicked"), "{status}: {complaints}");
        world.clients.clear();
        world.add_client();
        world.hear(30).await;
        let world = settle(world).await;
        assert_eq!(failures(&world), [], "nobody was told anything before");
    }
}

#[tokio::test]
async fn a_server_whose_disk_is_full_goes_on_when_there_is_room() {
    if !can_inject() {
        return;
    }
    let mut world = World::new(PROGRAMS, Transport::Tcp).await;
    world.server.hang_up().await;
    let trouble = Trouble::is_full(&world, 60, 90);
    world.start_server_under(trouble.command(PROGRAMS.server));
    world.add_client();
    trouble.happens(31).await;
    world.hear(50).await;
    let world = settle(world).await;
    only_full(&failures(&world));
}

#[tokio::test]
async fn a_client_whose_disk_is_full_says_so_and_goes_on_when_there_is_room() {
    if !can_inject() {
        return;
    }
    let mut world = World::new(PROGRAMS, Transport::Tcp).await;
    practise(&mut world).await;
    let trouble = Trouble::is_full(&world, 60, 90);
    world.add_client_under(trouble.command(PROGRAMS.client));
    trouble.happens(31).await;
    world.hear(50).await;
    let world = settle(world).await;
    let failures = failures(&world);
    assert!(!failures.is_empty(), "somebody had to be told");
    only_full(&failures);
}

#[tokio::test]
async fn both_sides_go_on_when_a_real_disk_has_room_again() {
    let folder = Folder::new("bank");
    let Some(disk) = SmallDisk::mount(&folder.file("disk")) else { return };
    let databases = disk.0.clone();
    let mut world = World::with_databases(PROGRAMS, Transport::Tcp, folder, databases).await;
    world.add_client();
    world.hear(20).await;
    disk.fill();
    // Either side may be the one that needs room first.
    let met = || !failures(&world).is_empty() || most_runs(&world) > 3;
    eventually("somebody is told, or a handler runs again and again", met).await;
    disk.make_room();
    world.hear(100).await;
    let world = settle(world).await;
    only_full(&failures(&world));
    drop(disk);
}

/// How often the handler ran that ran most often.
fn most_runs(world: &World) -> usize {
    let text = std::fs::read_to_string(world.folder.file("runs")).expect("the server wrote it");
    text.lines().map(|key| text.lines().filter(|other| *other == key).count()).max().unwrap_or(0)
}

/// All that was told beside answers is that the disk was full, and nothing was done.
fn only_full(failures: &[(Execution, String)]) {
    for (execution, text) in failures {
        assert_eq!(*execution, Execution::NotExecuted, "{text}");
        assert!(text.contains("disk is full"), "{text}");
    }
}

/// A file system of 8 MiB in memory, gone at the end.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Nothing if that is not permitted. Any other error fails where everything must be tested.
    fn mount(path: &Path) -> Option<SmallDisk> {
        std::fs::create_dir(path).expect("a folder");
        let mut mount = Program::new("mount");
        let output = mount.args(["-t", "tmpfs", "-o", "size=8m", "none"]).arg(path).output();
        if output.as_ref().is_ok_and(|output| output.status.success()) {
            return Some(SmallDisk(path.to_owned()));
        }
        let said = format!("{output:?}");
        let permitted = !said.contains("ermission denied") && !said.contains("not permitted");
        assert!(!permitted || std::env::var_os("CI").is_none(), "{said}");
        println!("skipped: nothing can be mounted here: {said}");
        None
    }

    /// Takes all the room.
    fn fill(&self) {
        let mut file = File::create(self.0.join("filler")).expect("a file");
        while file.write_all(&[1; 4096]).is_ok() {}
    }

    fn make_room(&self) {
        std::fs::remove_file(self.0.join("filler")).expect("it is there");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Program::new("umount").arg("-l").arg(&self.0).status();
    }
}
