//! The systems, one file each.

mod bare_tcp;
mod bare_udp;
mod batched_udp;
mod capnp;
pub(crate) mod farcall;
mod irpc;
mod jsonrpsee;
mod remoc;
mod std_tcp;
mod tarpc;
mod tonic;
mod volo;
mod zenoh;

use crate::system::Entry;

/// All of them, in the order of the tables. The first is what the others are compared with.
pub(crate) const ALL: &[Entry] = &[
    Entry::of::<bare_tcp::BareTcp>(),
    Entry::of::<std_tcp::StdTcp>(),
    Entry::of::<bare_udp::BareUdp>(),
    Entry::of::<batched_udp::BatchedUdp>(),
    Entry::of::<farcall::MaybeTcp>(),
    Entry::of::<farcall::AtLeastOnceTcp>(),
    Entry::of::<farcall::AtMostOnceTcp>(),
    Entry::of::<farcall::BusyTcp>(),
    Entry::of::<farcall::ExactlyOnceTcp>(),
    Entry::of::<farcall::MaybeUdp>(),
    Entry::of::<farcall::AtLeastOnceUdp>(),
    Entry::of::<farcall::AtMostOnceUdp>(),
    Entry::of::<tarpc::Tarpc>(),
    Entry::of::<tonic::Tonic>(),
    Entry::of::<capnp::Capnp>(),
    Entry::of::<remoc::Remoc>(),
    Entry::of::<volo::Volo>(),
    Entry::of::<jsonrpsee::Jsonrpsee>(),
    Entry::of::<irpc::Irpc>(),
    Entry::of::<zenoh::Zenoh>(),
];
