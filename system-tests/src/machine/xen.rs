//! Images and modules that boot Xen.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::thread;

use super::packages::Packages;

/// Kernel modules of a domain 0 with bridges and file-backed disks.
pub(crate) const DOM0: &[&str] = &[
    "bridge",
    "loop",
    "xen-blkback",
    "xen-evtchn",
    "xen-gntalloc",
    "xen-gntdev",
    "xen-netback",
    "xen-privcmd",
    "xenfs",
];

/// Kernel modules of a guest.
pub(crate) const GUEST: &[&str] = &["8021q", "bridge", "xen-blkfront", "xen-netfront"];

/// Command line of the hypervisor. Domain 0 keeps the images of saved guests in memory.
pub(crate) const COMMAND_LINE: &str = "console=com1 com1=115200,8n1 dom0_mem=1100M,max:1100M dom0_max_vcpus=1 \
     loglvl=warning guest_loglvl=warning noreboot=0 spec-ctrl=no ucode=no watchdog=0";

/// Returns the image of the hypervisor.
pub(crate) fn hypervisor(packages: &Packages) -> Vec<u8> {
    let compressed =
        fs::read(packages.path("boot/xen-4.17-amd64.gz")).expect("read the hypervisor");
    filter("gzip", &compressed)
}

/// Extracts the ELF file from a kernel image, because the kernel would take long to unpack itself
/// under emulation.
pub(crate) fn vmlinux(image: &[u8]) -> Vec<u8> {
    // The format is described in Linux's Documentation/x86/boot.rst. The payload follows the boot
    // sector and setup sectors, and the last four bytes are its unpacked size.
    let number =
        |at: usize| u32::from_le_bytes(image[at..at + 4].try_into().expect("four bytes")) as usize;
    let start = (usize::from(image[0x1f1]) + 1) * 512 + number(0x248);
    let vmlinux = filter("xz", &image[start..start + number(0x24c) - 4]);
    assert!(
        vmlinux.starts_with(b"\x7fELF"),
        "the kernel's image holds no ELF file"
    );
    vmlinux
}

/// Unpacks with an external program.
fn filter(program: &str, compressed: &[u8]) -> Vec<u8> {
    let mut command = Command::new(program);
    command
        .args(["--decompress", "--stdout"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let mut stdin = child.stdin.take().expect("a pipe");
    let output = thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(compressed));
        child.wait_with_output().expect("wait for the program")
    });
    assert!(output.status.success(), "{program} failed");
    output.stdout
}
