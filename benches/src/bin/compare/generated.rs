//! What other programs made once from interface files; kept, so that nobody needs them to build this.

/// From `calc.proto`, by `tonic-prost-build`.
#[allow(
    clippy::all,
    clippy::unimplemented,
    missing_docs,
    unreachable_pub,
    unused,
    reason = "generated"
)]
pub(crate) mod calc_proto {
    include!("gen/calc.rs");
}

/// From `interface Calc { add @0 (a :UInt64, b :UInt64) -> (sum :UInt64); echo @1 (v :Data) -> (v :Data); }`, by `capnpc`.
#[allow(
    clippy::all,
    clippy::unimplemented,
    missing_docs,
    unreachable_pub,
    unused,
    reason = "generated"
)]
pub(crate) mod calc_capnp {
    include!("gen/calc_capnp.rs");
}

/// From `calc.thrift`, by `volo-build`, without the impl for servers of several services, which is `unsafe`.
#[allow(
    clippy::all,
    clippy::unimplemented,
    missing_docs,
    unreachable_pub,
    unused,
    reason = "generated"
)]
pub(crate) mod calc_thrift {
    include!("gen/calc_thrift.rs");
}
