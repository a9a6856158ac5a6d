//! GnuPG as the one who signs, and gpgv as the independent witness, in a folder of their own.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::tool;

/// Keys and what is done with them; ends with its agent.
pub struct Gpg {
    home: tempfile::TempDir,
}

impl Gpg {
    pub fn new() -> Self {
        let mut builder = tempfile::Builder::new();
        let private = fs::Permissions::from_mode(0o700);
        let home = builder
            .prefix("gpg")
            .permissions(private)
            .tempdir()
            .unwrap();
        Gpg { home }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(tool::find(program));
        command
            .env("GNUPGHOME", self.home.path())
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs gpg with this on stdin, and returns its stdout.
    pub fn run(&self, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        let mut command = self.command("gpg");
        command
            .args(["--batch", "--quiet", "--no-tty", "--yes"])
            .args(["--pinentry-mode", "loopback", "--passphrase", ""])
            .args(["--trust-model", "always"])
            .args(arguments);
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "gpg {arguments:?}: {said}");
        output.stdout
    }

    /// Makes a key and returns its fingerprint; `more` comes before the verb, such as a time that is not now.
    pub fn key(
        &self,
        name: &str,
        algorithm: &str,
        usage: &str,
        expires: &str,
        more: &[&str],
    ) -> String {
        let verb = ["--quick-generate-key", name, algorithm, usage, expires];
        self.run(&[more, &verb].concat(), b"");
        self.fingerprints(name).remove(0)
    }

    /// Returns the fingerprints of a key and its subkeys.
    pub fn fingerprints(&self, name: &str) -> Vec<String> {
        let listed = self.run(&["--with-colons", "--list-keys", &format!("={name}")], b"");
        let listed = String::from_utf8(listed).unwrap();
        let lines = listed.lines().filter(|line| line.starts_with("fpr:"));
        lines
            .map(|line| line.split(':').nth(9).unwrap().to_owned())
            .collect()
    }

    /// Makes a signed message as release signatures are: one-pass, compressed, binary.
    pub fn sign(&self, key: &str, text: &[u8]) -> Vec<u8> {
        self.sign_with(key, &[], text)
    }

    pub fn sign_with(&self, key: &str, more: &[&str], text: &[u8]) -> Vec<u8> {
        let signer = format!("{key}!");
        let arguments = [more, &["--local-user", &signer, "--output", "-"]].concat();
        let verb = match more
            .iter()
            .any(|m| ["--detach-sign", "--clearsign"].contains(m))
        {
            true => vec![],
            false => vec!["--sign"],
        };
        self.run(&[arguments, verb].concat(), text)
    }

    /// Exports public keys, not in armour.
    pub fn export(&self, keys: &[&str]) -> Vec<u8> {
        self.run(&[&["--export"], keys].concat(), b"")
    }

    /// Revokes a key by the certificate that was made with it.
    pub fn revoke(&self, fingerprint: &str) {
        let file = self
            .home
            .path()
            .join(format!("openpgp-revocs.d/{fingerprint}.rev"));
        let text = fs::read_to_string(file).unwrap();
        // A colon keeps it from being imported by mistake.
        let text = text.replace(":-----BEGIN", "-----BEGIN");
        self.run(&["--import"], text.as_bytes());
    }

    /// Returns what is behind a path of a file with these bytes in a folder that ends with this value.
    pub fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.home.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    /// Asks gpgv about a message; whether it ends well, and with nothing but a good signature.
    pub fn witness(&self, keyring: &Path, message: &[u8]) -> bool {
        let message = self.file("message", message);
        let mut command = self.command("gpgv");
        command.args(["--status-fd", "1", "--keyring"]).arg(keyring);
        let output = command.arg(message).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        output.status.success() && said.contains("[GNUPG:] GOODSIG ") && said.contains("VALIDSIG")
    }
}

impl Drop for Gpg {
    fn drop(&mut self) {
        // The agent would outlive the folder.
        let _ = self.command("gpgconf").args(["--kill", "all"]).output();
    }
}
