//! Container images, as archives in the layout of the Open Container Initiative (OCI).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::{
    Architecture, Build, Compiled, PROGRAMS, VERSION, archive, copy, create_dir, date, failed,
    files, make_empty, output, run, tree, write,
};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Root directory of an image for one architecture.
pub(super) struct RootDirectory<'a> {
    pub(super) architecture: &'a Architecture,
    pub(super) directory: PathBuf,
}

/// Builds the image of the agent for all architectures of `all_compiled`.
///
/// The image contains nothing but the agent and licences. It expects the machine's files below
/// `/host`.
pub(super) fn build(build: &Build, all_compiled: &[Compiled<'_>]) -> Result<(), String> {
    let [agent, _] = &PROGRAMS;
    let mut roots = Vec::new();
    for compiled in all_compiled {
        let directory = build.work.join("oci").join(compiled.architecture.name);
        make_empty(&directory)?;
        copy(
            &compiled.binaries.join(agent.binary),
            &directory.join(agent.installed),
        )?;
        create_dir(&directory.join("host"))?;

        let [licences, _] = &compiled.licences;
        let parent = directory.join("usr/share/licenses");
        tree::add_licences(build, agent, licences, &parent)?;
        roots.push(RootDirectory {
            architecture: compiled.architecture,
            directory,
        });
    }

    let process = json!({
        "Entrypoint": [format!("/{}", agent.installed)],
        "Cmd": ["--stderr", "--root", "/host"],
        "Env": ["PATH=/usr/sbin"],
    });
    write_archive(build, agent.package, &process, &roots)
}

/// Writes the archive `NAME-VERSION-oci.tar` of an image with one layer per architecture.
///
/// `process` has the keys of the image's configuration that describe its process.
pub(super) fn write_archive(
    build: &Build,
    name: &str,
    process: &Value,
    roots: &[RootDirectory<'_>],
) -> Result<(), String> {
    let layout = Layout::new(build, name)?;
    let mut manifests = Vec::new();
    for root in roots {
        manifests.push(layout.add_image(name, process, root)?);
    }

    // Registries and tools expect one entry for each tag, so the architectures have an index of
    // their own.
    let index = json!({
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": manifests,
        "annotations": annotations(name),
    });
    let mut image = layout.add_json(INDEX, &index)?;
    let tag = format!("{name}:{VERSION}");
    set(
        &mut image,
        "annotations",
        json!({ "org.opencontainers.image.ref.name": tag }),
    );

    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [image] });
    write(&layout.directory.join("index.json"), &index.to_string())?;
    let version = json!({ "imageLayoutVersion": "1.0.0" });
    write(&layout.directory.join("oci-layout"), &version.to_string())?;

    let archive = build.artefacts.join(format!("{name}-{VERSION}-oci.tar"));
    pack(build, &layout.directory, &archive)
}

/// Directory in the layout of an image, whose blobs are named by their digests.
struct Layout<'a> {
    build: &'a Build,
    directory: PathBuf,
}

impl<'a> Layout<'a> {
    fn new(build: &'a Build, name: &str) -> Result<Self, String> {
        let directory = build.work.join("oci").join(name);
        make_empty(&directory)?;
        create_dir(&directory.join("blobs/sha256"))?;
        Ok(Layout { build, directory })
    }

    /// Adds an image and returns its descriptor.
    fn add_image(
        &self,
        name: &str,
        process: &Value,
        root: &RootDirectory<'_>,
    ) -> Result<Value, String> {
        let packed = self.directory.join("layer.tar");
        pack(self.build, &root.directory, &packed)?;
        // An uncompressed layer is its own diff ID. Tools compress it when they push it.
        let layer = self.add_blob("application/vnd.oci.image.layer.v1.tar", &packed)?;

        let mut process = process.clone();
        set(&mut process, "Labels", annotations(name));
        let created = date(self.build, "+%Y-%m-%dT%H:%M:%SZ")?;
        let config = json!({
            "created": created,
            "architecture": root.architecture.debian,
            "os": "linux",
            "config": process,
            "rootfs": { "type": "layers", "diff_ids": [layer.get("digest")] },
            "history": [{ "created": created, "created_by": "cargo xtask dist" }],
        });
        let config = self.add_json("application/vnd.oci.image.config.v1+json", &config)?;

        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config,
            "layers": [layer],
            "annotations": annotations(name),
        });
        let mut image = self.add_json(MANIFEST, &manifest)?;
        let platform = json!({ "architecture": root.architecture.debian, "os": "linux" });
        set(&mut image, "platform", platform);
        Ok(image)
    }

    /// Adds a document and returns its descriptor.
    fn add_json(&self, media_type: &str, document: &Value) -> Result<Value, String> {
        let file = self.directory.join("document");
        write(&file, &document.to_string())?;
        self.add_blob(media_type, &file)
    }

    /// Moves a file to the blobs and returns its descriptor.
    fn add_blob(&self, media_type: &str, file: &Path) -> Result<Value, String> {
        let size = fs::metadata(file).map_err(failed("read", file))?.len();
        let sum = output(Command::new("sha256sum").arg(file))?;
        let hash = sum.split(' ').next().unwrap_or_default();
        let blob = self.directory.join("blobs/sha256").join(hash);
        fs::rename(file, &blob).map_err(failed("move", file))?;
        Ok(json!({ "mediaType": media_type, "digest": format!("sha256:{hash}"), "size": size }))
    }
}

/// Returns what a registry shows of an image.
fn annotations(name: &str) -> Value {
    json!({
        "org.opencontainers.image.title": name,
        "org.opencontainers.image.version": VERSION,
        "org.opencontainers.image.licenses": env!("CARGO_PKG_LICENSE"),
    })
}

/// Sets a key of a JSON object.
fn set(object: &mut Value, key: &str, value: Value) {
    if let Some(object) = object.as_object_mut() {
        object.insert(key.to_owned(), value);
    }
}

/// Packs the files of a directory into an archive that depends only on their names, contents and
/// permissions.
fn pack(build: &Build, directory: &Path, archive: &Path) -> Result<(), String> {
    let files = files(directory)?;
    let names = files.iter().filter_map(|path| path.file_name());
    run(archive::tar(build, directory, archive).args(names))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::ARCHITECTURES;
    use super::super::archive::tests::require_same_in_other_environment;
    use super::*;

    /// Writes an archive of an image with one file, and returns its path.
    fn archive(directory: &Path) -> PathBuf {
        let build = Build {
            root: directory.to_owned(),
            work: directory.join("work"),
            artefacts: directory.join("artefacts"),
            epoch: "1700000000".to_owned(),
        };
        create_dir(&build.artefacts).unwrap();
        let roots = ARCHITECTURES.each_ref().map(|architecture| {
            let directory = directory.join(architecture.name);
            let program = directory.join("usr/bin/program");
            write(&program, architecture.name).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
            RootDirectory {
                architecture,
                directory,
            }
        });

        let process = json!({ "Entrypoint": ["/usr/bin/program"] });
        write_archive(&build, "program", &process, &roots).unwrap();
        build.artefacts.join(format!("program-{VERSION}-oci.tar"))
    }

    /// Returns the document that `descriptor` describes, and requires its digest and size.
    fn document(layout: &Path, descriptor: &Value) -> Value {
        let hash = descriptor["digest"]
            .as_str()
            .and_then(|digest| digest.strip_prefix("sha256:"))
            .unwrap();
        let blob = layout.join("blobs/sha256").join(hash);
        assert_eq!(descriptor["size"], fs::metadata(&blob).unwrap().len());
        let sum = output(Command::new("sha256sum").arg(&blob)).unwrap();
        assert!(sum.starts_with(hash), "{sum}");
        serde_json::from_slice(&fs::read(&blob).unwrap()).unwrap_or_default()
    }

    #[test]
    fn archive_contains_every_blob_under_its_digest() {
        let directory = tempfile::tempdir().unwrap();
        let archive = archive(directory.path());
        let layout = directory.path().join("unpacked");
        create_dir(&layout).unwrap();
        run(Command::new("tar")
            .arg("-xf")
            .arg(&archive)
            .arg("-C")
            .arg(&layout))
        .unwrap();

        let index = read_json(&layout.join("index.json"));
        let images = document(&layout, &index["manifests"][0]);
        let images = images["manifests"].as_array().unwrap();
        assert_eq!(images.len(), 2);
        for (image, architecture) in images.iter().zip(["amd64", "arm64"]) {
            assert_eq!(image["platform"]["architecture"], architecture);
            let manifest = document(&layout, image);
            let config = document(&layout, &manifest["config"]);
            assert_eq!(config["architecture"], architecture);
            assert_eq!(config["config"]["Entrypoint"][0], "/usr/bin/program");

            let layer = &manifest["layers"][0];
            document(&layout, layer);
            assert_eq!(config["rootfs"]["diff_ids"][0], layer["digest"]);
        }
        // Two images of three blobs each, and their index.
        let blobs = fs::read_dir(layout.join("blobs/sha256")).unwrap();
        assert_eq!(blobs.count(), 7);
    }

    #[test]
    fn archive_does_not_depend_on_the_directory() {
        let [first, second] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let [first, second] = [first.path(), second.path()].map(archive);
        assert_eq!(fs::read(first).unwrap(), fs::read(second).unwrap());
    }

    #[test]
    fn archive_does_not_depend_on_the_environment() {
        require_same_in_other_environment(
            "dist::oci::tests::archive_does_not_depend_on_the_environment",
            archive,
        );
    }

    fn read_json(file: &Path) -> Value {
        serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
    }
}
