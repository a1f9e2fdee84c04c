//! Withdrawal: an agent that removes the nodes of all agents, when the package is removed.

use std::collections::BTreeSet;

use xen_guest_agent::agent::Agent;
use xen_guest_agent::guest::Services;
use xen_guest_agent::schema::Name;
use xenstore::embedded::Toolstack;
use xenstore::wire::MessageKind;
use xenstore::{ErrorCode, Path};

use crate::harness::{Harness, guest};
use crate::server_faults::Refusal;
use crate::stale_nodes::{AGENTS, OTHERS};

/// Services whose names the state file has.
fn services(names: &[&str]) -> Services {
    Services {
        withdrawn: names.iter().map(|name| (*name).to_owned()).collect(),
        ..Services::default()
    }
}

/// Replaces the agent by one that withdraws, and lets it work as the command does.
fn withdraw(harness: &mut Harness, names: &[&str]) {
    harness.abandon();
    harness.agent = Agent::withdrawing(services(names));
    harness.connect();
    harness.agent.compare();
    harness.settle();
    assert!(harness.agent.is_published());
}

/// Returns the failed removals that the command would print.
fn failures(harness: &mut Harness) -> Vec<String> {
    harness.agent.take_failures().collect()
}

#[test]
fn withdrawal_leaves_the_tree_as_the_toolstack_made_it() {
    for toolstack in [Toolstack::Xapi, Toolstack::Libxl] {
        for schema in [Name::Std, Name::Rfc] {
            for is_device in [false, true] {
                let mut harness = Harness::unconnected(toolstack, guest());
                harness.is_device = is_device;
                let (before, nodes) = (harness.tree(), harness.nodes());
                harness.restart_with(schema);
                assert!(harness.nodes().len() > nodes.len() + 10);

                withdraw(&mut harness, &[]);
                assert_eq!(harness.tree(), before, "{toolstack:?} {schema:?}");
                assert_eq!(failures(&mut harness), [] as [&str; 0]);
            }
        }
    }
}

#[test]
fn withdrawal_removes_nodes_of_both_schemas_and_of_earlier_agents_and_keeps_foreign_ones() {
    for (name, nodes) in AGENTS {
        let mut harness = Harness::unconnected(Toolstack::Xapi, guest());
        for (path, value) in OTHERS {
            harness.write(path, value);
        }
        let before = harness.tree();
        harness.restart_with(Name::Rfc);
        let rfc = harness.tree();
        harness.restart_with(Name::Std);

        // A guest that was restored from a backup may have the nodes of several agents.
        for (path, value) in rfc {
            harness.write(&path, &value);
        }
        for (path, value) in nodes {
            harness.write(path, value);
        }

        withdraw(&mut harness, &[]);
        assert_eq!(harness.tree(), before, "{name}");
    }
}

#[test]
fn withdrawal_of_nothing_sends_no_removal() {
    let mut harness = Harness::unconnected(Toolstack::Xapi, guest());
    withdraw(&mut harness, &["web"]);
    assert_eq!(
        harness.requests(MessageKind::RM) + harness.requests(MessageKind::WRITE),
        0
    );
}

#[test]
fn withdrawal_removes_remembered_services_only() {
    let publish = |harness: &mut Harness| {
        harness.agent.update(|guest| {
            let facts = [("state".to_owned(), "up".to_owned())].into();
            guest.services.facts = [("web".to_owned(), facts)].into();
            true
        });
        harness.settle();
        assert_eq!(
            harness.read("data/service/web/state").as_deref(),
            Some("up")
        );
    };

    let mut harness = Harness::unconnected(Toolstack::Xapi, guest());
    let before = harness.tree();
    harness.connect();
    publish(&mut harness);
    withdraw(&mut harness, &["web"]);
    assert_eq!(harness.tree(), before, "the agent created data/service");

    harness.write("data/service/their/state", "up");
    let before = harness.tree();
    harness.restart();
    publish(&mut harness);
    withdraw(&mut harness, &["web"]);
    assert_eq!(harness.tree(), before);
}

#[test]
fn denied_removal_is_reported_and_the_rest_withdrawn() {
    let mut harness = Harness::new(Toolstack::Xapi);
    let refusal = |path, code| Refusal::of(Some(MessageKind::RM), path, code);
    harness.set_refusals([
        refusal("attr/vif", ErrorCode::EACCES),
        refusal("data/os_uname", ErrorCode::EIO),
    ]);
    withdraw(&mut harness, &[]);

    let remaining: BTreeSet<_> = harness.published().into_keys().collect();
    let is_denied = |path: &String| path.starts_with("attr/vif/") || path == "data/os_uname";
    assert!(remaining.iter().all(is_denied), "{remaining:?}");
    assert!(remaining.contains("attr/vif/0/ipv4/0") && remaining.contains("data/os_uname"));
    let nodes = |nodes: Vec<&Path>| nodes.into_iter().map(Path::to_string).collect::<Vec<_>>();
    assert_eq!(nodes(harness.agent.denied().collect()), ["attr/vif"]);
    assert_eq!(nodes(harness.agent.deferred().collect()), ["data/os_uname"]);
    assert_eq!(
        failures(&mut harness),
        [
            "RM data/os_uname: internal error of the server (EIO)",
            "RM attr/vif: no write access (EACCES)"
        ]
    );

    harness.clear_refusals();
    withdraw(&mut harness, &[]);
    assert_eq!(harness.published().len(), 0);
}

#[test]
fn interrupted_withdrawal_is_completed_by_the_next() {
    let mut harness = Harness::unconnected(Toolstack::Xapi, guest());
    let before = harness.tree();
    harness.connect();
    let requests = harness.all_requests();
    withdraw(&mut harness, &[]);
    let requests = harness.all_requests() - requests;
    assert!(requests > 20, "{requests}");

    for after in 0..requests {
        let mut harness = Harness::new(Toolstack::Xapi);
        harness.abandon();
        harness.disconnect_after(after);
        harness.agent = Agent::withdrawing(Services::default());
        harness.connect();
        harness.cancel_disconnect();
        withdraw(&mut harness, &[]);
        assert_eq!(
            harness.published().len(),
            0,
            "interrupted after {after} requests"
        );
    }
    assert_eq!(harness.tree(), before);
}
