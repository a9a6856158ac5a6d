//! An Ansible with the collection in it, installed from the tarball that is built of this checkout.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::LazyLock,
};

use super::support::tool;

/// The tarball, built once for all tests.
static TARBALL: LazyLock<(tempfile::TempDir, PathBuf)> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let built = ansible("newest")
        .args(["ansible-galaxy", "collection", "build", "--output-path"])
        .arg(folder.path())
        .current_dir(source())
        .output()
        .unwrap();
    check("building the collection", &built);
    let file = std::fs::read_dir(folder.path()).unwrap().next().unwrap();
    let file = file.unwrap().path();
    (folder, file)
});

/// The collection in this checkout.
pub(crate) fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("ansible/ansible_collections/imagesetd/mirror")
}

/// A folder with the collection, and the Ansible that uses it.
pub(crate) struct Workshop {
    core: &'static str,
    folder: tempfile::TempDir,
}

impl Workshop {
    /// Installs the tarball offline, beside nothing else. `core` is the environment's name, such as `oldest` or `newest`.
    pub(crate) fn new(core: &'static str) -> Workshop {
        let folder = tempfile::tempdir().unwrap();
        let installed = ansible(core)
            .args(["ansible-galaxy", "collection", "install", "--offline", "-p"])
            .arg(folder.path())
            .arg(&TARBALL.1)
            .current_dir(folder.path())
            .output()
            .unwrap();
        check("installing the collection", &installed);
        std::fs::create_dir(folder.path().join("home")).unwrap();
        Workshop { core, folder }
    }

    /// Where the collection was installed.
    pub(crate) fn collection(&self) -> PathBuf {
        let installed = "ansible_collections/imagesetd/mirror";
        self.folder.path().join(installed)
    }

    /// A place of the workshop's own.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Prepares a command of Ansible's, in the workshop's folder.
    pub(crate) fn command(&self) -> Command {
        let mut command = ansible(self.core);
        // What runs side by side must not share what Ansible keeps at home.
        command
            .env("HOME", self.path("home"))
            .env("ANSIBLE_COLLECTIONS_PATH", self.folder.path())
            .env("ANSIBLE_LOCAL_TEMP", self.path("tmp"))
            .env("ANSIBLE_REMOTE_TEMP", self.path("tmp"))
            .env("ANSIBLE_LOCALHOST_WARNING", "false")
            .env("ANSIBLE_PIPELINING", "true")
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .current_dir(self.folder.path());
        command
    }
}

/// Says whether there is this Ansible; those of `kubernetes` and `rulebook` cannot be installed everywhere.
pub(crate) fn has(core: &str) -> bool {
    tool::installed_if_at_all(&format!("with-ansible-{core}")).is_some()
}

/// Prepares a command with this Ansible first in its PATH, and nothing of the caller's environment but what it cannot do without.
///
/// It leads a group of processes, which ends with it or after twenty minutes; where it is killed before, that is to be done by the group.
fn ansible(core: &str) -> Command {
    let with = tool::find_installed(&format!("with-ansible-{core}"));
    let mut command = Command::new("timeout");
    command.args(["--kill-after=10", "1200"]).arg(with);
    command.env_clear().env("LC_ALL", "C.UTF-8");
    for name in ["PATH", "HOME", "XDG_CACHE_HOME", "TMPDIR", "JAVA_HOME"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

/// Panics with all that was said where a command failed.
pub(crate) fn check(what: &str, output: &Output) {
    assert!(
        output.status.success(),
        "{what} failed:\n{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
