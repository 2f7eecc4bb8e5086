//! A chat room: clients pass callbacks, the room calls them, and a client that leaves without a word is collected.
//!
//! Nobody but the room listens: it calls its guests over the connections that they have opened.
//!
//! ```text
//! anna hears: anna enters
//! anna hears: ben enters
//! ben hears: ben enters
//! anna hears: ben says hello
//! ben hears: ben says hello
//! ben leaves in good order, anna without a word
//! the room holds 0 listeners
//! ```

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use farcall::{CallError, Limits, Node, Unreferenced, remote};

/// What a guest passes to the room.
#[remote]
pub trait Listener {
    /// Something was said.
    async fn hear(&self, line: &str);
}

/// The room.
#[remote]
pub trait Room {
    /// Enters, under a name. The guest stays as long as it holds its seat.
    async fn enter(&self, name: &str, listener: ListenerProxy) -> SeatProxy;
}

/// A guest's place in the room, made for it alone: who holds it may speak.
#[remote]
pub trait Seat {
    /// Says something to all.
    async fn say(&self, text: &str) -> u32;
}

type Guests = Arc<Mutex<BTreeMap<String, ListenerProxy>>>;

struct Hall {
    node: Node,
    guests: Guests,
}

struct Place {
    name: String,
    guests: Guests,
}

/// Tells all guests, and how many heard it.
async fn tell(guests: &Guests, line: &str) -> u32 {
    let all: Vec<ListenerProxy> = lock(guests).values().cloned().collect();
    let mut heard = 0;
    for listener in all {
        heard += u32::from(listener.hear(line).timeout(Duration::from_secs(1)).await.is_ok());
    }
    heard
}

#[remote]
impl Room for Hall {
    async fn enter(&self, name: &str, listener: ListenerProxy) -> SeatProxy {
        lock(&self.guests).insert(name.to_owned(), listener);
        tell(&self.guests, &format!("{name} enters")).await;
        let place = Place { name: name.to_owned(), guests: self.guests.clone() };
        self.node.export_watched(Arc::new(place))
    }
}

#[remote]
impl Seat for Place {
    async fn say(&self, text: &str) -> u32 {
        tell(&self.guests, &format!("{} says {text}", self.name)).await
    }
}

impl Unreferenced for Place {
    /// The guest has given its seat up, or its session is over.
    fn unreferenced(&self) {
        let listener = lock(&self.guests).remove(&self.name);
        drop(listener);
    }
}

struct Ear(&'static str);

#[remote]
impl Listener for Ear {
    async fn hear(&self, line: &str) {
        println!("{} hears: {line}", self.0);
    }
}

async fn enter(name: &'static str, room: &str) -> Result<(Node, SeatProxy), CallError> {
    let node = Node::builder().build();
    let room: RoomProxy = node.lookup(room).await?;
    let listener = node.export(Ear(name));
    let seat = room.enter(name, listener).await?;
    Ok((node, seat))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // A guest that is silent is gone after so long; in earnest it is five minutes.
    let session_ttl = Duration::from_millis(500);
    let node = Node::builder().limits(Limits { session_ttl, ..Limits::default() }).build();
    let guests = Guests::default();
    node.registry().bind("room", Hall { node: node.clone(), guests: guests.clone() })?;
    let server = node.listen("tcp://127.0.0.1:0").await?;
    let url = server.url("room").to_string();

    let anna =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let entered = url.clone();
    let (_anna_node, _anna_seat) =
        anna.spawn(async move { enter("anna", &entered).await }).await??;
    let (ben, seat) = enter("ben", &url).await?;
    assert_eq!(seat.say("hello").await?, 2);

    println!("ben leaves in good order, anna without a word");
    drop(seat);
    ben.shutdown(Duration::from_secs(1)).await?;
    // Her process is gone, as far as anybody can see.
    anna.shutdown_background();
    while !node.references().is_empty() || !lock(&guests).is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("the room holds {} listeners", lock(&guests).len());
    node.shutdown(Duration::from_secs(1)).await?;
    Ok(())
}

fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
