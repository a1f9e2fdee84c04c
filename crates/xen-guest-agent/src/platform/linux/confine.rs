//! Giving up privileges: user, capabilities, Landlock and seccomp.

use std::io;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, LandlockStatus, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Gid, Uid, getegid, getuid, set_dumpable_behavior};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};

use crate::confine::{Outcome, Plan, USER, User};

/// Version of Landlock whose rights are restricted, as far as the kernel has them.
const LANDLOCK: ABI = ABI::V6;

/// Capabilities that [`confine`] needs.
const NEEDED: CapabilitySet = CapabilitySet::SETUID
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETPCAP);

/// Whether the process has the capabilities to change its user and group.
pub(super) fn can_change_user() -> bool {
    let needed = NEEDED.difference(CapabilitySet::SETPCAP);
    capabilities(None).is_ok_and(|sets| sets.effective.contains(needed))
}

/// Calls `act` with another effective group, if the process may change the group.
pub(super) fn in_group<T>(gid: u32, act: impl FnOnce() -> T) -> T {
    let set_group = |group| set_thread_res_gid(None::<Gid>, Some(group), None::<Gid>);
    let old = getegid();
    let is_changed = set_group(Gid::from_raw(gid)).is_ok();
    let result = act();
    if is_changed {
        // The old group is still the real or the saved one, so that no privilege is necessary.
        set_group(old).ok();
    }
    result
}

/// Gives up all capabilities but those that [`confine`] needs.
pub(super) fn reduce_capabilities() -> io::Result<()> {
    let sets = capabilities(None)?;
    let kept = CapabilitySets {
        effective: sets.effective.intersection(NEEDED),
        permitted: sets.permitted.intersection(NEEDED),
        inheritable: CapabilitySet::empty(),
    };
    Ok(set_capabilities(None, kept)?)
}

/// Gives up all privileges that are not part of the plan. Each step that fails leaves the others in
/// force. The filter of system calls comes last, because the other steps need more calls.
pub(super) fn confine(plan: &Plan) -> Outcome {
    let mut outcome = Outcome::default();
    let bounding_set = clear_bounding_set();
    step(&mut outcome, "clear the bounding set", bounding_set);

    if let Some(user) = plan.user {
        let changed = change_user(user);
        outcome.is_user_changed =
            step(&mut outcome, &format!("change to the user {USER}"), changed);
    }
    outcome.in_force.push(if outcome.is_user_changed {
        format!("user {USER}")
    } else {
        format!("uid {}", getuid())
    });

    if step(&mut outcome, "give up capabilities", clear_capabilities()) {
        outcome.in_force.push("no capabilities".to_owned());
    }
    if step(
        &mut outcome,
        "refuse new privileges",
        set_no_new_privs(true),
    ) {
        outcome.in_force.push("no new privileges".to_owned());
    }
    let not_dumpable = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    step(&mut outcome, "prevent core dumps", not_dumpable);

    match restrict_files(plan) {
        Ok(Some(abi)) => outcome.in_force.push(format!("Landlock {abi:?}")),
        Ok(None) => outcome.unavailable.push("Landlock"),
        Err(error) => outcome.problems.push(format!("restrict files: {error}")),
    }
    match filter_system_calls() {
        Ok(true) => outcome.in_force.push("seccomp".to_owned()),
        Ok(false) => outcome.unavailable.push("seccomp"),
        Err(error) => {
            let problem = format!("restrict system calls: {error}");
            outcome.problems.push(problem);
        }
    }
    outcome
}

/// Records a step that failed. Returns whether it succeeded.
fn step(outcome: &mut Outcome, action: &str, result: Result<(), Errno>) -> bool {
    let problem = result.map_err(|error| format!("{action}: {error}"));
    let is_done = problem.is_ok();
    outcome.problems.extend(problem.err());
    is_done
}

/// Removes all capabilities from the bounding set. Without the capability to do so, an ordinary
/// user relies on the later refusal of new privileges.
fn clear_bounding_set() -> Result<(), Errno> {
    if !capabilities(None)?
        .effective
        .contains(CapabilitySet::SETPCAP)
    {
        return Ok(());
    }
    for capability in CapabilitySet::all().iter() {
        match remove_capability_from_bounding_set(capability) {
            // The kernel is older than the capability.
            Ok(()) | Err(Errno::INVAL) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Changes groups and user for good. The process has one thread, so that thread's user is enough.
fn change_user(user: User) -> Result<(), Errno> {
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    set_thread_groups(&[])?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)
}

fn clear_capabilities() -> Result<(), Errno> {
    match clear_ambient_capability_set() {
        // Linux has ambient capabilities since 4.3.
        Ok(()) | Err(Errno::INVAL) => {}
        Err(error) => return Err(error),
    }
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    // A service manager may have left none, and refuse the call that gives up some.
    if capabilities(None)? == none {
        return Ok(());
    }
    set_capabilities(None, none)
}

/// Restricts files, TCP and signals by Landlock. Returns the version in force, or `None` if the
/// kernel has no Landlock.
fn restrict_files(plan: &Plan) -> Result<Option<ABI>, RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let open_device = AccessFs::ReadFile | AccessFs::WriteFile;
    let mut write = open_device
        | AccessFs::ReadDir
        | AccessFs::MakeReg
        | AccessFs::RemoveFile
        | AccessFs::Truncate;
    if plan.user.is_none() {
        // The runtime directory is writable too, with the directory of state and the socket.
        write |= AccessFs::MakeDir | AccessFs::MakeSock;
    }
    let scope = if plan.uses_abstract_socket {
        Scope::Signal.into()
    } else {
        Scope::from_all(LANDLOCK)
    };

    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(LANDLOCK))?
        .handle_access(AccessNet::from_all(LANDLOCK))?
        .scope(scope)?
        .create()?
        .add_rules(path_beneath_rules(&plan.readable, read))?
        // The agent opens its own descriptors again, whatever its root directory is.
        .add_rules(path_beneath_rules(["/proc"], read))?
        .add_rules(path_beneath_rules(&plan.writable, write))?
        .add_rules(path_beneath_rules(&plan.devices, open_device))?
        .restrict_self()?;
    Ok(match (status.ruleset, status.landlock) {
        (RulesetStatus::NotEnforced, _) => None,
        (_, LandlockStatus::Available { effective_abi, .. }) => Some(effective_abi),
        _ => None,
    })
}

/// Installs the filter of system calls. Returns `false` if the kernel has none, or if no list was
/// made for this architecture.
#[cfg(any(target_arch = "aarch64", target_arch = "x86_64"))]
fn filter_system_calls() -> Result<bool, seccompiler::Error> {
    super::seccomp::filter()
}
#[cfg(not(any(target_arch = "aarch64", target_arch = "x86_64")))]
fn filter_system_calls() -> Result<bool, seccompiler::Error> {
    Ok(false)
}
