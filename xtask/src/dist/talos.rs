//! System extension for Talos Linux, as an image that contains the extension's files.

use serde_json::json;

use super::oci::{self, RootDirectory};
use super::{Build, Compiled, PROGRAMS, VERSION, copy, make_empty, read, tree, write};

/// Builds the image for all architectures of `all_compiled`.
///
/// The SBOM in SPDX must exist already.
pub(super) fn build(build: &Build, all_compiled: &[Compiled<'_>]) -> Result<(), String> {
    let [agent, _] = &PROGRAMS;
    let source = build.root.join("packaging/talos");
    let mut roots = Vec::new();
    for compiled in all_compiled {
        let architecture = compiled.architecture;
        let directory = build.work.join("talos").join(architecture.name);
        make_empty(&directory)?;
        let manifest = read(&source.join("manifest.yaml"))?.replace("@VERSION@", VERSION);
        write(&directory.join("manifest.yaml"), &manifest)?;

        // Talos accepts only files below /usr/local.
        let local = directory.join("rootfs/usr/local");
        let program = local
            .join("lib/containers")
            .join(agent.package)
            .join(agent.binary);
        copy(&compiled.binaries.join(agent.binary), &program)?;
        let service = "xen-guest-agent.yaml";
        copy(
            &source.join(service),
            &local.join("etc/containers").join(service),
        )?;
        let sbom = format!("{}-{VERSION}.spdx.json", agent.package);
        copy(
            &build.artefacts.join(sbom),
            &local.join("share/spdx/xen-guest-agent.spdx.json"),
        )?;
        let [licences, _] = &compiled.licences;
        tree::add_licences(build, agent, licences, &local.join("share/licenses"))?;

        roots.push(RootDirectory {
            architecture,
            directory,
        });
    }

    oci::write_archive(build, "xen-guest-agent-talos", &json!({}), &roots)
}
