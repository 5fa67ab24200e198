//! The configuration files of a folder.

use std::{
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
};

/// Ends of the names of configuration files.
const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];

/// Returns the configuration files in a folder, in the order of their names. Hidden files are left out, and so are the
/// folders in it. In a volume of a Kubernetes ConfigMap, each file is a link into the hidden folder `..data`.
///
/// # Errors
/// Returns an error if the folder is unreadable or has no configuration file.
pub(super) fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        // A link that leads nowhere is a file that is unreadable.
        if is_configuration(&path) && !is_special(&path) {
            files.push(path);
        }
    }
    if files.is_empty() {
        let message = "expected a file that ends in .yaml, .yml or .json in the folder, got none";
        return Err(io::Error::new(io::ErrorKind::NotFound, message));
    }
    files.sort_unstable();
    Ok(files)
}

/// Returns `true` for a folder, a pipe or a device.
fn is_special(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| !file.is_file())
}

fn is_configuration(path: &Path) -> bool {
    let is_hidden = |name: &OsStr| name.as_encoded_bytes().starts_with(b".");
    let ending = path.extension().and_then(OsStr::to_str);
    !path.file_name().is_some_and(is_hidden)
        && ending.is_some_and(|ending| ENDINGS.contains(&ending))
}
