//! The npm package of the client, as `npm pack` makes it.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
};

use flate2::{Compression, write::GzEncoder};

/// The files and folders of `clients/js` that are in the package: `files` in package.json, and the
/// three files that npm always adds.
pub(crate) const CONTENTS: [&str; 6] = ["LICENSE", "README.md", "examples", "package.json", "src", "types"];

/// The time of all files in the package. It is the one that npm uses, so that the same files give
/// the same package.
const MODIFIED_AT: u64 = 499_162_500;

/// A gzipped tar archive with the folder `package`.
pub(crate) fn pack(folder: &Path) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::best()));
    for name in CONTENTS {
        append(&mut archive, folder, name)?;
    }
    let mut encoder = archive.into_inner()?;
    encoder.flush()?;
    encoder.finish()
}

fn append(archive: &mut tar::Builder<GzEncoder<Vec<u8>>>, folder: &Path, name: &str) -> io::Result<()> {
    let path = folder.join(name);
    if path.is_dir() {
        let mut entries: Vec<String> = fs::read_dir(&path)?
            .map(|entry| Ok(format!("{name}/{}", entry?.file_name().to_string_lossy())))
            .collect::<io::Result<_>>()?;
        entries.sort();
        return entries.iter().try_for_each(|entry| append(archive, folder, entry));
    }
    let contents = fs::read(&path)?;
    let mut header = tar::Header::new_ustar();
    header.set_size(contents.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(MODIFIED_AT);
    archive.append_data(&mut header, format!("package/{name}"), contents.as_slice())
}
