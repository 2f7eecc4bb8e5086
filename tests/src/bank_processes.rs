//! The processes of a bank, and the files that outlive them. Each process ends with the test: by the end of its standard
//! input, and by SIGKILL.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::bank::{Books, Case, cases, diary};
use crate::ledger::{Folder, read};
use crate::random::Random;
use crate::service::{Transport, eventually};

/// What one start or one end may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where the programs are; a test knows that.
#[derive(Debug, Clone, Copy)]
pub struct Programs {
    /// `bank_server`.
    pub server: &'static str,
    /// `bank_client`.
    pub client: &'static str,
}

/// A process that is killed when it goes, and counts the lines that it prints.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// Its end is that of the process.
    input: Option<ChildStdin>,
    /// The last line that it printed.
    last: watch::Receiver<String>,
    errors: Arc<Mutex<String>>,
    listening: JoinHandle<()>,
}

/// The files of a bank, its server, and its clients.
#[derive(Debug)]
pub struct World {
    programs: Programs,
    /// Diaries and logs.
    pub folder: Folder,
    /// Databases and journals.
    pub databases: PathBuf,
    transport: Transport,
    address: String,
    run: u64,
    /// The one that runs.
    pub server: Process,
    /// Those that run.
    pub clients: Vec<Process>,
    words: Arc<AtomicU64>,
}

impl Process {
    fn start(command: &mut Command, lines: &Arc<AtomicU64>) -> Process {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().expect("a process");
        let mut output = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let mut complaints = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        let input = child.stdin.take();
        let (teller, last) = watch::channel(String::new());
        let errors = Arc::<Mutex<String>>::default();
        let (count, heard) = (lines.clone(), errors.clone());
        let listening = tokio::spawn(async move {
            while let Ok(Some(line)) = output.next_line().await {
                count.fetch_add(1, Ordering::Relaxed);
                teller.send_replace(line);
            }
            while let Ok(Some(line)) = complaints.next_line().await {
                let mut errors = heard.lock().expect("nobody panics with it");
                errors.push_str(&line);
                errors.push('\n');
            }
        });
        Process { child, input, last, errors, listening }
    }

    /// SIGKILL, and its end. It has not ended before by itself.
    ///
    /// # Panics
    /// If it has.
    pub async fn kill(&mut self) {
        if let Some(status) = self.child.try_wait().expect("a child") {
            panic!("it ended by itself, {status}: {}", self.complaints().await);
        }
        self.child.kill().await.expect("it was running");
    }

    /// Lets a client come to the end of what it does.
    ///
    /// # Panics
    /// If it ends badly, or not at all.
    pub async fn stop(&mut self) {
        let input = self.input.as_mut().expect("it was not told before");
        input.write_all(b"stop\n").await.expect("it listens");
        self.ends_well().await;
    }

    /// Closes its standard input, at which a server ends.
    ///
    /// # Panics
    /// If it ends badly, or not at all.
    pub async fn hang_up(&mut self) {
        self.input = None;
        self.ends_well().await;
    }

    /// Its end, which comes by itself.
    ///
    /// # Panics
    /// If it does not come.
    pub async fn ends(&mut self) -> ExitStatus {
        // `wait` would close its standard input.
        let input = self.input.take();
        let ended = timeout(PATIENCE, self.child.wait()).await;
        drop(input);
        ended.expect("it ends").expect("a child")
    }

    /// Its end, which comes by itself and is a good one.
    ///
    /// # Panics
    /// If it is not, or it has complained.
    pub async fn ends_well(&mut self) {
        let status = self.ends().await;
        let complaints = self.complaints().await;
        assert!(status.success() && complaints.is_empty(), "{status}: {complaints}");
    }

    /// What it wrote to its standard error, when it has ended.
    ///
    /// # Panics
    /// If it has not ended.
    pub async fn complaints(&mut self) -> String {
        timeout(PATIENCE, &mut self.listening).await.expect("it has ended").expect("no panic");
        self.errors.lock().expect("nobody panics with it").clone()
    }
}

impl World {
    /// A bank that is open, without clients.
    ///
    /// # Panics
    /// If it does not open.
    pub async fn new(programs: Programs, transport: Transport) -> World {
        let folder = Folder::new("bank");
        let databases = folder.file("");
        World::with_databases(programs, transport, folder, databases).await
    }

    /// A bank whose databases are in another folder than the rest.
    ///
    /// # Panics
    /// If it does not open.
    pub async fn with_databases(
        programs: Programs,
        transport: Transport,
        folder: Folder,
        databases: PathBuf,
    ) -> World {
        let (run, words) = (1, Arc::default());
        let command = &mut Command::new(programs.server);
        let mut server = serve(command, run, &databases, &folder, &place(transport));
        let url = timeout(PATIENCE, server.last.wait_for(|line| !line.is_empty())).await;
        let Ok(Ok(url)) = url.map(|url| url.map(|url| url.clone())) else {
            panic!("the server does not listen: {}", server.complaints().await);
        };
        let address = url.strip_suffix("/bank").expect("its name").to_owned();
        let clients = Vec::new();
        World { programs, folder, databases, transport, address, run, server, clients, words }
    }

    /// Starts the next run of the server, when the last one has ended.
    pub fn start_server(&mut self) {
        self.start_server_under(Command::new(self.programs.server));
    }

    /// Starts the next run of the server, by a command that has its program already.
    pub fn start_server_under(&mut self, mut command: Command) {
        self.run += 1;
        self.server = serve(&mut command, self.run, &self.databases, &self.folder, &self.address);
    }

    /// Adds a client, which begins to work.
    pub fn add_client(&mut self) {
        let command = Command::new(self.programs.client);
        self.add_client_under(command);
    }

    /// Adds a client, by a command that has its program already.
    pub fn add_client_under(&mut self, mut command: Command) {
        let client = self.clients.len();
        let process = self.start_client(&mut command, client, "work");
        self.clients.push(process);
    }

    /// Kills a client, and starts it again.
    ///
    /// # Panics
    /// If it has ended by itself.
    pub async fn restart_client(&mut self, client: usize) {
        self.clients[client].kill().await;
        self.clients[client] =
            self.start_client(&mut Command::new(self.programs.client), client, "work");
    }

    fn start_client(&self, command: &mut Command, client: usize, what: &str) -> Process {
        command.arg(format!("{}/bank", self.address));
        command.arg(self.journal(client)).arg(self.diary(client));
        command.arg(format!("{}-{client}", self.transport.scheme())).arg(what);
        Process::start(command, &self.words)
    }

    /// Each client asks again all that it ever asked, and ends.
    ///
    /// # Panics
    /// If one does not get the same words, or has unfinished calls at the end.
    pub async fn ask_again(&mut self) {
        for client in 0..self.clients.len() {
            let command = &mut Command::new(self.programs.client);
            let mut process = self.start_client(command, client, "check");
            process.ends_well().await;
            assert_eq!(*process.last.borrow(), "over");
            let unfinished = "select count(*) from farcall_request where outcome is null";
            assert_eq!(read(&self.journal(client), unfinished), [0]);
        }
    }

    /// Waits until clients were told so many words more.
    pub async fn hear(&self, more: u64) {
        let enough = self.words.load(Ordering::Relaxed) + more;
        eventually("more words", || self.words.load(Ordering::Relaxed) >= enough).await;
    }

    /// The books of the server.
    #[must_use]
    pub fn books(&self) -> Books {
        Books::read(&self.databases.join("bank.db"))
    }

    /// A client's journal.
    #[must_use]
    pub fn journal(&self, client: usize) -> PathBuf {
        self.databases.join(format!("{client}.db"))
    }

    fn diary(&self, client: usize) -> PathBuf {
        self.folder.file(&format!("{client}.diary"))
    }

    /// What the diary of a client says.
    #[must_use]
    pub fn cases(&self, client: usize) -> Vec<Case> {
        cases(&diary(&self.diary(client)))
    }
}

/// An address whose port the system gives to nobody who does not ask for it: a server that is down must find it free.
fn place(transport: Transport) -> String {
    // One for all threads: tests side by side in one process must not find the same port free.
    static RANDOM: LazyLock<Mutex<Random>> =
        LazyLock::new(|| Mutex::new(Random::new(std::process::id().into())));
    let mut random = RANDOM.lock().expect("nobody panics with it");
    let is_free = |port: &u16| {
        let place = (Ipv4Addr::LOCALHOST, *port);
        TcpListener::bind(place).is_ok() && UdpSocket::bind(place).is_ok()
    };
    let ports = std::iter::repeat_with(|| 10_000 + random.below(20_000) as u16);
    let port = ports.take(100).find(is_free).expect("a free port");
    format!("{}://127.0.0.1:{port}", transport.scheme())
}

fn serve(
    command: &mut Command,
    run: u64,
    databases: &Path,
    folder: &Folder,
    address: &str,
) -> Process {
    command.arg(run.to_string()).arg(databases.join("bank.db"));
    Process::start(command.arg(folder.file("runs")).arg(address), &Arc::default())
}
