//! Packages for Debian and its derivatives, built by dpkg-deb.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{
    Architecture, Build, MAINTAINER, Program, VERSION, copy, date, failed, files, output, read,
    run, tree, write,
};

/// Builds the package of `program` for `architecture`, with a text of `third_party::licences`.
pub(super) fn build(
    build: &Build,
    program: &Program,
    architecture: &Architecture,
    binary: &Path,
    licences: &str,
) -> Result<(), String> {
    let name = format!("{}_{VERSION}_{}", program.package, architecture.debian);
    let tree = build.work.join("deb").join(&name);
    tree::create(
        build,
        program,
        binary,
        "usr/share/zsh/vendor-completions",
        &tree,
    )?;
    move_configuration(&tree)?;
    add_documents(build, program, licences, &tree)?;

    let scripts = add_control(build, program, architecture, &tree)?;
    let mut executable: Vec<&str> = scripts.iter().map(String::as_str).collect();
    executable.push(program.installed);
    tree::set_permissions(&tree, &executable)?;

    run(Command::new("dpkg-deb")
        .args(["--root-owner-group", "-Zxz", "--build"])
        .arg(&tree)
        .arg(build.artefacts.join(format!("{name}.deb")))
        .env("SOURCE_DATE_EPOCH", &build.epoch)
        // The number of threads changes the compressed data.
        .env("DPKG_DEB_THREADS_MAX", "1")
        .env_remove("DPKG_DEB_COMPRESSOR_LEVEL")
        // A dpkg-deb without liblzma runs xz.
        .env_remove("XZ_DEFAULTS")
        .env_remove("XZ_OPT"))
}

/// Moves the default configuration to where the package's scripts find it.
///
/// As a conffile, it would make dpkg ask a question at an upgrade, if both the administrator and
/// the new version have changed it.
fn move_configuration(tree: &Path) -> Result<(), String> {
    let configuration = tree.join("etc/xen-guest-agent/config.toml");
    if !configuration.exists() {
        return Ok(());
    }
    copy(
        &configuration,
        &tree.join("usr/share/xen-guest-agent/config.toml"),
    )?;
    fs::remove_file(&configuration).map_err(failed("remove", &configuration))
}

/// Adds copyright, licences of linked crates and changelog.
fn add_documents(
    build: &Build,
    program: &Program,
    licences: &str,
    tree: &Path,
) -> Result<(), String> {
    let documents = tree.join("usr/share/doc").join(program.package);
    copy(
        &build.root.join("packaging/deb/copyright"),
        &documents.join("copyright"),
    )?;

    let third_party = documents.join("third-party-licenses.txt");
    write(&third_party, licences)?;

    let date = date(build, "-R")?;
    let changelog = documents.join("changelog");
    let text = format!(
        "{} ({VERSION}) unstable; urgency=medium\n\n  * Release {VERSION}. See CHANGELOG.md.gz.\n\n -- {MAINTAINER}  {date}",
        program.package
    );
    write(&changelog, &text)?;

    let changes = documents.join("CHANGELOG.md");
    copy(&build.root.join("CHANGELOG.md"), &changes)?;
    tree::compress(&[third_party, changelog, changes])
}

/// Adds the package's metadata and returns the paths of its scripts.
fn add_control(
    build: &Build,
    program: &Program,
    architecture: &Architecture,
    tree: &Path,
) -> Result<Vec<String>, String> {
    let source = build.root.join("packaging/deb").join(program.package);
    let mut scripts = Vec::new();
    for path in files(&source)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name == "control" {
            continue;
        }
        if name == "lintian-overrides" {
            let overrides = tree.join("usr/share/lintian/overrides");
            copy(&path, &overrides.join(program.package))?;
            continue;
        }

        copy(&path, &tree.join("DEBIAN").join(&*name))?;
        scripts.push(format!("DEBIAN/{name}"));
    }

    let sums = output(Command::new("sh").current_dir(tree).args([
        "-c",
        "find . -path ./DEBIAN -prune -o -type f -printf '%P\\0' | LC_ALL=C sort -z | xargs -0 md5sum",
    ]))?;
    let size = output(Command::new("sh").current_dir(tree).args([
        "-c",
        "find . -type f -printf '%s\\n' | awk '{kib += int(($1 + 1023) / 1024)} END {print kib}'",
    ]))?;

    let control = read(&source.join("control"))?
        .replace("@VERSION@", VERSION)
        .replace("@ARCHITECTURE@", architecture.debian)
        .replace("@MAINTAINER@", MAINTAINER)
        .replace("@SIZE@", size.trim());
    write(&tree.join("DEBIAN/control"), &control)?;
    write(&tree.join("DEBIAN/md5sums"), &sums)?;
    Ok(scripts)
}
