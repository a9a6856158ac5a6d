//! Layers as streams of files: compressed in whatever way, bounded, with the names that the image specification gives them.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::{
    BlockDecodingStrategy, FrameDecoder,
    errors::{FrameDecoderError, ReadFrameHeaderError},
};
use tar::{Archive, Entry, EntryType, PaxExtensions};

/// Long names are told in entries of their own; no real one comes near this.
const MAX_EXTENSION: u64 = 1 << 20;

/// Why a layer cannot be read through.
#[derive(Debug)]
pub(super) enum ArchiveError {
    /// It has more of something than a layer may have.
    TooLarge(String),
    /// It is not an archive, or cannot be read.
    Read(io::Error),
}

impl From<io::Error> for ArchiveError {
    fn from(error: io::Error) -> Self {
        ArchiveError::Read(error)
    }
}

/// Uncompresses a layer (gzip, zstd or not at all) of at most `limit` bytes, lets `look` read it, and then reads to the end: so
/// that a reader that hashes on the way has seen all bytes.
pub(super) fn plain<T, E: From<ArchiveError>>(
    layer: impl Read,
    limit: u64,
    look: impl FnOnce(&mut dyn Read) -> Result<T, E>,
) -> Result<T, E> {
    let mut compressed = BufReader::with_capacity(64 << 10, layer);
    let start = compressed.fill_buf().map_err(ArchiveError::Read)?;
    let looked = if start.starts_with(&[0x1f, 0x8b]) {
        bounded(MultiGzDecoder::new(&mut compressed), limit, look)
    } else if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        bounded(Frames::new(&mut compressed), limit, look)
    } else {
        bounded(&mut compressed, limit, look)
    }?;
    io::copy(&mut compressed, &mut io::sink()).map_err(ArchiveError::Read)?;
    Ok(looked)
}

fn bounded<T, E: From<ArchiveError>>(
    plain: impl Read,
    limit: u64,
    look: impl FnOnce(&mut dyn Read) -> Result<T, E>,
) -> Result<T, E> {
    let mut plain = Bounded {
        inner: plain,
        left: limit,
        exhausted: false,
    };
    let looked = look(&mut plain).and_then(|looked| {
        io::copy(&mut plain, &mut io::sink()).map_err(ArchiveError::Read)?;
        Ok(looked)
    });
    match plain.exhausted {
        true => Err(ArchiveError::TooLarge(format!("{limit} bytes")).into()),
        false => looked,
    }
}

/// The files of an archive, in its order: path without leading slash, kind, content. What has no sensible path is passed by.
pub(super) fn walk<R: Read, E: From<ArchiveError>>(
    plain: R,
    most: usize,
    visit: &mut impl FnMut(String, EntryType, &mut Entry<'_, R>) -> Result<(), E>,
) -> Result<(), E> {
    let mut archive = Archive::new(plain);
    // Raw entries, since the crate's own handling of long names holds them whole, however long they say they are.
    let mut next_path = None;
    let entries = archive.entries().map_err(ArchiveError::Read)?.raw(true);
    for (count, entry) in entries.enumerate() {
        if count >= most {
            return Err(ArchiveError::TooLarge(format!("{most} entries")).into());
        }
        let mut entry = entry.map_err(ArchiveError::Read)?;
        match entry.header().entry_type() {
            EntryType::XGlobalHeader | EntryType::GNULongLink => {}
            EntryType::GNULongName => next_path = Some(long_name(&mut entry)?),
            EntryType::XHeader => {
                if let Some(path) = pax_path(&mut entry)? {
                    next_path = Some(path);
                }
            }
            kind => {
                let path = match next_path.take() {
                    Some(path) => path,
                    None => entry.path_bytes().into_owned(),
                };
                // Old archives tell a directory by its name only.
                let kind = match kind {
                    EntryType::Regular if path.ends_with(b"/") => EntryType::Directory,
                    kind => kind,
                };
                let extended = entry.header().as_gnu().is_some_and(|h| h.is_extended());
                if kind.is_gnu_sparse() && extended {
                    let unsupported = "it has a sparse file, which layers have no use for";
                    return Err(ArchiveError::Read(io::Error::other(unsupported)).into());
                }
                if let Some(path) = normal(&path) {
                    visit(path, kind, &mut entry)?;
                }
            }
        }
    }
    Ok(())
}

/// Returns what a whiteout takes away: a path, a directory's content (the directory is named then), or for the root nothing.
///
/// Source: OCI image specification, "Whiteouts".
pub(super) fn whiteout(path: &str) -> Option<String> {
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    let hidden = name.strip_prefix(".wh.")?;
    Some(match (hidden, parent) {
        (".wh..opq", parent) => parent.to_owned(),
        (hidden, "") => hidden.to_owned(),
        (hidden, parent) => format!("{parent}/{hidden}"),
    })
}

/// Returns a path without leading `./` or `/`; nothing for one that climbs or is no text, which no wanted path does.
pub(super) fn normal(path: &[u8]) -> Option<String> {
    let path = std::str::from_utf8(path).ok()?;
    let parts: Vec<&str> = path
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    let climbs = parts.contains(&"..");
    (!climbs && !parts.is_empty()).then(|| parts.join("/"))
}

fn long_name<R: Read>(entry: &mut Entry<'_, R>) -> Result<Vec<u8>, ArchiveError> {
    let mut name = extension(entry)?;
    while name.last() == Some(&0) {
        name.pop();
    }
    Ok(name)
}

fn pax_path<R: Read>(entry: &mut Entry<'_, R>) -> Result<Option<Vec<u8>>, ArchiveError> {
    let records = extension(entry)?;
    let mut path = None;
    for record in PaxExtensions::new(&records) {
        let record = record?;
        match record.key_bytes() {
            b"path" => path = Some(record.value_bytes().to_vec()),
            // It says that the next entry has another size than its header says. Only files beyond 8 GiB need it.
            b"size" => return Err(ArchiveError::TooLarge("8 GiB in a file".to_owned())),
            _ => {}
        }
    }
    Ok(path)
}

fn extension<R: Read>(entry: &mut Entry<'_, R>) -> Result<Vec<u8>, ArchiveError> {
    if entry.size() > MAX_EXTENSION {
        return Err(ArchiveError::TooLarge(format!(
            "{MAX_EXTENSION} bytes in a name"
        )));
    }
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Ends after so many bytes, and tells whether there would have been more.
struct Bounded<R> {
    inner: R,
    left: u64,
    exhausted: bool,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            self.exhausted = !buffer.is_empty() && self.inner.read(&mut [0])? > 0;
            return Ok(0);
        }
        let most = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let read = self.inner.read(&mut buffer[..most])?;
        self.left -= read as u64;
        Ok(read)
    }
}

/// The frames of a zstd stream, one after another; what is to be skipped is.
struct Frames<R> {
    source: R,
    decoder: FrameDecoder,
    open: bool,
}

impl<R: BufRead> Frames<R> {
    fn new(source: R) -> Self {
        Frames {
            source,
            decoder: FrameDecoder::new(),
            open: false,
        }
    }

    /// Begins the next frame; whether there is one.
    fn begin(&mut self) -> io::Result<bool> {
        while !self.source.fill_buf()?.is_empty() {
            match self.decoder.init(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let mut skipped = (&mut self.source).take(length.into());
                    io::copy(&mut skipped, &mut io::sink())?;
                }
                Err(error) => return Err(io::Error::other(format!("zstd: {error}"))),
            }
        }
        Ok(false)
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.open {
                self.open = self.begin()?;
            }
            if !self.open || buffer.is_empty() {
                return Ok(0);
            }
            while self.decoder.can_collect() < buffer.len() && !self.decoder.is_finished() {
                let most = BlockDecodingStrategy::UptoBytes(buffer.len());
                let decoded = self.decoder.decode_blocks(&mut self.source, most);
                decoded.map_err(|error| io::Error::other(format!("zstd: {error}")))?;
            }
            let read = self.decoder.read(buffer)?;
            if read > 0 {
                return Ok(read);
            }
            self.open = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(layer: &[u8]) -> Result<Vec<u8>, ArchiveError> {
        plain(layer, 1 << 20, |plain| {
            let mut bytes = Vec::new();
            plain.read_to_end(&mut bytes)?;
            Ok::<_, ArchiveError>(bytes)
        })
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
    }

    #[test]
    fn frames_of_zstd_are_read_one_after_another() {
        let long = b"catalog ".repeat(20_000);
        let mut layer = zstd(&long);
        // What zstd:chunked puts at the end: a frame that readers skip.
        layer.extend([0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]);
        layer.extend(zstd(b"more"));
        assert_eq!(read(&layer).unwrap(), [long.as_slice(), b"more"].concat());
        for torn in [
            &layer[..layer.len() - 2],
            &layer[..10],
            &[0x28, 0xb5, 0x2f, 0xfd, 0, 0],
        ] {
            assert!(matches!(read(torn), Err(ArchiveError::Read(_))));
        }
        let bomb = zstd(&vec![0; 2 << 20]);
        assert!(matches!(read(&bomb), Err(ArchiveError::TooLarge(_))));
    }
}
