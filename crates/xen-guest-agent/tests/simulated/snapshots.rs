//! Snapshots of the nodes of each sample guest, and of how xapi reads them.

use std::fmt::Write as _;

use xen_guest_agent::schema::Name;

use crate::harness::Harness;
use crate::sample_guests;
use crate::xapi_reader::GuestMetrics;

#[test]
fn snapshots_of_all_guests() {
    for sample in sample_guests::all() {
        let mut shown = String::new();
        for (schema, name) in [(Name::Std, "std"), (Name::Rfc, "rfc")] {
            let mut harness = Harness::with_schema(sample.guest.clone(), schema);
            let before = harness.nodes();
            harness.connect();
            writeln!(shown, "# {name}").unwrap();
            for (path, value) in harness
                .nodes()
                .iter()
                .filter(|(path, _)| !before.contains_key(*path))
            {
                writeln!(shown, "{path} = {value}").unwrap();
            }
            let read = GuestMetrics::read(&harness.tree());
            writeln!(shown, "\n# {name}, as it is read\n{read}").unwrap();
            assert_eq!(
                read.drivers().as_deref(),
                Some(concat!(env!("CARGO_PKG_VERSION"), "-1")),
                "{}",
                sample.name
            );
            let expected = sample.main_address.filter(|_| schema == Name::Std);
            assert_eq!(
                read.main_address(),
                expected.map(|ip| ip.parse().unwrap()),
                "{}",
                sample.name
            );
        }
        insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!(sample.name, shown);
        });
    }
}
