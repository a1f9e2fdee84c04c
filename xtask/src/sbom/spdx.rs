//! SPDX 2.3, in JSON.

use serde_json::{Value, json};

use super::{Bill, Crate};

/// Returns the SBOM of `program`.
pub(super) fn document(bill: &Bill, program: &Crate) -> Value {
    let described = json!({
        "spdxElementId": "SPDXRef-DOCUMENT",
        "relationshipType": "DESCRIBES",
        "relatedSpdxElement": id(program),
    });
    let dependencies = bill.crates.iter().flat_map(|one| {
        let uses = one.uses.iter().filter_map(|index| bill.crates.get(*index));
        uses.map(|used| {
            json!({
                "spdxElementId": id(one),
                "relationshipType": "DEPENDS_ON",
                "relatedSpdxElement": id(used),
            })
        })
    });
    let name = format!("{}-{}", program.name, program.version);

    json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        // SPDX asks for a URI that no other document has. Nothing needs to exist there.
        "documentNamespace": format!("https://spdx.org/spdxdocs/{name}-{}", bill.date),
        "creationInfo": { "created": bill.date, "creators": ["Tool: xen-guest-agent-xtask"] },
        "packages": bill.crates.iter().map(package).collect::<Vec<_>>(),
        "relationships": std::iter::once(described).chain(dependencies).collect::<Vec<_>>(),
    })
}

/// Returns the identifier of a crate in the document, which allows only letters, digits, dots and dashes.
fn id(one: &Crate) -> String {
    let name = format!("{}-{}", one.name, one.version);
    format!("SPDXRef-Package-{}", name.replace(['_', '+'], "-"))
}

fn package(one: &Crate) -> Value {
    let archive = format!(
        "https://static.crates.io/crates/{0}/{0}-{1}.crate",
        one.name, one.version
    );
    let location = if one.checksum.is_some() {
        &archive
    } else {
        "NOASSERTION"
    };
    let checksums = one
        .checksum
        .iter()
        .map(|checksum| json!({ "algorithm": "SHA256", "checksumValue": checksum }));

    json!({
        "SPDXID": id(one),
        "name": one.name,
        "versionInfo": one.version,
        "downloadLocation": location,
        "filesAnalyzed": false,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": one.licence,
        "copyrightText": "NOASSERTION",
        "checksums": checksums.collect::<Vec<_>>(),
        "externalRefs": [{
            "referenceCategory": "PACKAGE-MANAGER",
            "referenceType": "purl",
            "referenceLocator": one.url(),
        }],
    })
}
