//! What the proto files define: messages, the client, the server's trait, and their descriptors.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    reason = "generated; the proto files are where it is described and checked"
)]

tonic::include_proto!("imageset.v1");

/// The encoded `FileDescriptorSet` of the service and all that it imports, comments included.
pub const DESCRIPTORS: &[u8] = tonic::include_file_descriptor_set!("imageset_descriptor");
