//! The modules of a crate, and their imports of each other.
//!
//! A name that a module re-exports counts as an import of the module that defines it. If `a`
//! imports `super::B` and the parent has `use b::B`, then `a` imports `b`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use crate::module::{Binding, Module, read_modules};

/// The place of a module in its crate, such as `["registry", "peer"]`. The crate root is empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ModulePath(pub(crate) Vec<String>);

impl ModulePath {
    pub(crate) fn root() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn parent(&self) -> Option<Self> {
        let (_, parent) = self.0.split_last()?;
        Some(Self(parent.to_vec()))
    }

    pub(crate) fn child(&self, name: &str) -> Self {
        Self([&self.0[..], &[name.to_owned()]].concat())
    }
}

impl fmt::Display for ModulePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.write_str("crate") } else { f.write_str(&self.0.join("::")) }
    }
}

/// One path in the code that names a module or an item in another file of the same crate.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Import {
    /// The module whose file has the path.
    pub(crate) from: ModulePath,
    /// The module whose file defines the named module or item.
    pub(crate) to: ModulePath,
    pub(crate) file: String,
    pub(crate) line: usize,
    /// The path as it is written.
    pub(crate) path: String,
}

struct PlacedModule {
    module: Module,
    file: String,
    /// The module that is the whole file. For an inline module this is a module around it.
    file_module: ModulePath,
}

pub(crate) struct CrateTree {
    modules: BTreeMap<ModulePath, PlacedModule>,
}

/// The meaning of a path.
enum Meaning {
    Module(ModulePath),
    /// An item, by the module that defines it.
    Item(ModulePath),
}

impl CrateTree {
    /// Reads the crate whose root file is `root`. `read` returns the text of a file, or `None` if
    /// there is no such file.
    pub(crate) fn read(root: &str, read: &dyn Fn(&str) -> Option<String>) -> Self {
        let (folder, _) = root.rsplit_once('/').unwrap_or(("", root));
        let mut tree = Self { modules: BTreeMap::new() };
        tree.add_file(ModulePath::root(), root, folder, read);
        tree
    }

    /// Adds a file and the files of its children, which lie in `folder`.
    fn add_file(
        &mut self,
        path: ModulePath,
        file: &str,
        folder: &str,
        read: &dyn Fn(&str) -> Option<String>,
    ) {
        let code = read(file).unwrap_or_else(|| panic!("{file} is missing"));
        for module in read_modules(&code) {
            let place = module.inline_path.iter().fold(path.clone(), |place, name| place.child(name));
            let folder = [&[folder.to_owned()], &module.inline_path[..]].concat().join("/");
            for name in &module.file_children {
                let own_file = format!("{folder}/{name}.rs");
                let in_folder = format!("{folder}/{name}/mod.rs");
                let child_file = if read(&own_file).is_some() { own_file } else { in_folder };
                self.add_file(place.child(name), &child_file, &format!("{folder}/{name}"), read);
            }
            let placed = PlacedModule { module, file: file.to_owned(), file_module: path.clone() };
            self.modules.insert(place, placed);
        }
    }

    /// The number of files.
    pub(crate) fn file_count(&self) -> usize {
        self.modules.iter().filter(|(place, placed)| **place == placed.file_module).count()
    }

    /// The imports of one file from another, in the order of their files and lines. Where code
    /// repeats a name that a `use` declaration of its file has brought in, only the declaration is
    /// listed.
    pub(crate) fn imports(&self) -> Vec<Import> {
        let mut imports = Vec::new();
        for (place, placed) in &self.modules {
            for path in &placed.module.paths {
                let Some(target) = self.resolve(place, &path.segments, &mut BTreeSet::new()) else {
                    continue;
                };
                let (Meaning::Module(target) | Meaning::Item(target)) = target;
                let import = Import {
                    from: placed.file_module.clone(),
                    to: self.modules[&target].file_module.clone(),
                    file: placed.file.clone(),
                    line: path.line,
                    path: path.segments.join("::"),
                };
                let is_repeated = |other: &Import| {
                    let same_modules = other.from == import.from && other.to == import.to;
                    same_modules && !path.is_complete() || *other == import
                };
                if import.from != import.to && !imports.iter().any(is_repeated) {
                    imports.push(import);
                }
            }
        }
        imports
    }

    /// The places of `use module::*`, as `file:line`. A parent may re-export its own child in this
    /// way.
    pub(crate) fn hidden_imports(&self) -> Vec<String> {
        let mut places = Vec::new();
        for (place, placed) in &self.modules {
            let stars = placed.module.bindings.iter().filter(|binding| binding.name.is_none());
            for Binding { path, .. } in stars {
                let target = self.resolve(place, &path.segments, &mut BTreeSet::new());
                if let Some(Meaning::Module(target)) = target
                    && target.parent().as_ref() != Some(place)
                    && self.modules[&target].file_module != placed.file_module
                {
                    places.push(format!("{}:{}", placed.file, path.line));
                }
            }
        }
        places
    }

    /// The first word of every path, which may be the name of another crate, with its `file:line`.
    pub(crate) fn first_words(&self) -> impl Iterator<Item = (&str, String)> {
        self.modules.values().flat_map(|placed| {
            let paths = placed.module.paths.iter();
            paths.map(|path| (path.segments[0].as_str(), format!("{}:{}", placed.file, path.line)))
        })
    }

    /// The meaning of a path in the code of the module `place`; `None` if it leads to another
    /// crate.
    ///
    /// `seen` holds the names that are being looked up, because a name can be imported from where
    /// it is re-exported.
    fn resolve(&self, place: &ModulePath, path: &[String], seen: &mut Seen) -> Option<Meaning> {
        let (first, rest) = path.split_first()?;
        let mut meaning = match first.as_str() {
            "crate" => Meaning::Module(ModulePath::root()),
            "self" => Meaning::Module(place.clone()),
            "super" => Meaning::Module(place.parent()?),
            name => self.look_up(place, name, seen)?,
        };
        for name in rest {
            // Behind an item come its variants and functions.
            let Meaning::Module(module) = meaning else { break };
            meaning = match name.as_str() {
                "super" => Meaning::Module(module.parent()?),
                // A name that the reader does not find comes from a macro or from another crate.
                name => self.look_up(&module, name, seen).unwrap_or(Meaning::Item(module)),
            };
        }
        Some(meaning)
    }

    /// The meaning of a name in the module `place`.
    fn look_up(&self, place: &ModulePath, name: &str, seen: &mut Seen) -> Option<Meaning> {
        if !seen.insert((place.clone(), name.to_owned())) {
            return None;
        }
        let child = place.child(name);
        if self.modules.contains_key(&child) {
            return Some(Meaning::Module(child));
        }
        let module = &self.modules[place].module;
        if module.items.contains(name) {
            return Some(Meaning::Item(place.clone()));
        }
        let (named, all): (Vec<_>, Vec<_>) =
            module.bindings.iter().partition(|binding| binding.name.is_some());
        let mut named = named.iter().filter(|binding| binding.name.as_deref() == Some(name));
        named.find_map(|binding| self.resolve(place, &binding.path.segments, seen)).or_else(|| {
            all.iter().find_map(|binding| match self.resolve(place, &binding.path.segments, seen)? {
                Meaning::Module(module) => self.look_up(&module, name, seen),
                Meaning::Item(_) => None,
            })
        })
    }
}

type Seen = BTreeSet<(ModulePath, String)>;
