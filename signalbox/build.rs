//! Makes the files that the binary serves: the pages, and under `/client/` the modules of
//! `clients/js/src`, all modules in one file, the types of that file, and the npm package. Beside
//! each text stands its compressed form.
//!
//! Owns: the folders `pages` and `client` in `OUT_DIR`, which `src/pages.rs` embeds. It needs no
//! Node.js. The same sources give the same bytes. Next: `build/page.rs`, `build/single_file.rs` and
//! `build/npm_package.rs`.

#[path = "build/npm_package.rs"]
mod npm_package;
#[path = "build/page.rs"]
mod page;
#[path = "build/single_file.rs"]
mod single_file;

use std::{
    collections::BTreeMap,
    env,
    error::Error,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};

/// The module that exports all that the client offers.
const ENTRY: &str = "all";

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let (package, web) = (root.join("clients/js"), root.join("web"));
    for name in npm_package::CONTENTS {
        writeln!(io::stdout(), "cargo:rerun-if-changed={}", package.join(name).display())?;
    }
    writeln!(io::stdout(), "cargo:rerun-if-changed={}", web.display())?;

    let modules = read_modules(&package.join("src"), ".js")?;
    let types = read_modules(&package.join("types"), ".d.ts")?;
    let pages = empty_folder("pages")?;
    for page in &page::PAGES {
        for (name, text) in page::make_files(&web, page, &modules)? {
            write_text(&pages.join(name), &text)?;
        }
    }
    let client = empty_folder("client")?;
    for (name, text) in &modules {
        write_text(&client.join(format!("{name}.js")), text)?;
    }
    write_text(&client.join("signalbox.js"), &single_file::join_modules(&modules, ENTRY)?)?;
    write_text(&client.join("signalbox.d.ts"), &single_file::join_types(&types, ENTRY)?)?;
    fs::write(client.join("signalbox-client.tgz"), npm_package::pack(&package)?)?;
    Ok(())
}

/// A folder in `OUT_DIR`. A file that was removed must not stay in the binary.
fn empty_folder(name: &str) -> Result<PathBuf, Box<dyn Error>> {
    let folder = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?).join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// Writes a file, and beside it its compressed form.
fn write_text(path: &Path, text: &str) -> io::Result<()> {
    fs::write(path, text)?;
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text.as_bytes())?;
    fs::write(format!("{}.gz", path.display()), encoder.finish()?)
}

/// The files of a folder by their name without the suffix.
fn read_modules(folder: &Path, suffix: &str) -> Result<BTreeMap<String, String>, Box<dyn Error>> {
    let mut modules = BTreeMap::new();
    for entry in fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))? {
        let entry = entry?;
        let file_name = entry.file_name().to_string_lossy().into_owned();
        let Some(name) = file_name.strip_suffix(suffix) else { continue };
        modules.insert(name.to_owned(), fs::read_to_string(entry.path())?);
    }
    Ok(modules)
}
