//! The pages and the JavaScript client: files that are embedded in the binary. `build.rs` makes
//! them, each text also in its compressed form.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use actix_web::{
    HttpRequest, HttpResponse, Resource,
    http::header::{self, AcceptEncoding, Encoding, EntityTag, Header as _, IfNoneMatch},
    middleware::DefaultHeaders,
    web,
};
use include_dir::{Dir, File, include_dir};
use sha2::{Digest as _, Sha256};
use signalbox_http::{not_found, resource};

static PAGE_FILES: Dir<'_> = include_dir!("$OUT_DIR/pages");
static CLIENT_FILES: Dir<'_> = include_dir!("$OUT_DIR/client");

/// Everything comes from the same origin, nothing is inline, no text becomes a script or markup, and
/// no other page may frame a page.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self'; media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
     require-trusted-types-for 'script'; trusted-types 'none'";

/// A new binary may have another file of this name, so the browser asks each time.
const REVALIDATED: &str = "no-cache";

/// The name of the file has the hash of its content, so it never changes.
const KEPT: &str = "public, max-age=31536000, immutable";

/// The suffix of a compressed form.
const COMPRESSED: &str = ".gz";

/// A page may use the camera, the microphone and the screen, and nothing else.
const PERMISSIONS_POLICY: &str =
    "camera=(self), microphone=(self), display-capture=(self), geolocation=(), payment=()";

/// Registers one route for each file.
pub(crate) fn configure_pages(config: &mut web::ServiceConfig) {
    for file in served_files(&PAGE_FILES) {
        let path = format!("/{}", file.path().display());
        if let Some(name) = path.strip_suffix(".html") {
            let address = if name == "/index" { "/" } else { name };
            config.service(file_resource(address, &PAGE_FILES, file, REVALIDATED));
            config.service(file_resource(&path, &PAGE_FILES, file, REVALIDATED));
        } else {
            config.service(file_resource(&path, &PAGE_FILES, file, KEPT));
        }
    }
    // The client is public, so every site may import it. A wrong path must be readable too: without
    // these headers a browser reports a CORS error in place of the 404.
    let any_site = DefaultHeaders::new()
        .add((header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"))
        .add((header::CROSS_ORIGIN_RESOURCE_POLICY, "cross-origin"));
    let mut client = web::scope("/client").default_service(web::to(not_found));
    for file in served_files(&CLIENT_FILES) {
        let path = format!("/{}", file.path().display());
        client = client.service(file_resource(&path, &CLIENT_FILES, file, REVALIDATED));
    }
    config.service(client.wrap(any_site));
}

/// Writes the files as `configure_pages` serves them, with their compressed forms: the pages into
/// `folder`, the client into `folder/client`.
///
/// # Errors
/// A file cannot be written.
pub(crate) fn write_pages(folder: &Path) -> io::Result<()> {
    let write = |path: PathBuf, file: &File<'_>| {
        path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&path, file.contents()))
    };
    for file in PAGE_FILES.files() {
        write(folder.join(file.path()), file)?;
    }
    for file in CLIENT_FILES.files() {
        write(folder.join("client").join(file.path()), file)?;
    }
    Ok(())
}

/// The files without their compressed forms.
fn served_files(dir: &'static Dir<'static>) -> impl Iterator<Item = &'static File<'static>> {
    dir.files().filter(|file| !file.path().to_string_lossy().ends_with(COMPRESSED))
}

fn file_resource(
    path: &str,
    dir: &'static Dir<'static>,
    file: &'static File<'static>,
    cache_control: &'static str,
) -> Resource {
    let content_type = content_type(file.path());
    let plain = Form::new(file);
    let compressed = dir.get_file(format!("{}{COMPRESSED}", file.path().display())).map(Form::new);
    let get = move |request: HttpRequest| {
        let accepted = compressed.as_ref().filter(|_| accepts_gzip(&request));
        let form = accepted.unwrap_or(&plain);
        let is_unchanged = is_unchanged(&request, &form.tag);
        let mut response = if is_unchanged { HttpResponse::NotModified() } else { HttpResponse::Ok() };
        response
            .content_type(content_type)
            .insert_header((header::CACHE_CONTROL, cache_control))
            .insert_header((header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY))
            .insert_header((header::PERMISSIONS_POLICY, PERMISSIONS_POLICY))
            .insert_header(header::ETag(form.tag.clone()));
        if compressed.is_some() {
            response.insert_header((header::VARY, "Accept-Encoding"));
        }
        if accepted.is_some() {
            response.insert_header((header::CONTENT_ENCODING, "gzip"));
        }
        // The HTTP library would send a body that no client expects after a 304.
        let response = if is_unchanged { response.finish() } else { response.body(form.bytes) };
        async move { response }
    };
    resource(path, "GET").route(web::get().to(get))
}

/// One form of a file: plain or compressed.
#[derive(Clone)]
struct Form {
    bytes: &'static [u8],
    tag: EntityTag,
}

impl Form {
    fn new(file: &'static File<'static>) -> Self {
        let hash: String =
            Sha256::digest(file.contents()).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Self { bytes: file.contents(), tag: EntityTag::new_strong(hash) }
    }
}

fn accepts_gzip(request: &HttpRequest) -> bool {
    let supported = [Encoding::gzip(), Encoding::identity()];
    AcceptEncoding::parse(request)
        .is_ok_and(|accepted| accepted.negotiate(supported.iter()) == Some(Encoding::gzip()))
}

/// Whether the browser has this form already.
fn is_unchanged(request: &HttpRequest, tag: &EntityTag) -> bool {
    match IfNoneMatch::parse(request) {
        Ok(IfNoneMatch::Any) => true,
        Ok(IfNoneMatch::Items(known)) => known.iter().any(|known| known.weak_eq(tag)),
        Err(_) => false,
    }
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
