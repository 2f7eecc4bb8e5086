//! The names of a node: several objects on one port, bound, replaced and freed while callers hold
//! proxies; what callers from outside may do with them; and an end in good order.
//!
//! Client and server are in one process here; nothing would change if they were not. Each claim
//! that is printed is checked.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use farcall::{
    Address, CallError, Entry, Execution, Node, RegistryError, RemoteRegistryProxy, Verb, remote,
};
use tokio::sync::Notify;

/// Says hello.
#[remote]
pub trait Greeter {
    /// A greeting for somebody.
    async fn greet(&self, name: &str) -> String;
}

/// Adds.
#[remote(semantics = "at_least_once")]
pub trait Adder {
    /// The sum; nothing if it is too large.
    async fn add(&self, a: u64, b: u64) -> Option<u64>;
}

/// A greeter of one language.
struct Language(&'static str);

#[remote]
impl Greeter for Language {
    async fn greet(&self, name: &str) -> String {
        format!("{}, {name}", self.0)
    }
}

/// Adds numbers and, as a second interface of the same object, greets slowly.
#[derive(Default)]
struct Clerk {
    began: Notify,
    may_end: Notify,
}

#[remote]
impl Adder for Clerk {
    async fn add(&self, a: u64, b: u64) -> Option<u64> {
        a.checked_add(b)
    }
}

#[remote]
impl Greeter for Clerk {
    async fn greet(&self, name: &str) -> String {
        self.began.notify_one();
        self.may_end.notified().await;
        format!("at last, {name}")
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // One node, one port, one more door for this process, and a client of its own.
    let server = Node::builder().build();
    let port = server.listen("tcp://127.0.0.1:0").await?;
    let inside = server.listen("mem://office").await?;
    let client = Node::builder().build();

    let clerk = Arc::new(Clerk::default());

    several_objects(&server, &client, port.addr(), inside.addr(), &clerk).await?;
    names_change(&server, &client, port.addr()).await?;
    from_outside(&server, &client, port.addr()).await?;
    shutdown(&server, &client, port.addr(), &clerk).await?;
    Ok(())
}

/// Objects share a port, whatever their interfaces; a client shares a connection among them.
async fn several_objects(
    server: &Node,
    client: &Node,
    port: &Address,
    inside: &Address,
    clerk: &Arc<Clerk>,
) -> Result<(), Box<dyn Error>> {
    println!("Several objects on one port");
    server.registry().bind("greeter", Language("hello"))?;
    // One object under two names, by two of its interfaces: each is named at its `bind_as`.
    server.registry().bind_as::<dyn Adder>("clerk", clerk.clone())?;
    server.registry().bind_as::<dyn Greeter>("clerk/slow", clerk.clone())?;

    let greeter: GreeterProxy = client.lookup(format!("{port}/greeter")).await?;
    let adder: AdderProxy = client.lookup(format!("{port}/clerk")).await?;
    println!(
        "  over TCP:           {}; 2 + 3 = {:?}",
        greeter.greet("Ada").await?,
        adder.add(2, 3).await?
    );
    assert_eq!(client.statistics().connections, 1);
    println!("  connections:        {}", client.statistics().connections);

    let near: GreeterProxy = client.lookup(format!("{inside}/greeter")).await?;
    println!("  inside the process: {}, by {inside}", near.greet("Ada").await?);

    // No network at all: the object itself, by the same trait.
    let object = server.registry().lookup::<dyn Greeter>("greeter").ok_or("it is bound")?;
    println!("  the object itself:  {}", object.greet("Ada").await?);

    let wrong = client.lookup::<AdderProxy>(format!("{port}/greeter")).await;
    let wrong = wrong.expect_err("a greeter does not add");
    assert_eq!(wrong.execution(), Execution::NotExecuted);
    println!("  a wrong interface:  {wrong}");
    Ok(())
}

/// Calls follow the name: a proxy meets whatever is bound to it at the time of the call.
async fn names_change(server: &Node, client: &Node, port: &Address) -> Result<(), Box<dyn Error>> {
    println!("\nNames change, proxies stay");
    let registry = server.registry();
    let greeter: GreeterProxy = client.lookup(format!("{port}/greeter")).await?;

    let taken = registry.bind("greeter", Language("salut")).expect_err("it is bound");
    println!("  bind:               {taken}");
    registry.rebind("greeter", Language("salut"))?;
    let greeting = greeter.greet("Ada").await?;
    assert_eq!(greeting, "salut, Ada");
    println!("  rebind:             {greeting}");

    registry.unbind("greeter")?;
    let gone = greeter.greet("Ada").await.expect_err("nothing is bound");
    assert!(matches!(gone, CallError::NoSuchObject(_)));
    assert!(gone.is_safe_to_retry());
    println!("  unbind:             {gone}");

    registry.bind("greeter", Language("hello again"))?;
    let greeting = greeter.greet("Ada").await?;
    assert_eq!(greeting, "hello again, Ada");
    println!("  bind:               {greeting}, by the same proxy");
    println!("  list:               {}", names(&registry.list()));
    Ok(())
}

/// The registry is a remote object as well. Reading is open; changing needs the node's leave.
async fn from_outside(server: &Node, client: &Node, port: &Address) -> Result<(), Box<dyn Error>> {
    println!("\nThe registry from outside");
    let registry: RemoteRegistryProxy = client.lookup(format!("{port}/farcall/registry")).await?;
    let listed = registry.list().await?;
    assert_eq!(listed, server.registry().list());
    println!("  list:               {}", names(&listed));
    let entry = registry.lookup("clerk").await?.ok_or("it is bound")?;
    println!("  lookup:             {} is a {}", entry.name, entry.interface);

    let denied = registry.unbind("greeter").await.expect_err("there is no policy");
    assert!(matches!(denied, CallError::Method(RegistryError::Denied { .. })));
    println!("  unbind:             {}", reason(&denied));

    server.registry().allow_remote(|caller, verb, name| {
        caller.address.starts_with("127.0.0.1:")
            && verb != Verb::Unbind
            && name.starts_with("public/")
    });
    registry.bind("public/greeter", "greeter").await?;
    let public: GreeterProxy = client.lookup(format!("{port}/public/greeter")).await?;
    println!("  bind by a policy:   {}, as public/greeter", public.greet("Ada").await?);
    let denied = registry.unbind("public/greeter").await.expect_err("the policy says no");
    println!("  unbind by it:       {}", reason(&denied));
    Ok(())
}

/// What runs is answered, what comes later is refused as not executed, and then the port is closed.
async fn shutdown(
    server: &Node,
    client: &Node,
    port: &Address,
    clerk: &Clerk,
) -> Result<(), Box<dyn Error>> {
    println!("\nAn end in good order");
    let slow: GreeterProxy = client.lookup(format!("{port}/clerk/slow")).await?;
    let running = slow.greet("Ada").start().await?;
    clerk.began.notified().await;

    let meanwhile = async {
        let refused = slow.greet("Bob").await.expect_err("nothing new begins");
        assert_eq!(refused.execution(), Execution::NotExecuted);
        println!("  a new call:         {refused}");
        clerk.may_end.notify_one();
        let greeting = running.await?;
        println!("  the running call:   {greeting}");
        Ok::<_, CallError>(())
    };
    // The shutdown is polled first: it has begun when the new call is made.
    let (ended, called) = tokio::join!(server.shutdown(Duration::from_secs(2)), meanwhile);
    called?;
    ended?;
    println!("  the server:         nothing was left unfinished");

    let late = Node::builder().build().lookup::<GreeterProxy>(format!("{port}/greeter")).await;
    let late = late.expect_err("the port is closed");
    assert_eq!(late.execution(), Execution::NotExecuted);
    println!("  a new client:       {late}");
    Ok(())
}

fn names(entries: &[Entry]) -> String {
    let names = entries.iter().map(|entry| format!("{} ({})", entry.name, entry.interface));
    names.collect::<Vec<_>>().join(", ")
}

/// The method's own error stands behind the error of the call.
fn reason(error: &dyn Error) -> String {
    error.source().map_or_else(|| error.to_string(), ToString::to_string)
}
