//! Many sensors, one question: the first answer, a majority, all; and a sensor that is killed in between.
//!
//! The sensors are found at the address of a multicast group, and each call to them leaves in one datagram. They are on
//! runtimes of their own in this process, so that one can be killed as a process would be. Each claim that is printed is
//! checked.

use std::error::Error;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use farcall::{CallError, Discovery, Execution, Group as _, Listening, Node, Replies, remote};
use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;

/// Measures.
#[remote(semantics = "at_least_once")]
pub trait Sensor {
    /// The temperature in thousandths of a degree, after so many milliseconds.
    async fn temperature(&self, takes_ms: u64) -> i64;

    /// Sets the zero anew. Twice would be wrong.
    #[remote(semantics = "at_most_once")]
    async fn calibrate(&self, takes_ms: u64) -> u64;
}

/// A sensor, by its number.
struct Probe(u64);

#[remote]
impl Sensor for Probe {
    async fn temperature(&self, takes_ms: u64) -> i64 {
        // Each takes a little longer than the one before.
        tokio::time::sleep(Duration::from_millis(takes_ms + self.0 * 20)).await;
        if self.0 == BROKEN { -273_150 } else { 20_000 + self.0 as i64 * 10 }
    }

    async fn calibrate(&self, takes_ms: u64) -> u64 {
        tokio::time::sleep(Duration::from_millis(takes_ms)).await;
        self.0
    }
}

/// A sensor that can be killed.
struct Place {
    runtime: Runtime,
    serving: Listening,
}

impl Place {
    fn start(number: u64, at: &str, group: &str) -> Result<Place, Box<dyn Error>> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let serving = runtime.block_on(async {
            let serving = farcall::serve(at, "sensor", Probe(number)).await?;
            serving.node().announce_with(group, &here()).await?;
            Ok::<_, Box<dyn Error>>(serving)
        })?;
        Ok(Place { runtime, serving })
    }

    /// Ends it as a crash would.
    fn kill(self) -> String {
        let at = self.serving.addr().to_string();
        self.runtime.shutdown_timeout(Duration::from_secs(5));
        at
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    // A port that is free now, for a group that nobody else has.
    let port = UdpSocket::bind("0.0.0.0:0")?.local_addr()?.port();
    let group = format!("udp://239.255.42.7:{port}");
    let mut places = Vec::new();
    for number in 0..SENSORS {
        places.push(Some(Place::start(number, "udp://127.0.0.1:0", &group)?));
    }
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let node = Node::builder().build();
    let url = format!("{group}/sensor");
    let sensors: SensorGroup = runtime.block_on(node.multicast_with(&url, &here()))?;

    println!("{SENSORS} sensors are found at {group}, of which one is broken");
    assert_eq!(sensors.members().len() as u64, SENSORS);
    let member = |place: &Option<Place>| Some(place.as_ref()?.serving.url("sensor").to_string());
    let urls: Vec<String> = places.iter().filter_map(member).collect();
    runtime.block_on(ask(&sensors, &urls[BROKEN as usize]))?;
    runtime.block_on(compare(&sensors))?;

    println!("\nSensor {KILLED} is killed while it calibrates");
    let calibrating = runtime.block_on(sensors.calibrate(300).all().start());
    let victim = places[KILLED as usize].take().ok_or("it lives")?;
    // It has the call when the others have.
    runtime.block_on(sensors.temperature(0).all());
    let at = victim.kill();
    places[KILLED as usize] = Some(Place::start(KILLED, &at, &group)?);
    let replies = runtime.block_on(calibrating.finish());
    restarted(&urls[KILLED as usize], &replies)?;
    let replies = runtime.block_on(sensors.temperature(0).all());
    println!(
        "  asked again, at its new run:       {} of {SENSORS} answer",
        replies.accepted().count()
    );
    assert!(replies.is_met());
    Ok(())
}

/// Through the loopback device; a program in a network leaves that to the system.
fn here() -> Discovery {
    Discovery { interface: Some(Ipv4Addr::LOCALHOST), ..Discovery::default() }
}

/// Policies, and a filter.
async fn ask(sensors: &SensorGroup, broken: &str) -> Result<(), Box<dyn Error>> {
    let first = sensors.temperature(0).first().await.require()?;
    let (member, value) = first.accepted().next().ok_or("it was met")?;
    println!("  first():                           {} from {member}", degrees(*value));

    let plausible = sensors.temperature(0).accept(|_, value| *value > -100_000);
    let majority = plausible.majority().await.require()?;
    let mut values: Vec<i64> = majority.accepted().map(|(_, value)| *value).collect();
    values.sort_unstable();
    println!("  majority() of plausible answers:   median {}", degrees(values[values.len() / 2]));
    assert!(values.len() > SENSORS as usize / 2 && values.iter().all(|value| *value > 0));

    let all = sensors.temperature(0).accept(|_, value| *value > -100_000).all().await;
    let refused: Vec<String> =
        all.iter().filter(|reply| !reply.accepted).map(|reply| reply.member.to_string()).collect();
    println!("  all(), but not accepted:           {}", refused.join(", "));
    assert_eq!(refused, [broken]);

    let unmet = sensors.temperature(0).quorum(SENSORS as usize + 1).await.require();
    let unmet = unmet.err().ok_or("there are not so many")?;
    println!("  quorum({}):                         {unmet}", SENSORS + 1);
    let soon = Instant::now() + Duration::from_millis(250);
    let until = sensors.temperature(240).until(soon).await;
    let silent = until.iter().filter(|reply| !reply.accepted).count();
    println!(
        "  until() 250 ms from now:           {silent} gave no answer, and their entries say so"
    );
    // All but one take longer than that.
    assert!(until.len() as u64 == SENSORS && silent as u64 >= SENSORS - 1);
    Ok(())
}

/// Calls to many take the time of one.
async fn compare(sensors: &SensorGroup) -> Result<(), Box<dyn Error>> {
    let began = Instant::now();
    let mut replies = sensors.temperature(100).all().start().await;
    let mut order = Vec::new();
    while let Some(reply) = replies.next().await {
        order.push(reply.result?);
    }
    let took = began.elapsed().as_millis();
    println!("  {SENSORS} sensors of 100 to 180 ms:        {took} ms for all, in order of arrival");
    assert_eq!(order.len(), SENSORS as usize);
    assert!(replies.is_met());
    Ok(())
}

fn restarted(url: &str, replies: &Replies<u64>) -> Result<(), Box<dyn Error>> {
    let mut entries = replies.iter();
    let killed = entries.find(|reply| reply.member.to_string() == url).ok_or("one a member")?;
    let error = killed.result.as_ref().err().ok_or("it was killed")?;
    println!("  its entry:                         {error}");
    assert!(matches!(error, CallError::ServerRestarted));
    assert_eq!(error.execution(), Execution::Unknown);
    let others = replies.accepted().count();
    println!("  the others:                        {others} calibrated, each once");
    assert_eq!(others as u64, SENSORS - 1);
    Ok(())
}

fn degrees(thousandths: i64) -> String {
    format!("{}.{:02} °C", thousandths / 1000, thousandths % 1000 / 10)
}

const SENSORS: u64 = 5;
const BROKEN: u64 = 1;
const KILLED: u64 = 3;
