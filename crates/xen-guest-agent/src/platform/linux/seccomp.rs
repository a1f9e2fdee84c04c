//! Filter of the system calls that the running agent makes.

use std::collections::BTreeMap;

use nix::libc;
use rustix::process::getpid;
use seccompiler::{
    BackendError, BpfProgram, Error, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op,
    SeccompCondition as Condition, SeccompFilter, SeccompRule, TargetArch,
};

/// System calls with any arguments. The agent or its C library (glibc or musl) makes them after the
/// start.
const CALLS: &[libc::c_long] = &[
    // Descriptors.
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_ppoll,
    // Files.
    libc::SYS_openat,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_getcwd,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_flock,
    libc::SYS_inotify_init1,
    libc::SYS_inotify_add_watch,
    libc::SYS_inotify_rm_watch,
    // Sockets, whose families `socket` limits.
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_shutdown,
    // Memory and locks.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_futex,
    // Clocks of Xen are not always readable without a system call.
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_nanosleep,
    libc::SYS_restart_syscall,
    // Signals and the end of the process.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // Properties of the process and the system.
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getrandom,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_sched_yield,
];

/// Older forms of the same calls, which newer architectures lack.
#[cfg(target_arch = "x86_64")]
const OLD_CALLS: &[libc::c_long] = &[
    libc::SYS_poll,
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_mkdir,
    libc::SYS_unlink,
    libc::SYS_rename,
    libc::SYS_chmod,
    libc::SYS_time,
];
#[cfg(not(target_arch = "x86_64"))]
const OLD_CALLS: &[libc::c_long] = &[];

/// Effect of any other call: the process ends, because a compromised process made it. On
/// architectures where not all tests have run, the call fails instead, so that a missing entry in
/// the list stops nobody's agent.
const OTHERWISE: SeccompAction = if cfg!(target_arch = "x86_64") {
    SeccompAction::KillProcess
} else {
    SeccompAction::Errno(libc::ENOSYS as u32)
};

/// Installs the filter. Returns `false` if the kernel has none.
pub(super) fn filter() -> Result<bool, Error> {
    match seccompiler::apply_filter(&program()?) {
        Err(Error::Seccomp(error))
            if [Some(libc::ENOSYS), Some(libc::EINVAL)].contains(&error.raw_os_error()) =>
        {
            Ok(false)
        }
        applied => applied.map(|()| true),
    }
}

fn program() -> Result<BpfProgram, BackendError> {
    let any = CALLS
        .iter()
        .chain(OLD_CALLS)
        .map(|call| (*call, Vec::new()));
    let filter = SeccompFilter::new(
        any.chain(limited()?).collect::<BTreeMap<_, _>>(),
        OTHERWISE,
        SeccompAction::Allow,
        TargetArch::try_from(std::env::consts::ARCH)?,
    )?;
    filter.try_into()
}

/// Returns the calls that are allowed with some arguments only.
fn limited() -> Result<Vec<(libc::c_long, Vec<SeccompRule>)>, BackendError> {
    // All values are positive.
    let int = |value: libc::c_int| u64::try_from(value).unwrap_or(u64::MAX);
    let is = |argument, value| Condition::new(argument, Len::Dword, Op::Eq, int(value));
    let any_of = |argument, values: &[libc::c_int]| {
        let rules = values
            .iter()
            .map(|value| SeccompRule::new(vec![is(argument, *value)?]));
        rules.collect::<Result<Vec<_>, _>>()
    };
    let own_process = || any_of(0, &[getpid().as_raw_nonzero().get()]);
    let is_data = Condition::new(2, Len::Dword, Op::MaskedEq(int(libc::PROT_EXEC)), 0)?;
    let data = || SeccompRule::new(vec![is_data.clone()]);

    Ok(vec![
        (
            libc::SYS_socket,
            vec![
                SeccompRule::new(vec![is(0, libc::AF_UNIX)?])?,
                SeccompRule::new(vec![is(0, libc::AF_NETLINK)?, is(2, libc::NETLINK_ROUTE)?])?,
            ],
        ),
        (libc::SYS_mmap, vec![data()?]),
        (libc::SYS_mprotect, vec![data()?]),
        (libc::SYS_ioctl, any_of(1, &[FIONBIO, SIOCGIFINDEX])?),
        (
            libc::SYS_fcntl,
            any_of(
                1,
                &[
                    libc::F_GETFD,
                    libc::F_SETFD,
                    libc::F_GETFL,
                    libc::F_SETFL,
                    libc::F_DUPFD_CLOEXEC,
                ],
            )?,
        ),
        // These end the process from abort(3), with glibc and with musl, and no other process.
        (libc::SYS_tgkill, own_process()?),
        (libc::SYS_tkill, own_process()?),
    ])
}

/// ioctl(2) that makes a descriptor non-blocking.
const FIONBIO: libc::c_int = 0x5421;

/// ioctl(2) that returns the index of a network interface.
const SIOCGIFINDEX: libc::c_int = 0x8933;
