//! Makes the files of the call page, so that a browser needs few round trips: the modules of the page
//! in one file, those of the client in another, and the hash of each file in its name. A browser may
//! keep such a file for ever, and a new page names other files.

use std::{collections::BTreeMap, error::Error, fs, path::Path};

use sha2::{Digest as _, Sha256};

use super::single_file;

/// The module that starts the page.
const ENTRY: &str = "call";

/// The modules of the client that the page imports, and the file that has them.
const CLIENT_MODULES: [&str; 5] =
    ["client/room", "client/early-connection", "client/token-source", "client/moderation", "client/relay"];
const CLIENT_FILE: &str = "client.js";

const DOCUMENT: &str = "index.html";

type Files = BTreeMap<String, String>;

/// The files to serve by their names. `modules` are those of the page and of the client.
pub(crate) fn make_files(folder: &Path, client: &Files) -> Result<Files, Box<dyn Error>> {
    let mut sources = Files::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        sources.insert(entry.file_name().to_string_lossy().into_owned(), fs::read_to_string(entry.path())?);
    }
    let document = sources.remove(DOCUMENT).ok_or("web/call has no index.html")?;

    let client = client.iter().map(|(name, text)| {
        let text = text.replace("from './", "from './client/");
        (format!("client/{name}"), text)
    });
    let (client, _) = single_file::join_for_page(&client.collect(), &CLIENT_MODULES, None)?;
    let client_name = hashed_name(CLIENT_FILE, &client);

    let page: Files = sources
        .iter()
        .filter_map(|(name, text)| Some((name.strip_suffix(".js")?.to_owned(), text.clone())))
        .collect();
    let elsewhere = Some((CLIENT_MODULES.as_slice(), client_name.as_str()));
    let (script, joined) = single_file::join_for_page(&page, &[ENTRY], elsewhere)?;
    sources.retain(|name, _| name.strip_suffix(".js").is_none_or(|module| !joined.contains(module)));
    sources.insert(CLIENT_FILE.to_owned(), client);
    sources.insert(format!("{ENTRY}.js"), script);

    let mut document = document;
    let mut files = Files::new();
    for (name, text) in sources {
        let hashed = hashed_name(&name, &text);
        let quoted = format!("\"{name}\"");
        // What the document does not name would cost a round trip more, or is not used.
        if !document.contains(&quoted) {
            return Err(format!("index.html must name {name}").into());
        }
        document = document.replace(&quoted, &format!("\"{hashed}\""));
        files.insert(hashed, text);
    }
    files.insert(DOCUMENT.to_owned(), document);
    Ok(files)
}

/// `call.js` → `call-0123456789abcdef.js`.
fn hashed_name(name: &str, text: &str) -> String {
    let hash: String = Sha256::digest(text).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    match name.rsplit_once('.') {
        Some((stem, suffix)) => format!("{stem}-{hash}.{suffix}"),
        None => format!("{name}-{hash}"),
    }
}
