//! An OCI image layout on disk, and the small registry that serves it.
//!
//! The folder is one OCI image layout (image-spec, `image-layout.md`): `blobs/<algorithm>/<hex>` and an `index.json` whose entries are
//! named `repository:tag`, and `repository@digest` for what has no tag. So any tool reads an image of it as
//! `oci:FOLDER:repository:tag`, the folder can be packed with `tar` and unpacked on a disk without hard links, content that many
//! repositories share lies there once, and no name from outside ever becomes the name of a file.
//!
//! **Invariant:** what `index.json` names has been written, checked against its digest and flushed to the disk before it is named.

mod folder;

mod index;

mod registry;

pub use folder::{Error, Layout, Staged};

pub use index::{Entry, Key};

pub use registry::{Options, serve};
