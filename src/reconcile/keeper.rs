//! Joins resolving with the store: layers that had to be read stay at hand for the run.

use std::{fs::File, sync::Arc};

use crate::{
    model::{image::Digest, manifest::Manifest},
    resolve::{KeepOne, Keeper},
    store::{KeptWriter, Store},
};

/// Keeps in the store what resolving reads.
pub(super) struct StoreKeeper(pub(super) Store);

impl Keeper for StoreKeeper {
    fn begin(&self, digest: &Digest) -> Option<Box<dyn KeepOne>> {
        match self.0.kept().writer(digest) {
            Ok(writer) => Some(Box::new(Writing(writer))),
            Err(error) => {
                tracing::warn!(%error, "a layer is not kept and will be downloaded again");
                None
            }
        }
    }

    fn open(&self, digest: &Digest) -> Option<File> {
        File::open(self.0.kept().file(digest)?).ok()
    }

    fn manifest(&self, digest: &Digest) -> Option<Arc<Manifest>> {
        self.0.manifest(digest).ok().flatten().map(Arc::new)
    }
}

struct Writing(KeptWriter);

impl KeepOne for Writing {
    fn write(&mut self, bytes: &[u8]) -> bool {
        let written = self.0.write(bytes);
        if let Err(error) = &written {
            tracing::warn!(%error, "a layer is not kept and will be downloaded again");
        }
        written.is_ok()
    }

    fn finish(self: Box<Self>) {
        if let Err(error) = self.0.finish() {
            tracing::warn!(%error, "a layer is not kept and will be downloaded again");
        }
    }
}
