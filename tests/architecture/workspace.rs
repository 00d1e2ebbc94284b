//! The packages of the repository, read from the manifests.

use crate::repository;

pub(crate) struct Package {
    /// The folder, from the root of the repository: `signal-service`.
    pub(crate) folder: String,
    /// The name in the manifest: `signalbox-signal`.
    pub(crate) name: String,
    /// The names of all entries below `[dependencies]`.
    pub(crate) dependencies: Vec<String>,
    /// The root files of the library and of the binaries.
    pub(crate) product_roots: Vec<String>,
    /// The root files of the integration tests.
    pub(crate) test_roots: Vec<String>,
}

impl Package {
    fn read(folder: &str) -> Self {
        let manifest = repository::read(&format!("{folder}/Cargo.toml"));
        let file = |path: &str| format!("{folder}/{path}");
        let mut package = Self {
            folder: folder.to_owned(),
            name: String::new(),
            dependencies: Vec::new(),
            product_roots: ["src/lib.rs", "src/main.rs"].map(file).into_iter().collect(),
            test_roots: Vec::new(),
        };
        for (section, line) in lines_with_section(&manifest) {
            let key = key_of(line);
            match (section, key) {
                ("[package]", "name") => package.name = value_of(line).to_owned(),
                ("[dependencies]", _) => package.dependencies.push(key.to_owned()),
                ("[lib]" | "[[bin]]", "path") => package.product_roots.push(file(value_of(line))),
                ("[[test]]", "path") => package.test_roots.push(file(value_of(line))),
                _ => {}
            }
        }
        package.product_roots.retain(|path| repository::exists(path));
        package.product_roots.sort();
        package.product_roots.dedup();
        package
    }

    /// The name by which Rust code imports the package: `signalbox_signal`.
    pub(crate) fn crate_name(&self) -> String {
        self.name.replace('-', "_")
    }
}

/// The members of the workspace, and the packages beside it that it excludes.
pub(crate) fn packages() -> Vec<Package> {
    let manifest = repository::read("Cargo.toml");
    let folders = ["members", "exclude"].map(|key| list_of(&manifest, key)).concat();
    folders.iter().map(|folder| Package::read(folder)).collect()
}

/// The strings of `key = ["…", "…"]`, which may go over several lines.
fn list_of(manifest: &str, key: &str) -> Vec<String> {
    let Some((_, list)) = manifest.split_once(&format!("\n{key} = [")) else { return Vec::new() };
    let list = list.split(']').next().unwrap_or(list);
    list.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Each line that sets a key, with the header of its section.
fn lines_with_section(manifest: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut section = "";
    manifest.lines().map(str::trim).filter_map(move |line| {
        if line.starts_with('[') {
            section = line.split(" #").next().unwrap_or(line).trim();
            return None;
        }
        let sets_key = line.contains('=') && !line.starts_with('#');
        sets_key.then_some((section, line))
    })
}

/// `tokio` in both `tokio.workspace = true` and `tokio = { … }`.
fn key_of(line: &str) -> &str {
    line.split(['.', '=', ' ']).next().unwrap_or(line)
}

fn value_of(line: &str) -> &str {
    line.split('"').nth(1).unwrap_or_else(|| panic!("`{line}` sets no string"))
}

#[test]
fn a_list_of_a_manifest_may_go_over_several_lines() {
    let manifest = "[workspace]\nmembers = [\n  \"a\",\n  \"b/c\",\n]\nexclude = [\"d\"]\n";
    assert_eq!(list_of(manifest, "members"), ["a", "b/c"]);
    assert_eq!(list_of(manifest, "exclude"), ["d"]);
}

#[test]
fn manifest_lines_belong_to_the_last_header() {
    let manifest = "[package]\nname = \"a\"\n\n[dependencies] # ours\n# b = 1\nc.workspace = true\n\
                    d = { path = \"d\" }\n";
    let lines: Vec<_> = lines_with_section(manifest).map(|(section, line)| (section, key_of(line))).collect();
    assert_eq!(lines, [("[package]", "name"), ("[dependencies]", "c"), ("[dependencies]", "d")]);
}
