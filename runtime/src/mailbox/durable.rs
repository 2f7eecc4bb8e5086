//! Mailboxes whose messages are in their owner's store: exactly-once calls put them there.
//!
//! A message is a row from the transaction in which its call is recorded until the one in which it is taken. So neither a
//! crash of the sender nor one of the owner loses or repeats it, if what the owner does with it is written in the
//! transaction in which it takes it.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use farcall_macros::remote;
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::object::{Batch, NotPut, Put};
use super::pump::{BUSY_PAUSE, wait_ms};
use crate::driver::unless;
use crate::error::CallError;
use crate::node::Node;
use crate::protocol::durable::batch::{Failure, Task};
use crate::registry::{Bound, RegistryError};
use crate::semantics::Execution;
use crate::sqlite::{self, Transaction, params};
use crate::store::{Sqlite, SqliteStore, StoreError};
use crate::wire::payload::decode;

/// Where messages of type `T` arrive that no crash loses or repeats: they wait in the node's store, over restarts. Senders
/// are those with `Semantics::ExactlyOnce`. Cheap to clone; each message is taken once.
///
/// ```
/// use farcall::sqlite::params;
/// use farcall::{DurableMailbox, SqliteStore};
///
/// # async fn example(store: &SqliteStore, inbox: &DurableMailbox<String>) -> Result<(), Box<dyn std::error::Error>> {
/// inbox.arrived().await?;
/// let tx = store.transaction().await?;
/// if let Some(order) = inbox.take(&tx)? {
///     tx.execute("insert into purchase (what) values (?1)", params![order])?;
/// }
/// // The message is gone and the purchase is there, or neither.
/// tx.commit().await?;
/// # Ok(())
/// # }
/// ```
///
/// Its name is bound as long as a clone lives; the messages stay in the store, and are there for the next mailbox of that
/// name, whose type should be the same.
pub struct DurableMailbox<T> {
    owner: Arc<Owner>,
    message: PhantomData<fn() -> T>,
}

/// Frees the name when it goes.
struct Owner {
    shelf: Arc<Shelf>,
    node: Node,
    /// What the name was bound to.
    bound: Bound,
}

/// The rows of one mailbox, and who waits for them to change.
struct Shelf {
    store: SqliteStore,
    name: Box<str>,
    capacity: u32,
    changed: Notify,
}

/// A message that is taken while nobody has it yet. Dropped with its bytes, it puts the message back in its place.
struct Taken {
    shelf: Arc<Shelf>,
    position: u64,
    bytes: Option<Vec<u8>>,
}

/// What is bound to the mailbox's name.
struct Door<T> {
    shelf: Arc<Shelf>,
    /// Whether a message is one is found out before it is kept.
    message: PhantomData<fn() -> T>,
}

/// A mailbox in a store, for those who send.
#[remote(crate = crate)]
pub(crate) trait RemoteDurableMailbox {
    /// Keeps messages in their order, as many as there are places for.
    #[remote(semantics = "exactly_once")]
    async fn keep(&self, batch: &Batch<'_>) -> Result<Put, NotPut>;

    /// How many places are free; waits so many milliseconds for the first.
    #[remote(semantics = "at_least_once")]
    async fn room(&self, wait_ms: u32) -> Result<u32, NotPut>;

    /// Whether the message at this position was taken; waits so many milliseconds until it is.
    #[remote(semantics = "at_least_once")]
    async fn is_taken(&self, position: u64, wait_ms: u32) -> Result<bool, NotPut>;
}

impl Node {
    /// A mailbox of this node under a name, whose messages are in the node's [store](crate::NodeBuilder::store), `capacity`
    /// of them at most; those of an earlier run are there still.
    ///
    /// # Errors
    /// As [`Registry::bind`](crate::Registry::bind), [`RegistryError::NoStore`] among them.
    pub fn durable_mailbox<T: DeserializeOwned + Send + 'static>(
        &self,
        name: &str,
        capacity: u32,
    ) -> Result<DurableMailbox<T>, RegistryError> {
        let interface = "RemoteDurableMailbox".to_owned();
        let store = self.store().ok_or(RegistryError::NoStore { interface })?;
        let changed = Notify::new();
        let shelf = Shelf { store, name: name.into(), capacity: capacity.max(1), changed };
        let shelf = Arc::new(shelf);
        let door = Door::<T> { shelf: shelf.clone(), message: PhantomData };
        let bound = self.registry().bind_known(name, door)?;
        let owner = Arc::new(Owner { shelf, node: self.clone(), bound });
        Ok(DurableMailbox { owner, message: PhantomData })
    }
}

impl<T: DeserializeOwned> DurableMailbox<T> {
    /// Takes the first message in a transaction of the program's: it is gone if that commits, and there still if not.
    /// Nothing if there is none.
    ///
    /// # Errors
    /// [`CallError::Store`] if the store failed, or if the message is no `T`: it was sent to a mailbox of another type.
    /// It stays.
    pub fn take(&self, tx: &Transaction) -> Result<Option<T>, CallError> {
        Ok(self.take_row(tx)?.map(|(message, _, _)| message))
    }

    /// The first message, with its position and its bytes.
    fn take_row(&self, tx: &Transaction) -> Result<Option<(T, u64, Vec<u8>)>, CallError> {
        let shelf = &self.owner.shelf;
        let Some((position, bytes)) = shelf.first(tx)? else { return Ok(None) };
        let message = decode(&bytes).map_err(|error| CallError::Store {
            reason: format!("message {position} of `{}`: {error}", shelf.name).into(),
        })?;
        shelf.remove(tx, position)?;
        Ok(Some((message, position, bytes)))
    }

    /// Waits until there is a message. Another clone may take it first.
    ///
    /// # Errors
    /// [`CallError::Closed`] if the node was shut down, [`CallError::Store`] if the store failed.
    pub async fn arrived(&self) -> Result<(), CallError> {
        let Owner { shelf, node, .. } = &*self.owner;
        loop {
            // Enlisted before the look: what happens in between is not missed.
            let mut changed = std::pin::pin!(shelf.changed.notified());
            changed.as_mut().enable();
            if shelf.look(|shelf, tx| Ok(shelf.first(tx)?.is_some())).await? {
                return Ok(());
            }
            if unless(node.closing().wait(), changed).await.is_none() {
                return Err(CallError::Closed { execution: Execution::NotExecuted });
            }
        }
    }

    /// The next message, waiting until there is one. It is gone from the store when this returns: what a crash interrupts
    /// then is lost. Where that matters, [`take`](DurableMailbox::take) it in the transaction of its effect. A future that
    /// is dropped takes none, or puts it back.
    ///
    /// # Errors
    /// Those of [`arrived`](DurableMailbox::arrived) and [`take`](DurableMailbox::take).
    pub async fn receive(&self) -> Result<T, CallError> {
        loop {
            self.arrived().await?;
            let tx = self.owner.shelf.store.transaction().await?;
            let Some((message, position, bytes)) = self.take_row(&tx)? else { continue };
            let shelf = self.owner.shelf.clone();
            let mut taken = Taken { shelf, position, bytes: Some(bytes) };
            tx.commit().await?;
            taken.bytes = None;
            return Ok(message);
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let Some(bytes) = self.bytes.take() else { return };
        let (shelf, position) = (self.shelf.clone(), self.position.cast_signed());
        // It stands there still if the commit that took it failed.
        let put =
            "insert or ignore into mailbox_message (mailbox, position, bytes) values (?1, ?2, ?3)";
        let name = shelf.name.clone();
        let run = move |db: &mut Sqlite| {
            let row = params![name, position, bytes];
            db.statement(put, |statement| statement.execute(row)).map_err(|error| match error {
                sqlite::Error::Sqlite(error) => error.into(),
                _ => StoreError::RolledBack,
            })
        };
        let done = move |put: Result<usize, Failure<StoreError>>| match put {
            Ok(_) => shelf.changed.notify_waiters(),
            Err(failure) => tracing::error!(
                mailbox = shelf.name,
                position,
                ?failure,
                "a message that nobody waited for any more could not be put back"
            ),
        };
        self.shelf.store.submit_later(Box::new(Task::new(run, done)));
    }
}

impl Shelf {
    /// Looks at the rows in a transaction that changes nothing.
    async fn look<R>(
        &self,
        look: impl FnOnce(&Shelf, &Transaction) -> Result<R, sqlite::Error>,
    ) -> Result<R, CallError> {
        let tx = self.store.transaction().await?;
        tx.execute_batch(TABLES)?;
        Ok(look(self, &tx)?)
    }

    fn first(&self, tx: &Transaction) -> Result<Option<(u64, Vec<u8>)>, sqlite::Error> {
        tx.execute_batch(TABLES)?;
        let first = "select position, bytes from mailbox_message where mailbox = ?1 \
                     order by position limit 1";
        tx.query_optional(first, [&self.name], |row| {
            Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get(1)?))
        })
    }

    fn remove(&self, tx: &Transaction, position: u64) -> Result<(), sqlite::Error> {
        let sql = "delete from mailbox_message where mailbox = ?1 and position = ?2";
        tx.execute(sql, params![self.name, position.cast_signed()])?;
        // Who waits looks when this transaction has ended: the store has one at a time.
        self.changed.notify_waiters();
        Ok(())
    }

    fn room(&self, tx: &Transaction) -> Result<u32, sqlite::Error> {
        let count = "select count(*) from mailbox_message where mailbox = ?1";
        let messages: u32 = tx.query_row(count, [&self.name], |row| row.get(0))?;
        Ok(self.capacity.saturating_sub(messages))
    }

    fn has(&self, tx: &Transaction, position: u64) -> Result<bool, sqlite::Error> {
        let sql = "select 1 from mailbox_message where mailbox = ?1 and position = ?2";
        let found = tx.query_optional(sql, params![self.name, position.cast_signed()], |_| Ok(()));
        Ok(found?.is_some())
    }

    /// Adds a message, and gives its position: one that no other message of this mailbox ever had.
    fn add(&self, tx: &Transaction, bytes: &[u8]) -> Result<u64, sqlite::Error> {
        let next = "insert into mailbox (name, put) values (?1, 1) \
                    on conflict (name) do update set put = put + 1 returning put";
        let position: i64 = tx.query_row(next, [&self.name], |row| row.get(0))?;
        let sql = "insert into mailbox_message (mailbox, position, bytes) values (?1, ?2, ?3)";
        tx.execute(sql, params![self.name, position, bytes])?;
        Ok(position.cast_unsigned())
    }

    /// Looks again and again, when something has changed, until what is seen is good or the time is over.
    async fn wait<R>(
        &self,
        wait_ms: u32,
        is_good: impl Fn(&R) -> bool,
        look: impl Fn(&Shelf, &Transaction) -> Result<R, sqlite::Error>,
    ) -> Result<R, CallError> {
        let deadline = Instant::now() + Duration::from_millis(wait_ms.into());
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            let seen = self.look(&look).await?;
            if is_good(&seen) || tokio::time::timeout_at(deadline, changed).await.is_err() {
                return Ok(seen);
            }
        }
    }
}

#[remote(crate = crate)]
impl<T: DeserializeOwned + Send + 'static> RemoteDurableMailbox for Door<T> {
    async fn keep(&self, batch: &Batch<'_>) -> Result<Put, CallError<NotPut>> {
        let shelf = &self.shelf;
        let messages = batch.messages().ok_or(CallError::Method(NotPut::Garbled))?;
        let tx = sqlite::transaction()?;
        tx.execute_batch(TABLES)?;
        let mut put = Put { room: shelf.room(&tx)?, ..Put::default() };
        for message in messages {
            if put.room == 0 {
                break;
            }
            if let Err(error) = decode::<T>(message) {
                put.refused = Some(error.to_string());
                break;
            }
            put.last = shelf.add(&tx, message)?;
            (put.accepted, put.room) = (put.accepted + 1, put.room - 1);
        }
        // As in `remove`. If this is rolled back, who waits looks in vain.
        shelf.changed.notify_waiters();
        Ok(put)
    }

    async fn room(&self, wait_ms: u32) -> Result<u32, CallError<NotPut>> {
        let seen = self.shelf.wait(wait_ms, |room| *room > 0, Shelf::room).await;
        seen.map_err(CallError::widen)
    }

    async fn is_taken(&self, position: u64, wait_ms: u32) -> Result<bool, CallError<NotPut>> {
        let look = |shelf: &Shelf, tx: &Transaction| Ok(!shelf.has(tx, position)?);
        self.shelf.wait(wait_ms, |taken| *taken, look).await.map_err(CallError::widen)
    }
}

/// Puts a batch, for as long as it takes: what is saved goes on until it has an answer.
pub(super) async fn keep(
    mailbox: &RemoteDurableMailboxProxy,
    batch: &Batch<'_>,
    timeout: Duration,
) -> Result<Put, CallError<NotPut>> {
    // A call that finds no place would cost as many commits as one that does.
    patient(|| mailbox.room(wait_ms(timeout)).timeout(timeout)).await?;
    loop {
        match mailbox.keep(batch).timeout(timeout).await {
            Err(CallError::Deferred { ticket, .. }) => return ticket.wait().await,
            Err(CallError::JournalFull) => tokio::time::sleep(BUSY_PAUSE).await,
            ended => return ended,
        }
    }
}

/// Whether a message that was kept is taken.
pub(super) async fn is_taken(
    mailbox: &RemoteDurableMailboxProxy,
    position: u64,
    timeout: Duration,
) -> Result<bool, CallError<NotPut>> {
    patient(|| mailbox.is_taken(position, wait_ms(timeout)).timeout(timeout)).await
}

/// Asks until there is an answer: the owner may be away for any time.
async fn patient<F: IntoFuture<Output = Result<R, CallError<NotPut>>>, R>(
    ask: impl Fn() -> F,
) -> Result<R, CallError<NotPut>> {
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(error @ CallError::Closed { .. }) => return Err(error),
            Err(error) => tracing::debug!(%error, "a mailbox is away"),
        }
        tokio::time::sleep(BUSY_PAUSE).await;
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // It may have been unbound by hand, and the name may mean another mailbox now.
        self.node.registry().unbind_if(&self.shelf.name, &self.bound);
    }
}

impl<T> Clone for DurableMailbox<T> {
    fn clone(&self) -> DurableMailbox<T> {
        DurableMailbox { owner: self.owner.clone(), message: PhantomData }
    }
}

impl<T> fmt::Debug for DurableMailbox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shelf { name, capacity, .. } = &*self.owner.shelf;
        f.debug_struct("DurableMailbox")
            .field("name", name)
            .field("capacity", capacity)
            .finish_non_exhaustive()
    }
}

/// The program may look at them, as at its own.
const TABLES: &str = "
    create table if not exists mailbox (name text primary key, put integer not null) without rowid;
    create table if not exists mailbox_message (
        mailbox text not null, position integer not null, bytes blob not null, primary key (mailbox, position)
    ) without rowid;
";
