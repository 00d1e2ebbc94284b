//! Makes the files of a page, so that a browser needs few round trips: the modules of the page in one
//! file, those of the client in another, and the hash of each file in its name. A browser may keep
//! such a file for ever, and a new page names other files.

use std::{collections::BTreeMap, error::Error, fs, path::Path};

use sha2::{Digest as _, Sha256};

use super::single_file;

/// A page, whose sources are in `web/FOLDER`.
pub(crate) struct Page {
    pub(crate) folder: &'static str,
    /// The module that starts the page.
    entry: &'static str,
    /// The modules of the client that the page imports.
    client_modules: &'static [&'static str],
    /// The name under which the document is served.
    document: &'static str,
}

/// All pages. The files of all have one folder, so that the addresses in each document are relative to
/// the place of Signalbox below a path prefix.
pub(crate) const PAGES: [Page; 2] = [
    Page {
        folder: "call",
        entry: "call",
        client_modules: &[
            "client/room",
            "client/early-connection",
            "client/token-source",
            "client/moderation",
        ],
        document: "index.html",
    },
    Page {
        folder: "check",
        entry: "check",
        client_modules: &["client/client", "client/http", "client/token-source"],
        document: "check.html",
    },
];

/// The folder whose modules, scripts and icons the other pages use too.
const SHARED: &str = "call";

/// The folder with the texts of all pages in all languages.
const TEXTS: &str = "texts";

/// The file with the modules of the client.
const CLIENT_FILE: &str = "client.js";

/// The document in each folder.
const DOCUMENT: &str = "index.html";

type Files = BTreeMap<String, String>;

/// The files to serve by their names. `client` are the modules of the client.
pub(crate) fn make_files(web: &Path, page: &Page, client: &Files) -> Result<Files, Box<dyn Error>> {
    let mut sources = read_files(&web.join(page.folder))?;
    let document =
        sources.remove(DOCUMENT).ok_or_else(|| format!("web/{} has no index.html", page.folder))?;
    let shared = if page.folder == SHARED { Files::new() } else { read_files(&web.join(SHARED))? };

    let client = client.iter().map(|(name, text)| (format!("client/{name}"), text.clone())).collect();
    let (client, _) = single_file::join_for_page(&client, page.client_modules, None)?;
    let client_name = hashed_name(CLIENT_FILE, &client);

    let mut modules = modules_of(&sources, "");
    modules.extend(modules_of(&shared, SHARED));
    modules.extend(modules_of(&read_files(&web.join(TEXTS))?, TEXTS));
    let elsewhere = Some((page.client_modules, client_name.as_str()));
    let (script, joined) = single_file::join_for_page(&modules, &[page.entry], elsewhere)?;
    sources.retain(|name, _| name.strip_suffix(".js").is_none_or(|module| !joined.contains(module)));
    for (name, text) in shared {
        if document.contains(&quoted(&name)) {
            sources.entry(name).or_insert(text);
        }
    }
    sources.insert(CLIENT_FILE.to_owned(), client);
    sources.insert(format!("{}.js", page.entry), script);

    let mut document = document;
    let mut files = Files::new();
    for (name, text) in sources {
        let hashed = hashed_name(&name, &text);
        // What the document does not name would cost a round trip more, or is not used.
        if !document.contains(&quoted(&name)) {
            return Err(format!("the index.html of web/{} must name {name}", page.folder).into());
        }
        document = document.replace(&quoted(&name), &quoted(&hashed));
        files.insert(hashed, text);
    }
    files.insert(page.document.to_owned(), document);
    Ok(files)
}

fn read_files(folder: &Path) -> Result<Files, Box<dyn Error>> {
    let mut files = Files::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        files.insert(entry.file_name().to_string_lossy().into_owned(), fs::read_to_string(entry.path())?);
    }
    Ok(files)
}

/// The modules among these files, as the modules of another folder import them from `folder`.
fn modules_of(files: &Files, folder: &str) -> Files {
    files
        .iter()
        .filter_map(|(name, text)| {
            let module = name.strip_suffix(".js")?;
            let path = if folder.is_empty() { module.to_owned() } else { format!("{folder}/{module}") };
            Some((path, text.clone()))
        })
        .collect()
}

/// A file name as the document has it.
fn quoted(name: &str) -> String {
    format!("\"{name}\"")
}

/// `call.js` → `call-0123456789abcdef.js`.
fn hashed_name(name: &str, text: &str) -> String {
    let hash: String = Sha256::digest(text).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    match name.rsplit_once('.') {
        Some((stem, suffix)) => format!("{stem}-{hash}.{suffix}"),
        None => format!("{name}-{hash}"),
    }
}
