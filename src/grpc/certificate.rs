//! The names in a client's certificate.

use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

/// Returns the common names of the subject, then the DNS names and URIs of the alternative names.
///
/// Only names of a certificate that has been verified say anything.
///
/// # Errors
///
/// What is no certificate.
pub fn names(certificate: &CertificateDer<'_>) -> Result<Vec<String>, webpki::Error> {
    let certificate = EndEntityCert::try_from(certificate)?;
    let alternative = certificate
        .valid_dns_names()
        .chain(certificate.valid_uri_names())
        .map(str::to_owned);
    let mut names = common_names(certificate.subject());
    names.extend(alternative);
    Ok(names)
}

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_IDENTIFIER: u8 = 0x06;

/// UTF8String, PrintableString, IA5String.
const TEXTS: [u8; 3] = [0x0c, 0x13, 0x16];

/// 2.5.4.3 (X.520), as DER has it.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// Reads the common names of a subject: relative names, each a set of pairs of type and value (RFC 5280, section 4.1.2.4).
fn common_names(subject: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    for set in Elements(subject).filter(|e| e.tag == SET) {
        for pair in Elements(set.content).filter(|e| e.tag == SEQUENCE) {
            let mut parts = Elements(pair.content);
            let (Some(kind), Some(value)) = (parts.next(), parts.next()) else {
                continue;
            };
            let is_name = kind.tag == OBJECT_IDENTIFIER && kind.content == COMMON_NAME;
            if is_name && TEXTS.contains(&value.tag) {
                names.extend(std::str::from_utf8(value.content).map(str::to_owned));
            }
        }
    }
    names
}

/// The DER elements of some bytes, as far as they are whole.
struct Elements<'a>(&'a [u8]);

struct Element<'a> {
    tag: u8,
    content: &'a [u8],
}

impl<'a> Iterator for Elements<'a> {
    type Item = Element<'a>;

    fn next(&mut self) -> Option<Element<'a>> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81 => (usize::from(*rest.first()?), rest.get(1..)?),
            0x82 => {
                let (bytes, rest) = rest.split_first_chunk::<2>()?;
                (usize::from(u16::from_be_bytes(*bytes)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(Element { tag, content })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = vec![tag];
        match content.len() {
            length @ 0..=0x7f => bytes.push(length as u8),
            length @ 0x80..=0xff => bytes.extend([0x81, length as u8]),
            length => bytes.extend([0x82, (length >> 8) as u8, length as u8]),
        }
        bytes.extend(content);
        bytes
    }

    fn relative(kind: &[u8], tag: u8, value: &[u8]) -> Vec<u8> {
        let pair = [element(OBJECT_IDENTIFIER, kind), element(tag, value)].concat();
        element(SET, &element(SEQUENCE, &pair))
    }

    #[test]
    fn common_names_are_read_in_all_their_forms() {
        let organisation = relative(&[0x55, 0x04, 0x0a], 0x0c, b"site");
        for length in [1, 127, 128, 255, 256, 300] {
            let name = "n".repeat(length);
            for tag in TEXTS {
                let subject = [
                    organisation.clone(),
                    relative(COMMON_NAME, tag, name.as_bytes()),
                ]
                .concat();
                assert_eq!(common_names(&subject), [name.as_str()]);
            }
        }
        assert_eq!(common_names(&organisation), [""; 0]);
        let other_text = relative(COMMON_NAME, 0x1e, b"\0a");
        assert_eq!(common_names(&other_text), [""; 0]);
        assert_eq!(common_names(&relative(COMMON_NAME, 0x0c, b"\xff")), [""; 0]);
    }

    #[test]
    fn what_is_cut_off_is_never_a_panic_and_never_another_name() {
        let subject = relative(COMMON_NAME, 0x0c, b"ansible");
        for length in 0..subject.len() {
            assert_eq!(common_names(&subject[..length]), [""; 0], "{length}");
        }
    }
}
