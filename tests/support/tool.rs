//! Finds the programs that tests call.

use std::{
    env,
    path::{Path, PathBuf},
};

/// Returns where the program `name` is: the folder that `make deps` fills, else the search path.
///
/// Panics with what to do where it is in neither: a test that needs a program never passes without it.
pub fn find(name: &str) -> PathBuf {
    let folders = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&folders).collect::<Vec<_>>();
    look(name, &[vec![installed()], folders].concat())
}

/// Returns where the program `name` of `make deps` is, whatever else has that name on this machine.
pub fn find_installed(name: &str) -> PathBuf {
    look(name, &[installed()])
}

/// Returns where the program `name` of `make deps` is; none where that could not be installed on this machine.
pub fn installed_if_at_all(name: &str) -> Option<PathBuf> {
    look_for(name, &[installed()])
}

fn look(name: &str, folders: &[PathBuf]) -> PathBuf {
    look_for(name, folders).unwrap_or_else(|| {
        panic!("this test needs the program `{name}`, which is not installed; run `make deps`")
    })
}

fn look_for(name: &str, folders: &[PathBuf]) -> Option<PathBuf> {
    let places = folders.iter().map(|folder| folder.join(name));
    places.into_iter().find(|path| path.is_file())
}

/// The folder that `make deps` fills.
fn installed() -> PathBuf {
    let cache = match env::var_os("XDG_CACHE_HOME") {
        Some(cache) if Path::new(&cache).is_absolute() => PathBuf::from(cache),
        _ => PathBuf::from(env::var_os("HOME").expect("HOME is set")).join(".cache"),
    };
    cache.join("imagesetd-tests/bin")
}
