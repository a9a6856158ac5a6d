//! Armour: keys as text (RFC 4880, section 6.2).

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::KeyringError;

const BEGIN: &str = "-----BEGIN PGP ";
const PUBLIC: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";
const END: &str = "-----END PGP PUBLIC KEY BLOCK-----";

/// Whether a text may hold armour.
pub(super) fn is_armor(bytes: &[u8]) -> bool {
    bytes
        .windows(BEGIN.len())
        .any(|window| window == BEGIN.as_bytes())
}

/// Joins what all blocks of public keys in a text hold. What stands around them is passed over.
pub(super) fn blocks(bytes: &[u8]) -> Result<Vec<u8>, KeyringError> {
    let text = str::from_utf8(bytes).map_err(|_| KeyringError::Armor("it is not UTF-8 text"))?;
    let mut lines = text.lines().map(str::trim_end);
    let mut joined = Vec::new();
    while let Some(line) = lines.find(|line| line.starts_with(BEGIN)) {
        if line.contains("PRIVATE") {
            return Err(KeyringError::Secret);
        }
        if line != PUBLIC {
            return Err(KeyringError::Armor("a block of it holds no public keys"));
        }
        joined.extend(block(&mut lines)?);
    }
    Ok(joined)
}

/// Reads one block after its first line.
fn block<'a>(lines: &mut impl Iterator<Item = &'a str>) -> Result<Vec<u8>, KeyringError> {
    // Headers such as `Comment:` stand before the first empty line.
    let mut headers = true;
    let (mut data, mut checksum) = (String::new(), None);
    for line in lines {
        if line == END {
            let bytes = STANDARD
                .decode(&data)
                .map_err(|_| KeyringError::Armor("a block of it is damaged"))?;
            return match checksum {
                Some(sum) if sum != crc(&bytes) => Err(KeyringError::Armor(
                    "a block of it does not fit its checksum",
                )),
                _ => Ok(bytes),
            };
        }
        if headers {
            headers = !line.is_empty();
            // Some tools leave the empty line out where there are no headers.
            if !headers || line.contains(": ") {
                continue;
            }
            headers = false;
        }
        match line.strip_prefix('=') {
            Some(sum) => checksum = Some(checksum_of(sum)?),
            None => data.push_str(line),
        }
    }
    Err(KeyringError::Armor("a block of it has no end"))
}

fn checksum_of(text: &str) -> Result<u32, KeyringError> {
    let bytes = STANDARD.decode(text).ok();
    let bytes: Option<[u8; 3]> = bytes.and_then(|b| b.try_into().ok());
    let [a, b, c] = bytes.ok_or(KeyringError::Armor("the checksum of a block is damaged"))?;
    Ok(u32::from_be_bytes([0, a, b, c]))
}

/// CRC-24 (section 6.1).
fn crc(bytes: &[u8]) -> u32 {
    let mut sum = 0x00b7_04ce_u32;
    for byte in bytes {
        sum ^= u32::from(*byte) << 16;
        for _ in 0..8 {
            sum <<= 1;
            if sum & 0x0100_0000 != 0 {
                sum ^= 0x0186_4cfb;
            }
        }
    }
    sum & 0x00ff_ffff
}
