//! The tour, run as a user runs it: a process of its own, its output in a pipe.
//!
//! What it finds out is its own business; here it has to find it out in time, show it, keep its
//! lines on one screen, and leave nothing behind.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

#[tokio::test]
async fn the_tour_shows_its_table_on_one_screen_and_leaves_nothing() {
    let folder = Folder::new("whole");
    let (status, shown) = run(&built(), &[], &folder.path).await;
    assert!(status.success(), "{status}:\n{shown}");

    for part in [
        "#[remote(semantics = \"at_least_once\")]",
        "shop.pay(1).await?",
        "shop.pay(2).blocking()?",
        "shop.pay(3).start().await?",
        "receipt 3 from process",
        "shops.price(4).first().await",
        "receipt 4, first of 2 members",
        "shop.sell(5, buyer).await?",
        "for a call on its own",
        "made all its calls again",
        "Every promise was kept.",
    ] {
        assert!(shown.contains(part), "`{part}` is not in:\n{shown}");
    }
    let ours =
        shown.split_once("Calls from process ").and_then(|(_, behind)| behind.split(' ').next());
    let signed = shown.split_once("receipt 5 signed by process ").map(|(_, behind)| behind);
    let signer = signed.and_then(|behind| behind.split(' ').next());
    assert!(signer.is_some() && signer == ours, "called back in the caller's process:\n{shown}");
    for [semantics, link] in [
        ["maybe", "tcp"],
        ["maybe", "udp"],
        ["at_least_once", "tcp"],
        ["at_least_once", "udp"],
        ["at_most_once", "tcp"],
        ["at_most_once", "udp"],
        ["exactly_once", "tcp"],
        ["exactly_once", "udp"],
    ] {
        let row = shown.lines().find_map(|line| {
            let behind = line.trim().strip_prefix(semantics)?;
            behind.trim().strip_prefix(link)
        });
        let row = row.unwrap_or_else(|| panic!("no row of {semantics} over {link} in:\n{shown}"));
        let numbers = row.split([' ', '|']).filter(|word| !word.is_empty());
        let numbers: Vec<u64> = numbers.map(|word| word.parse().unwrap()).collect();
        let [calls, answered, unknown, not_executed, never, once, repeatedly, _] = numbers[..]
        else {
            panic!("{row}");
        };
        assert!(calls >= 200, "some hundreds: {row}");
        assert_eq!(answered + unknown + not_executed, calls, "each ended once: {row}");
        assert_eq!(never + once + repeatedly, calls, "each was counted: {row}");
        if semantics == "exactly_once" {
            assert_eq!((answered, once), (calls, calls), "what it is called for: {row}");
        }
    }
    assert!(shown.lines().count() <= SCREEN_LINES, "{} lines", shown.lines().count());
    let longest = shown.lines().map(|line| line.chars().count()).max();
    assert!(longest <= Some(SCREEN_COLUMNS), "{longest:?} columns:\n{shown}");
    assert!(!shown.contains('\x1b'), "colours in a pipe:\n{shown}");
    assert_eq!(folder.entries(), 0, "something was left behind");
}

#[tokio::test]
async fn a_server_ends_when_its_client_is_gone() {
    let folder = Folder::new("server");
    let arguments = ["serve".as_ref(), folder.path.as_os_str(), "0".as_ref(), "0".as_ref()];
    // Its standard input has ended before it began.
    let (status, shown) = run(&built(), &arguments, &folder.path).await;
    assert!(status.success(), "{status}:\n{shown}");
    let urls: Vec<&str> = shown.lines().collect();
    let places = ["tcp://127.0.0.1:", "udp://127.0.0.1:"];
    assert_eq!(urls.len(), 2, "{shown}");
    for (url, place) in urls.iter().zip(places) {
        assert!(url.starts_with(place) && url.ends_with("/shop"), "{shown}");
    }
}

#[tokio::test]
async fn a_client_ends_when_the_tour_is_gone() {
    let folder = Folder::new("client");
    // Nobody is there: it would try for long.
    let nowhere = ["tcp://127.0.0.1:1/depot", "1000", "udp://127.0.0.1:1/depot", "2000"];
    let mut arguments = vec!["ship".as_ref(), folder.path.as_os_str()];
    arguments.extend(nowhere.map(std::ffi::OsStr::new));
    let (status, shown) = run(&built(), &arguments, &folder.path).await;
    assert_eq!(status.code(), Some(1), "{shown}");
}

/// Runs a program with an ended input; what it says on both outputs, errors first.
async fn run(
    program: &Path,
    arguments: &[&std::ffi::OsStr],
    folder: &Path,
) -> (ExitStatus, String) {
    let mut process = tokio::process::Command::new(program)
        .args(arguments)
        .env("TMPDIR", folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let (mut output, mut errors) = (process.stdout.take().unwrap(), process.stderr.take().unwrap());
    let (mut shown, mut complaints) = (String::new(), String::new());
    let ended = timeout(AT_MOST, async {
        let outputs =
            tokio::join!(output.read_to_string(&mut shown), errors.read_to_string(&mut complaints));
        outputs.0.and(outputs.1).unwrap();
        process.wait().await.unwrap()
    });
    let status = ended.await.expect("it hangs");
    (status, complaints + &shown)
}

/// The tour's executable, built as the README says it is run, if it is not built yet.
fn built() -> PathBuf {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let output = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--example", "tour", "--message-format=json"])
        .current_dir(root)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let messages = String::from_utf8_lossy(&output.stdout);
    let mut executables = messages.lines().filter_map(|line| {
        let (_, behind) = line.split_once("\"executable\":\"")?;
        Some(behind.split_once('"')?.0.to_owned())
    });
    let tour = executables.next_back().expect("cargo names the executable that it built");
    // As JSON writes the paths of Windows.
    PathBuf::from(tour.replace("\\\\", "\\"))
}

/// A folder for temporary files, removed at the end.
struct Folder {
    path: PathBuf,
}

impl Folder {
    fn new(name: &str) -> Folder {
        let path =
            std::env::temp_dir().join(format!("farcall-tests-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        Folder { path }
    }

    fn entries(&self) -> usize {
        std::fs::read_dir(&self.path).unwrap().count()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// It takes some three seconds, and is asked to take less than 20; beyond this it hangs.
const AT_MOST: Duration = Duration::from_secs(60);

/// What a person sees without scrolling on a usual screen.
const SCREEN_LINES: usize = 46;
const SCREEN_COLUMNS: usize = 100;
