//! System extension for Talos Linux, as an image that contains the extension's files.

use std::path::PathBuf;

use serde_json::json;

use super::oci::{self, Root};
use super::{Architecture, Build, PROGRAMS, VERSION, copy, make_empty, read, write};

/// Builds the image for all architectures of `compiled`, each with its directory of binaries.
///
/// The list of crates in SPDX must exist already.
pub(super) fn build(build: &Build, compiled: &[(&Architecture, PathBuf)]) -> Result<(), String> {
    let [agent, _] = &PROGRAMS;
    let source = build.root.join("packaging/talos");
    let mut roots = Vec::new();
    for (architecture, binaries) in compiled {
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
        copy(&binaries.join(agent.binary), &program)?;
        let service = "xen-guest-agent.yaml";
        copy(
            &source.join(service),
            &local.join("etc/containers").join(service),
        )?;
        let bill = format!("{}-{VERSION}.spdx.json", agent.package);
        copy(
            &build.artefacts.join(bill),
            &local.join("share/spdx/xen-guest-agent.spdx.json"),
        )?;
        oci::add_licences(build, architecture, &local.join("share/licenses"))?;

        roots.push(Root {
            architecture,
            directory,
        });
    }

    oci::write_archive(build, "xen-guest-agent-talos", &json!({}), &roots)
}
