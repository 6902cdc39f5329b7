//! Just enough of a `Cargo.toml` to see what a crate depends on.

use crate::tree::read;

pub(crate) struct Manifest {
    /// Section and line, without comments and empty lines.
    lines: Vec<(String, String)>,
}

pub(crate) struct Dependency {
    pub(crate) section: String,
    pub(crate) name: String,
    pub(crate) value: String,
}

impl Manifest {
    pub(crate) fn read(folder: &str) -> Self {
        Self::parse(&read(&format!("{folder}/Cargo.toml")))
    }

    fn parse(text: &str) -> Self {
        let mut section = String::new();
        let mut lines = Vec::new();
        for line in text.lines().map(str::trim) {
            if let Some(header) = line.strip_prefix('[') {
                section = String::from(header.trim_end_matches(']').trim_start_matches('['));
                // `[dependencies.name]` is the long form of a line `name = …`.
                if let Some((table, name)) = section.split_once("dependencies.") {
                    lines.push((format!("{table}dependencies"), format!("{name} = table")));
                }
            } else if !line.is_empty() && !line.starts_with('#') {
                lines.push((section.clone(), line.to_owned()));
            }
        }
        Self { lines }
    }

    pub(crate) fn package_name(&self) -> &str {
        let line = self.lines.iter().find(|(section, line)| {
            section == "package" && line.split('=').next().map(str::trim) == Some("name")
        });
        line.and_then(|(_, line)| line.split('"').nth(1)).expect("a package has a name")
    }

    pub(crate) fn has(&self, section: &str, line: &str) -> bool {
        self.lines.iter().any(|(s, l)| s == section && l == line)
    }

    /// Of every kind: for the crate, for its tests, for its build script, for one platform.
    pub(crate) fn dependencies(&self) -> impl Iterator<Item = Dependency> {
        self.lines.iter().filter(|(section, _)| section.ends_with("dependencies")).filter_map(
            |(section, line)| {
                let (name, value) = line.split_once('=')?;
                let name = name.trim().trim_end_matches(".workspace").trim_matches('"');
                Some(Dependency {
                    section: section.clone(),
                    name: name.to_owned(),
                    value: value.trim().to_owned(),
                })
            },
        )
    }
}

#[test]
fn every_form_of_a_dependency_is_seen() {
    let manifest = Manifest::parse(
        "[package]\nname = \"x\"\n[dependencies]\na = \"1\" # why\nb.workspace = true\n\
         [dev-dependencies.c]\nversion = \"1\"\n[target.'cfg(unix)'.dependencies]\nd = { version = \"1\" }\n",
    );
    let names: Vec<String> = manifest.dependencies().map(|dependency| dependency.name).collect();
    assert_eq!(names, ["a", "b", "c", "d"]);
    assert_eq!(manifest.package_name(), "x");
}
