//! Certificates, made by openssl: an authority, and what it signs.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A certificate authority in a folder of its own.
pub(crate) struct Ca {
    folder: PathBuf,
}

/// A certificate and its key.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

fn openssl(folder: &Path, line: &str, more: &[&str]) {
    let output = Command::new("openssl")
        .args(line.split(' '))
        .args(more)
        .current_dir(folder)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {line}: {said}");
}

const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";

impl Ca {
    pub(crate) fn new(folder: PathBuf) -> Ca {
        fs::create_dir_all(&folder).unwrap();
        let line = format!(
            "req -x509 {KEY} -keyout ca.key -out ca.pem -days 1 -subj /CN=test-ca -addext keyUsage=keyCertSign,cRLSign"
        );
        openssl(&folder, &line, &[]);
        Ca { folder }
    }

    /// The authority's own certificate.
    pub(crate) fn cert(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// Signs a certificate with this common name and these alternative names (`DNS:a,URI:b`).
    pub(crate) fn sign(&self, common_name: &str, alternative: &str) -> Pair {
        let at = |end: &str| format!("{common_name}.{end}");
        let line = format!("req {KEY} -keyout {} -out {}", at("key"), at("csr"));
        openssl(
            &self.folder,
            &line,
            &["-subj", &format!("/O=site/CN={common_name}")],
        );
        let extensions = match alternative {
            "" => "basicConstraints=CA:FALSE".to_owned(),
            names => format!("subjectAltName={names}"),
        };
        fs::write(self.folder.join(at("ext")), extensions).unwrap();
        let line = format!(
            "x509 -req -in {} -CA ca.pem -CAkey ca.key -CAcreateserial -out {} -days 1 -extfile {}",
            at("csr"),
            at("pem"),
            at("ext")
        );
        openssl(&self.folder, &line, &[]);
        Pair {
            cert: self.folder.join(at("pem")),
            key: self.folder.join(at("key")),
        }
    }
}

/// Encrypts a key.
pub(crate) fn encrypt(key: &Path, to: &Path) {
    let paths = [key.to_str().unwrap(), "-out", to.to_str().unwrap()];
    let folder = to.parent().unwrap();
    openssl(folder, "pkcs8 -topk8 -passout pass:secret -in", &paths);
}
