//! The call page and the JavaScript client: files that are embedded in the binary. `build.rs` makes
//! the files of the client.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use actix_web::{HttpResponse, Resource, http::header, middleware::DefaultHeaders, web};
use include_dir::{Dir, File, include_dir};
use signalbox_http::{not_found, resource};

static CALL_PAGE_FILES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../web/call");
static CLIENT_FILES: Dir<'_> = include_dir!("$OUT_DIR/client");

/// Everything comes from the same origin, nothing is inline, and no other page may frame a page.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self'; media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A page may use the camera, the microphone and the screen, and nothing else.
const PERMISSIONS_POLICY: &str =
    "camera=(self), microphone=(self), display-capture=(self), geolocation=(), payment=()";

/// Registers one route for each file.
pub(crate) fn configure_pages(config: &mut web::ServiceConfig) {
    for file in collect_files(&CALL_PAGE_FILES) {
        let path = format!("/{}", file.path().display());
        if path == "/index.html" {
            config.service(file_resource("/", file));
        }
        config.service(file_resource(&path, file));
    }
    // The client is public, so every site may import it. A wrong path must be readable too: without
    // these headers a browser reports a CORS error in place of the 404.
    let any_site = DefaultHeaders::new()
        .add((header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"))
        .add((header::CROSS_ORIGIN_RESOURCE_POLICY, "cross-origin"));
    let mut client = web::scope("/client").default_service(web::to(not_found));
    for file in collect_files(&CLIENT_FILES) {
        client = client.service(file_resource(&format!("/{}", file.path().display()), file));
    }
    config.service(client.wrap(any_site));
}

/// Writes the files as `configure_pages` serves them: the call page into `folder`, the client into
/// `folder/client`.
///
/// # Errors
/// A file cannot be written.
pub(crate) fn write_pages(folder: &Path) -> io::Result<()> {
    let write = |path: PathBuf, file: &File<'_>| {
        path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&path, file.contents()))
    };
    for file in collect_files(&CALL_PAGE_FILES) {
        write(folder.join(file.path()), file)?;
    }
    for file in collect_files(&CLIENT_FILES) {
        write(folder.join("client").join(file.path()), file)?;
    }
    Ok(())
}

fn collect_files(dir: &'static Dir<'static>) -> Vec<&'static File<'static>> {
    let in_subfolders = dir.dirs().flat_map(collect_files);
    dir.files().chain(in_subfolders).collect()
}

fn file_resource(path: &str, file: &'static File<'static>) -> Resource {
    let content_type = content_type(file.path());
    let get = move || async move {
        HttpResponse::Ok()
            .content_type(content_type)
            // A new binary may have a new page, so the browser asks each time.
            .insert_header((header::CACHE_CONTROL, "no-cache"))
            .insert_header((header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY))
            .insert_header((header::PERMISSIONS_POLICY, PERMISSIONS_POLICY))
            .body(file.contents())
    };
    resource(path, "GET").route(web::get().to(get))
}

fn content_type(path: &Path) -> &'static str {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("ts") => "application/typescript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("tgz") => "application/gzip",
        Some("webmanifest" | "json") => "application/json",
        _ => "application/octet-stream",
    }
}
