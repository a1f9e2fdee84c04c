//! An archive with `install.sh`, for systems without a package.

use std::process::Command;

use super::{Build, Compiled, PROGRAMS, VERSION, archive, copy, make_empty, run, tree, write};

/// Builds the archive for one architecture from `dist/` and the programs.
pub(super) fn build(build: &Build, compiled: &Compiled<'_>) -> Result<(), String> {
    let architecture = compiled.architecture;
    let name = format!("xen-guest-agent-{VERSION}-linux-{}", architecture.name);
    let parent = build.work.join("tarball").join(architecture.name);
    make_empty(&parent)?;
    let top = parent.join(&name);
    let dist = build.root.join("dist");
    run(Command::new("cp").arg("-R").args([&dist, &top]))?;

    let documents = top.join("usr/share/doc");
    for (program, licences) in PROGRAMS.iter().zip(&compiled.licences) {
        let installed = top.join(program.installed);
        copy(&compiled.binaries.join(program.binary), &installed)?;
        if program.binary == "xenstore" {
            tree::link_commands(&dist, &installed)?;
        }

        let file = documents
            .join(program.package)
            .join("third-party-licenses.txt");
        write(&file, licences)?;
    }
    for file in ["CHANGELOG.md", "LICENSE-APACHE", "LICENSE-MIT"] {
        copy(
            &build.root.join(file),
            &documents.join("xen-guest-agent").join(file),
        )?;
    }

    archive::pack(build, &parent, &name, &name)
}
