//! The call page and the JavaScript client: the files of `web/call` and `clients/js/src`, embedded
//! in the binary.

use actix_web::{HttpResponse, http::header, web};
use include_dir::{Dir, File, include_dir};
use signalbox_http::resource;

static CALL_PAGE_FILES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../web/call");
static CLIENT_FILES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../clients/js/src");

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
            register_file(config, "/", file);
        }
        register_file(config, &path, file);
    }
    for file in collect_files(&CLIENT_FILES) {
        register_file(config, &format!("/client/{}", file.path().display()), file);
    }
}

fn collect_files(dir: &'static Dir<'static>) -> Vec<&'static File<'static>> {
    let in_subfolders = dir.dirs().flat_map(collect_files);
    dir.files().chain(in_subfolders).collect()
}

fn register_file(config: &mut web::ServiceConfig, path: &str, file: &'static File<'static>) {
    let content_type = content_type(path, file);
    let get = move || async move {
        HttpResponse::Ok()
            .content_type(content_type)
            // A new binary may have a new page, so the browser asks each time.
            .insert_header((header::CACHE_CONTROL, "no-cache"))
            .insert_header((header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY))
            .insert_header((header::PERMISSIONS_POLICY, PERMISSIONS_POLICY))
            .body(file.contents())
    };
    let head = get;
    config.service(resource(path, "GET, HEAD").route(web::get().to(get)).route(web::head().to(head)));
}

fn content_type(path: &str, file: &File<'_>) -> &'static str {
    match file.path().extension().and_then(|extension| extension.to_str()) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("webmanifest" | "json") => "application/json",
        _ if path == "/" => "text/html; charset=utf-8",
        _ => "application/octet-stream",
    }
}
