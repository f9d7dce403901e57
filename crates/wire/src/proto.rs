//! The messages between peers, generated from `proto/trueque/v1`, and the descriptors that server reflection shows.

#![expect(clippy::allow_attributes, reason = "generated")]

tonic::include_proto!("trueque.v1");

/// The encoded `FileDescriptorSet` of everything in `proto/`.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
