//! Packages for Fedora, EL and openSUSE, built by rpmbuild.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{
    Architecture, Build, MAINTAINER, Program, VERSION, copy, date, failed, make_empty, run, tree,
};

/// Builds the package of `program` for `architecture`, with a text of `third_party::licences`.
pub(super) fn build(
    build: &Build,
    program: &Program,
    architecture: &Architecture,
    binary: &Path,
    licences: &str,
) -> Result<(), String> {
    let name = format!("{}-{VERSION}-1.{}", program.package, architecture.name);
    let top = build.work.join("rpm").join(&name);
    make_empty(&top)?;
    let tree = top.join("tree");
    tree::create(
        build,
        program,
        binary,
        "usr/share/zsh/site-functions",
        &tree,
    )?;

    tree::add_licences(build, program, licences, &tree.join("usr/share/licenses"))?;
    let documents = tree.join("usr/share/doc").join(program.package);
    copy(
        &build.root.join("CHANGELOG.md"),
        &documents.join("CHANGELOG.md"),
    )?;
    tree::set_permissions(&tree, &[program.installed])?;

    let spec = build
        .root
        .join("packaging/rpm")
        .join(format!("{}.spec", program.package));
    let definitions = [
        format!("_topdir {}", top.display()),
        format!("version_of_release {VERSION}"),
        format!("date_of_release {}", date(build, "+%a %b %d %Y")?),
        format!("maintainer {MAINTAINER}"),
        format!("tree {}", tree.display()),
        "_buildhost localhost".to_owned(),
        "use_source_date_epoch_as_buildtime 1".to_owned(),
        "clamp_mtime_to_source_date_epoch 1".to_owned(),
        // EL 7 reads xz, and one thread always writes the same.
        "_binary_payload w6.xzdio".to_owned(),
    ];
    let mut rpmbuild = Command::new("rpmbuild");
    rpmbuild.args(["-bb", "--quiet", "--target", architecture.name]);
    for definition in definitions {
        rpmbuild.args(["--define", &definition]);
    }
    run(rpmbuild
        .arg(spec)
        .env("SOURCE_DATE_EPOCH", &build.epoch)
        // Macros in the user's home directory could change the package.
        .env("HOME", &top)
        .env_remove("XDG_CONFIG_HOME"))?;

    let package = top
        .join("RPMS")
        .join(architecture.name)
        .join(format!("{name}.rpm"));
    let artefact = build.artefacts.join(format!("{name}.rpm"));
    fs::rename(&package, &artefact).map_err(failed("move", &package))
}
