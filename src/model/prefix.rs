//! How prefixes match references: one rule for the agent and for nodes.

/// Returns how many bytes of a reference or name `prefix` matches, if it matches, by the rule of containers/image
/// (`refMatchingPrefix`): `*.host` is any host below it, and `example.com` is a prefix of `example.com:5000` too.
pub fn matched(prefix: &str, reference: &str) -> Option<usize> {
    let end = match prefix.strip_prefix('*') {
        Some(domain) => {
            let at = reference.find(domain)?;
            if reference[..at].contains('/') {
                return None;
            }
            at + domain.len()
        }
        None if reference.starts_with(prefix) => prefix.len(),
        None => return None,
    };
    match reference.as_bytes().get(end) {
        None | Some(b':' | b'/' | b'@') => Some(end),
        Some(_) => None,
    }
}
