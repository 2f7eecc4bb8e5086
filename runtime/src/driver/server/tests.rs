//! The loop that accepts, against a listener that fails.

use std::collections::VecDeque;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;
use crate::transport::{Accepting, Stream};
use crate::wire::frame::{Frame, Hello, decode, first_frame, put_hello};

/// Gives what is left in it, one after another, and then nothing for ever.
struct Scripted(VecDeque<io::Result<DuplexStream>>);

impl Listener for Scripted {
    fn address(&self) -> Address {
        Address::Memory("scripted".into())
    }

    fn accept(&mut self) -> Accepting<'_> {
        Box::pin(async move {
            match self.0.pop_front() {
                Some(accepted) => Ok((Stream::Other(Box::new(accepted?)), "peer#1".into())),
                None => std::future::pending().await,
            }
        })
    }
}

fn server() -> Arc<Server> {
    let registry = Registry::new(8, false);
    Server::new(
        NodeId(uuid::Uuid::from_u128(1)),
        Arc::default(),
        registry,
        #[cfg(feature = "sqlite")]
        None,
        Arc::new(Entropy::seeded(1)),
    )
}

/// Whoever connects once there are descriptors again is served.
#[tokio::test(start_paused = true)]
async fn connections_that_could_not_be_accepted_end_no_listener() {
    let (mut client, accepted) = duplex(4096);
    let too_many = || Err(io::Error::other("no descriptors"));
    let reset = Err(io::ErrorKind::ConnectionAborted.into());
    let listener = Scripted([too_many(), reset, Ok(accepted)].into());
    let server = server();
    let accepting = tokio::spawn(accept(Arc::downgrade(&server), Box::new(listener)));

    let client_id = NodeId(uuid::Uuid::from_u128(2));
    let hello = Hello { client: client_id, nonce: 3, link: 1, max_message: 1000, resume: None };
    let mut bytes = Vec::new();
    put_hello(&hello, &mut bytes);
    client.write_all(&bytes).await.expect("it is open");

    let mut received = Vec::new();
    while first_frame(&received).is_none() {
        assert!(client.read_buf(&mut received).await.expect("it is open") > 0, "it is closed");
    }
    let (frame, _) = first_frame(&received).expect("it is whole");
    let Ok(Frame::Welcome(welcome)) = decode(frame) else { panic!("not welcome: {frame:?}") };
    assert_eq!(welcome.nonce, 3);
    assert!(!accepting.is_finished());
    server.close();
    accepting.await.expect("it ends with its server");
}
