//! The floors of the benchmark stand on the libraries of the product, in the same versions.

use crate::repository;

/// The libraries of `bench/src/floor` that carry a message.
const LIBRARIES: [&str; 7] =
    ["actix-codec", "actix-http", "actix-server", "actix-web", "actix-ws", "bytes", "tokio"];

#[test]
fn the_floors_of_the_benchmark_use_the_versions_of_the_product() {
    let (product, bench) = (repository::read("Cargo.lock"), repository::read("bench/Cargo.lock"));
    for library in LIBRARIES {
        assert_eq!(
            version_of(library, &product),
            version_of(library, &bench),
            "bench/Cargo.lock has another {library}: run `cargo update -p {library} --precise VERSION` in bench/"
        );
    }
}

fn version_of<'a>(library: &str, lock: &'a str) -> Option<&'a str> {
    let (_, package) = lock.split_once(&format!("\nname = \"{library}\"\n"))?;
    package.split('"').nth(1)
}

#[test]
fn a_version_is_found_in_a_lock_file() {
    let lock =
        "[[package]]\nname = \"a\"\nversion = \"1.2\"\n\n[[package]]\nname = \"ab\"\nversion = \"3\"\n";
    assert_eq!((version_of("a", lock), version_of("ab", lock)), (Some("1.2"), Some("3")));
    assert_eq!(version_of("b", lock), None);
}
