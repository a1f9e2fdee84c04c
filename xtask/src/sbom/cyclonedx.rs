//! `CycloneDX` 1.5, in JSON.

use serde_json::{Value, json};

use super::{Bill, Crate};

/// Returns the SBOM of `program`.
pub(super) fn document(bill: &Bill, program: &Crate) -> Value {
    let dependencies = bill.crates.iter().map(|one| {
        let uses = one.uses.iter().filter_map(|index| bill.crates.get(*index));
        json!({ "ref": one.url(), "dependsOn": uses.map(Crate::url).collect::<Vec<_>>() })
    });

    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": bill.date,
            "component": component(program, "application"),
        },
        "components": bill.crates.iter().skip(1).map(|one| component(one, "library")).collect::<Vec<_>>(),
        "dependencies": dependencies.collect::<Vec<_>>(),
    })
}

fn component(one: &Crate, kind: &str) -> Value {
    let mut component = json!({
        "type": kind,
        "bom-ref": one.url(),
        "name": one.name,
        "version": one.version,
        "licenses": [{ "expression": one.licence }],
        "purl": one.url(),
    });
    if let (Some(checksum), Some(fields)) = (&one.checksum, component.as_object_mut()) {
        let hashes = json!([{ "alg": "SHA-256", "content": checksum }]);
        fields.insert("hashes".to_owned(), hashes);
    }
    component
}
