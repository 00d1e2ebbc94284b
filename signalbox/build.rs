//! Makes the files that the binary serves under `/client/`: the modules of `clients/js/src`, all
//! modules in one file, the types of that file, and the npm package.
//!
//! Owns: the folder `client` in `OUT_DIR`, which `src/pages.rs` embeds. It needs no Node.js. The
//! same sources give the same bytes. Next: `build/single_file.rs` and `build/npm_package.rs`.

#[path = "build/npm_package.rs"]
mod npm_package;
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

/// The module that exports all that the client offers.
const ENTRY: &str = "all";

fn main() -> Result<(), Box<dyn Error>> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("../clients/js");
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?).join("client");
    // A module that was removed must not stay in the binary.
    if out_dir.exists() {
        fs::remove_dir_all(&out_dir)?;
    }
    fs::create_dir_all(&out_dir)?;

    for name in npm_package::CONTENTS {
        writeln!(io::stdout(), "cargo:rerun-if-changed={}", package.join(name).display())?;
    }
    let modules = read_modules(&package.join("src"), ".js")?;
    let types = read_modules(&package.join("types"), ".d.ts")?;
    for (name, text) in &modules {
        fs::write(out_dir.join(format!("{name}.js")), text)?;
    }
    fs::write(out_dir.join("signalbox.js"), single_file::join_modules(&modules, ENTRY)?)?;
    fs::write(out_dir.join("signalbox.d.ts"), single_file::join_types(&types, ENTRY)?)?;
    fs::write(out_dir.join("signalbox-client.tgz"), npm_package::pack(&package)?)?;
    Ok(())
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
