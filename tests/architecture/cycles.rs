//! No modules of a crate import each other in a circle. A parent and its own child may.
//!
//! A module is a file. Test modules do not count. The rule holds at each level of the module tree:
//! a child of a folder stands for all files below it. So if `a/x.rs` imports `b/y.rs` and `b/z.rs`
//! imports `a/w.rs`, then `a` and `b` form a circle.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
};

use crate::{
    crate_tree::{CrateTree, Import, ModulePath},
    repository, workspace,
};

/// All crates of the repository, each with its root file.
fn crates() -> impl Iterator<Item = (String, CrateTree)> {
    let roots = workspace::packages()
        .into_iter()
        .flat_map(|package| [package.product_roots, package.test_roots].concat());
    roots.map(|root| {
        let tree = CrateTree::read(&root, &repository::try_read);
        (root, tree)
    })
}

#[test]
fn no_modules_of_a_crate_import_each_other_in_a_circle() {
    let mut report = String::new();
    for (root, tree) in crates() {
        let circles = circles(&tree.imports());
        println!("{root}: {} files, {} circles", tree.file_count(), circles.len());
        report.extend(circles.iter().map(|circle| format!("\n{root}: {circle}")));
    }
    assert!(
        report.is_empty(),
        "\n{report}\nModules import each other in a circle. To break a circle, move the items that both \
         sides need into a module that imports neither, or pass a value instead of importing its owner."
    );
}

/// The reader cannot tell which names a star imports, so a star could hide a circle.
#[test]
fn no_module_imports_all_names_of_another_with_a_star() {
    let places: Vec<_> = crates().flat_map(|(_, tree)| tree.hidden_imports()).collect();
    assert!(places.is_empty(), "Write the names instead of `*`:\n{}", places.join("\n"));
}

/// Children of one module that import each other in a circle, directly or through other children.
struct Circle {
    parent: ModulePath,
    /// One of the shortest ways around. The first member is repeated at the end.
    shortest: Vec<Member>,
    /// The imports between any two members.
    imports: Links,
}

/// A child by its name, or the file of the parent module itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Member {
    Parent,
    Child(String),
}

type Links = BTreeMap<(Member, Member), Vec<Import>>;

fn circles(imports: &[Import]) -> Vec<Circle> {
    let mut levels: BTreeMap<ModulePath, Links> = BTreeMap::new();
    for import in imports {
        if let Some((parent, link)) = level_of(import) {
            levels.entry(parent).or_default().entry(link).or_default().push(import.clone());
        }
    }
    levels.iter().flat_map(|(parent, links)| circles_at_level(parent, links)).collect()
}

/// The innermost module around both sides of an import, and the sides as its members. `None` for an
/// import between a parent and its own child.
fn level_of(import: &Import) -> Option<(ModulePath, (Member, Member))> {
    let (from, to) = (&import.from.0, &import.to.0);
    let depth = from.iter().zip(to).take_while(|(a, b)| a == b).count();
    let is_parent_and_child = from.len().min(to.len()) == depth && from.len().max(to.len()) == depth + 1;
    let member = |path: &[String]| path.get(depth).cloned().map_or(Member::Parent, Member::Child);
    (!is_parent_and_child).then(|| (ModulePath(from[..depth].to_vec()), (member(from), member(to))))
}

/// The members of a circle are those that reach each other.
fn circles_at_level(parent: &ModulePath, links: &Links) -> Vec<Circle> {
    let mut circles = Vec::new();
    let mut done = BTreeSet::new();
    for (start, _) in links.keys() {
        let Some(shortest) = shortest_way(links, start, start) else { continue };
        if done.contains(start) {
            continue;
        }
        let is_member = |member: &Member| {
            shortest_way(links, start, member).is_some() && shortest_way(links, member, start).is_some()
        };
        let imports: Links = (links.iter())
            .filter(|((from, to), _)| is_member(from) && is_member(to))
            .map(|(link, imports)| (link.clone(), imports.clone()))
            .collect();
        done.extend(imports.keys().map(|(from, _)| from.clone()));
        circles.push(Circle { parent: parent.clone(), shortest, imports });
    }
    circles
}

/// The shortest way from `start` to `end` over at least one link.
fn shortest_way(links: &Links, start: &Member, end: &Member) -> Option<Vec<Member>> {
    let mut visited = BTreeSet::new();
    let mut ways = VecDeque::from([vec![start.clone()]]);
    while let Some(way) = ways.pop_front() {
        for (_, next) in links.keys().filter(|(from, _)| Some(from) == way.last()) {
            let mut longer = way.clone();
            longer.push(next.clone());
            if next == end {
                return Some(longer);
            }
            if visited.insert(next.clone()) {
                ways.push_back(longer);
            }
        }
    }
    None
}

impl Circle {
    fn name_of(&self, member: &Member) -> String {
        match member {
            Member::Parent => self.parent.to_string(),
            Member::Child(name) => name.clone(),
        }
    }

    fn names(&self) -> Vec<String> {
        let members: BTreeSet<_> = self.imports.keys().map(|(from, _)| from).collect();
        members.into_iter().map(|member| self.name_of(member)).collect()
    }
}

impl fmt::Display for Circle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shortest: Vec<_> = self.shortest.iter().map(|member| self.name_of(member)).collect();
        writeln!(f, "circle in `{}` between {}", self.parent, self.names().join(", "))?;
        writeln!(f, "  shortest way around: {}", shortest.join(" → "))?;
        for ((from, to), imports) in &self.imports {
            writeln!(f, "  {} → {}", self.name_of(from), self.name_of(to))?;
            for Import { file, line, path, to, .. } in imports {
                writeln!(f, "    {file}:{line}: {path} (defined in {to})")?;
            }
        }
        Ok(())
    }
}

/// Examples of crates. Each is a list of files with their code; the first file is the crate root.
mod examples {
    use super::{CrateTree, circles};

    fn tree(files: &[(&str, &str)]) -> CrateTree {
        let read = |path: &str| {
            let (_, code) = files.iter().find(|(file, _)| *file == path)?;
            Some((*code).to_owned())
        };
        CrateTree::read(files[0].0, &read)
    }

    /// Each import as `from → to`.
    fn links(files: &[(&str, &str)]) -> Vec<String> {
        tree(files).imports().iter().map(|import| format!("{} → {}", import.from, import.to)).collect()
    }

    /// The members of each circle.
    fn circle_names(files: &[(&str, &str)]) -> Vec<String> {
        circles(&tree(files).imports()).iter().map(|circle| circle.names().join(" ")).collect()
    }

    #[test]
    fn two_modules_that_import_each_other_are_a_circle_with_its_lines() {
        let files = [
            ("src/lib.rs", "mod a;\nmod b;\nmod c;"),
            ("src/a.rs", "\nuse crate::b::B;\npub struct A;"),
            ("src/b.rs", "use super::{c::C, a};\npub struct B(a::A);"),
            ("src/c.rs", "pub struct C;"),
        ];
        let [circle] = &circles(&tree(&files).imports())[..] else { panic!("there is one circle") };
        assert_eq!(
            circle.to_string(),
            "circle in `crate` between a, b\n  shortest way around: a → b → a\n  \
             a → b\n    src/a.rs:2: crate::b::B (defined in b)\n  \
             b → a\n    src/b.rs:1: super::a (defined in a)\n"
        );
    }

    #[test]
    fn a_circle_can_go_through_three_modules() {
        let files = [
            ("src/lib.rs", "mod a; mod b; mod c; mod d;"),
            ("src/a.rs", "use crate::b::f;"),
            ("src/b.rs", "pub fn f() { crate::c::f() }"),
            ("src/c.rs", "use super::a as other; pub fn f() {}"),
            ("src/d.rs", "use crate::a;"),
        ];
        assert_eq!(circle_names(&files), ["a b c"]);
    }

    #[test]
    fn a_re_exported_name_is_an_import_of_the_module_that_defines_it() {
        let files = [
            ("src/lib.rs", "mod a; mod b; use b::{B, C as D}; pub(crate) use b::deep::*;"),
            ("src/a.rs", "use super::B; use crate::D; use super::Deep; use crate::b::Deep as Again;"),
            ("src/b/mod.rs", "pub(super) mod deep; pub struct B; pub enum C {} pub use self::deep::Deep;"),
            ("src/b/deep.rs", "pub struct Deep;"),
        ];
        let from_a: Vec<_> = links(&files).into_iter().filter(|link| link.starts_with("a ")).collect();
        assert_eq!(from_a, ["a → b", "a → b", "a → b::deep", "a → b::deep"]);
    }

    #[test]
    fn a_re_export_does_not_hide_a_circle() {
        let files = [
            ("src/lib.rs", "mod a; mod b; pub use a::A; pub use b::B;"),
            ("src/a.rs", "use super::B; pub struct A(B);"),
            ("src/b.rs", "use crate::A; pub struct B;"),
        ];
        assert_eq!(circle_names(&files), ["a b"]);
    }

    #[test]
    fn folders_that_import_each_other_are_a_circle() {
        let files = [
            ("src/lib.rs", "mod a; mod b;"),
            ("src/a/mod.rs", "mod x; pub mod w;"),
            ("src/a/x.rs", "use crate::b::y::Y;"),
            ("src/a/w.rs", "pub struct W;"),
            ("src/b.rs", "pub mod y; mod z;"),
            ("src/b/y.rs", "pub struct Y;"),
            ("src/b/z.rs", "use crate::a::w::W;"),
        ];
        assert_eq!(circle_names(&files), ["a b"]);
    }

    #[test]
    fn a_parent_and_its_own_child_may_import_each_other() {
        let files = [
            ("src/lib.rs", "mod a; use a::A; pub struct Root;"),
            ("src/a/mod.rs", "mod b; use crate::Root; use b::B; pub struct A;"),
            ("src/a/b.rs", "use super::A; pub struct B(A);"),
        ];
        assert!(circle_names(&files).is_empty());
    }

    #[test]
    fn a_star_is_only_for_the_own_child() {
        let files = [
            ("src/lib.rs", "mod a; mod b; pub use a::*;"),
            ("src/a.rs", "pub enum A { X } fn f() { use A::*; }"),
            ("src/b.rs", "use std::io::*;\nuse super::*;"),
        ];
        assert_eq!(tree(&files).hidden_imports(), ["src/b.rs:2"]);
    }

    #[test]
    fn an_ancestor_and_a_deeper_module_may_not_import_each_other() {
        let files = [
            ("src/lib.rs", "mod a; use a::b::B; pub struct Root;"),
            ("src/a/mod.rs", "pub mod b;"),
            ("src/a/b.rs", "use crate::Root; pub struct B;"),
        ];
        assert_eq!(circle_names(&files), ["crate a"]);
    }

    #[test]
    fn modules_for_tests_and_inline_modules_make_no_circle_of_their_own() {
        let files = [
            ("src/lib.rs", "mod a; mod b;"),
            ("src/a.rs", "use crate::b::B; pub struct A; mod inner { use super::A; }"),
            ("src/b.rs", "pub struct B; #[cfg(test)] mod tests;"),
            ("src/b/tests.rs", "use crate::a::A;"),
        ];
        assert!(circle_names(&files).is_empty());
    }
}
