//! A server in a process of its own, to be killed: `work_server ADDRESS LOG`.
//!
//! Each execution is noted in the file LOG. Prints its URL when it listens, and serves until its standard input ends, so
//! that it never outlives the test that started it.

use std::path::Path;

use farcall_tests::recorder::Recorder;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, log] = &arguments[..] else { return Err("work_server ADDRESS LOG".into()) };
    let recorder = Recorder::open(Path::new(log))?;
    let server = farcall::serve(address.as_str(), "work", recorder).await?;
    println!("{}", server.url("work"));
    let ended =
        tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
    ended.await??;
    Ok(())
}
