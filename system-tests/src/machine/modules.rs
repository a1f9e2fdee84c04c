//! Kernels and their modules.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::packages::Packages;

/// A kernel of Debian.
pub(crate) struct Kernel {
    pub(crate) release: String,
    pub(crate) image: PathBuf,
    pub(crate) modules: Modules,
}

impl Kernel {
    /// Finds the kernel in unpacked packages.
    pub(crate) fn find(packages: &Packages) -> Self {
        let mut files = fs::read_dir(packages.path("boot")).expect("read a directory");
        let release = files
            .find_map(|file| {
                let name = file.ok()?.file_name();
                Some(name.to_str()?.strip_prefix("vmlinuz-")?.to_owned())
            })
            .expect("a kernel in /boot");
        Kernel {
            image: packages.path(&format!("boot/vmlinuz-{release}")),
            modules: Modules::find(&packages.path("lib/modules").join(&release)),
            release,
        }
    }
}

/// The modules of one kernel.
pub(crate) struct Modules {
    files: HashMap<String, PathBuf>,
}

impl Modules {
    /// Finds all modules below `directory`, such as `/lib/modules/6.1.0-56-amd64`.
    pub(crate) fn find(directory: &Path) -> Self {
        let mut files = HashMap::new();
        let mut to_visit = vec![directory.to_owned()];
        while let Some(directory) = to_visit.pop() {
            for entry in fs::read_dir(&directory)
                .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
            {
                let path = entry.expect("read a directory").path();
                if path.is_dir() {
                    to_visit.push(path);
                } else if path.extension().is_some_and(|extension| extension == "ko") {
                    let name = path
                        .file_stem()
                        .expect("it has an extension")
                        .to_string_lossy()
                        .replace('-', "_");
                    files.insert(name, path);
                }
            }
        }
        Modules { files }
    }

    /// Returns the files of the modules and their dependencies in loading order.
    ///
    /// Panics if the kernel lacks one of the modules.
    pub(crate) fn in_order(&self, names: &[&str]) -> Vec<&Path> {
        let mut order = Vec::new();
        for name in names {
            self.add(name, &mut order);
        }
        order
    }

    fn add<'a>(&'a self, name: &str, order: &mut Vec<&'a Path>) {
        let file = self
            .files
            .get(&name.replace('-', "_"))
            .unwrap_or_else(|| panic!("the kernel has no module {name}"));
        if order.contains(&file.as_path()) {
            return;
        }
        let content = fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        for needed in needs(&content)
            .split(',')
            .filter(|needed| !needed.is_empty())
        {
            self.add(needed, order);
        }
        order.push(file);
    }
}

/// Returns the dependencies in a module's section `.modinfo`, separated by commas.
fn needs(module: &[u8]) -> String {
    let field = b"\0depends=";
    let start = module
        .windows(field.len())
        .position(|window| window == field)
        .expect("a module has the field `depends`");
    let value = module[start + field.len()..]
        .iter()
        .take_while(|byte| **byte != 0);
    value.map(|byte| char::from(*byte)).collect()
}
