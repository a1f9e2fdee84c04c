//! Container images that `cargo xtask dist` builds, run by Podman as `docs/containers.md` says.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "this is test code"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use system_tests::{
    Collector, Daemon, Testbed, Toolstack, artefact, is_published_with_link_local, output,
    repository_root,
};
use tempfile::TempDir;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The device, in whose place the testbed has the socket of its guest.
const DEVICE: &str = "/dev/xen/xenbus";

/// Returns the path of an image that was built before the tests.
fn image(name: &str) -> PathBuf {
    artefact(&format!("{name}-{VERSION}-oci.tar"))
}

/// Returns the arguments of `podman run` in `docs/containers.md`, without those words.
fn documented_command() -> Vec<String> {
    let document = fs::read_to_string(repository_root().join("docs/containers.md")).unwrap();
    let (_, command) = document.split_once("\npodman run ").unwrap();
    let (command, _) = command.split_once("\npodman ").unwrap();
    let words = command.split_whitespace().filter(|word| *word != "\\");
    words.map(str::to_owned).collect()
}

/// Returns the values of `--volume` in `arguments`.
fn volumes(arguments: &[String]) -> BTreeSet<String> {
    let pairs = arguments.windows(2);
    pairs
        .filter(|pair| pair[0] == "--volume")
        .map(|pair| pair[1].clone())
        .collect()
}

fn read_yaml(path: &Path) -> Value {
    let convert =
        "import json, sys, yaml; json.dump(yaml.safe_load(open(sys.argv[1])), sys.stdout)";
    let json = output(Command::new("python3").args(["-c", convert]).arg(path));
    serde_json::from_str(&json).unwrap()
}

fn words(list: &Value) -> Vec<String> {
    let list = list.as_array().unwrap().iter();
    list.map(|word| word.as_str().unwrap().to_owned()).collect()
}

/// Configuration of Podman, whose default limits need `CAP_SYS_RESOURCE` on some machines.
const LIMITS: &str =
    "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n";

/// Podman with a storage of its own, and a guest of a real xenstored whose files are the machine.
struct Podman {
    storage: TempDir,
    testbed: Testbed,
}

impl Podman {
    fn new() -> Self {
        let testbed = Testbed::new(Daemon::C, Toolstack::Xapi, Collector::Netlink, &["eth0"]);
        testbed.network.ip("address add 192.0.2.2/24 dev eth0");
        for directory in ["dev/xen", "run/xen-guest-agent", "usr/lib"] {
            fs::create_dir_all(testbed.root.join(directory)).unwrap();
        }
        let storage = tempfile::tempdir().unwrap();
        fs::write(storage.path().join("containers.conf"), LIMITS).unwrap();

        let podman = Podman { storage, testbed };
        fs::hard_link(podman.testbed.guest.socket(), podman.path(DEVICE)).unwrap();
        podman
    }

    /// Returns the path of a file of the machine in the testbed.
    fn path(&self, file: &str) -> String {
        let path = self.testbed.root.join(file.trim_start_matches('/'));
        path.to_str().unwrap().to_owned()
    }

    /// Returns a command of Podman in the guest's network, which `--network host` therefore means.
    fn command(&self) -> Command {
        let mut command = self.testbed.network.command("podman");
        command
            .env(
                "CONTAINERS_CONF",
                self.storage.path().join("containers.conf"),
            )
            .arg("--root")
            .arg(self.storage.path().join("root"))
            .arg("--runroot")
            .arg(self.storage.path().join("run"))
            .args([
                "--storage-driver=vfs",
                "--cgroup-manager=cgroupfs",
                "--runtime=runc",
            ]);
        command
    }

    fn run(&self, arguments: &[&str]) -> String {
        output(self.command().args(arguments))
    }

    /// Loads the image of the agent.
    fn load(&self) {
        let archive = image("xen-guest-agent");
        self.run(&["load", "--input", archive.to_str().unwrap()]);
    }

    /// Replaces the machine's file in a value of `--volume` by that of the testbed.
    fn volume(&self, volume: &str) -> String {
        let (source, rest) = volume.split_once(':').unwrap();
        format!("{}:{rest}", self.path(source))
    }

    /// Requires that the agent publishes the facts of the testbed.
    fn require_publication(&mut self) {
        self.testbed.await_nodes(is_published_with_link_local);
        let nodes = self.testbed.await_network();
        assert_eq!(nodes["attr/vif/0/ipv4/0"], "192.0.2.2");
        assert_eq!(nodes["data/os_distro"], "debian");
        assert_eq!(nodes["data/host_name_dns"], "web1");
        assert_eq!(nodes["data/meminfo_total"], "1048576");
    }

    /// Stops the agent's container, and requires the agent's exit status 0.
    fn stop(&self, container: &str) {
        self.run(&["stop", "--time=10", container]);
        let status = self.run(&["inspect", "--format={{.State.ExitCode}}", container]);
        assert_eq!(status.trim(), "0");
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        for kind in [["pod", "rm"], ["container", "rm"]] {
            let mut remove = self.command();
            remove.args(kind).args(["--all", "--force", "--time=0"]);
            remove.output().ok();
        }
    }
}

#[test]
#[ignore = "needs root, xenstored, podman and cargo xtask dist"]
fn documented_command_publishes_the_machine() {
    let mut podman = Podman::new();
    podman.load();

    let mut arguments = vec!["run".to_owned()];
    for word in documented_command() {
        arguments.push(match word.as_str() {
            "--device" => "--volume".to_owned(),
            DEVICE => podman.volume(&format!("{DEVICE}:{DEVICE}")),
            volume if volume.contains(":/host/") => podman.volume(volume),
            _ => word,
        });
    }
    assert_eq!(
        arguments.last().unwrap(),
        &format!("xen-guest-agent:{VERSION}")
    );
    let defaults = "--format={{json .Config.Cmd}}";
    let defaults = podman.run(&["image", "inspect", defaults, arguments.last().unwrap()]);
    arguments.extend(words(&serde_json::from_str(&defaults).unwrap()));
    arguments.push(format!("--xenstore=socket={DEVICE}"));
    output(podman.command().args(&arguments));
    podman.require_publication();

    let status = [
        "xen-guest-agent",
        "xen-guest-agent",
        "status",
        "--root",
        "/host",
    ];
    let status = podman.run(&[&["exec"], &status[..]].concat());
    assert!(status.contains("state = \"published\""), "{status}");
    podman.stop("xen-guest-agent");
}

#[test]
#[ignore = "needs root, xenstored, podman, skopeo, PyYAML and cargo xtask dist"]
fn service_of_talos_publishes_the_machine() {
    let mut podman = Podman::new();
    let extension = podman.storage.path().join("extension");
    let layers = podman.storage.path().join("layers");
    fs::create_dir(&extension).unwrap();
    output(
        Command::new("skopeo")
            .arg("copy")
            .arg(format!(
                "oci-archive:{}",
                image("xen-guest-agent-talos").display()
            ))
            .arg(format!("dir:{}", layers.display())),
    );
    let manifest: Value =
        serde_json::from_slice(&fs::read(layers.join("manifest.json")).unwrap()).unwrap();
    let [layer] = &manifest["layers"].as_array().unwrap()[..] else {
        panic!("{manifest}");
    };
    let layer = layer["digest"]
        .as_str()
        .unwrap()
        .trim_start_matches("sha256:");
    output(
        Command::new("tar")
            .arg("--extract")
            .arg("--file")
            .arg(layers.join(layer))
            .arg("--directory")
            .arg(&extension),
    );

    let manifest = read_yaml(&extension.join("manifest.yaml"));
    assert_eq!(manifest["version"], "v1alpha1");
    assert_eq!(manifest["metadata"]["name"], "xen-guest-agent");
    assert_eq!(manifest["metadata"]["version"], VERSION);
    let local = extension.join("rootfs/usr/local");
    let bill = fs::read(local.join("share/spdx/xen-guest-agent.spdx.json")).unwrap();
    let bill: Value = serde_json::from_slice(&bill).unwrap();
    assert_eq!(bill["spdxVersion"], "SPDX-2.3");

    let service = read_yaml(&local.join("etc/containers/xen-guest-agent.yaml"));
    let container = &service["container"];
    let mut arguments: Vec<String> = [
        "run",
        "--detach",
        "--name=xen-guest-agent",
        "--read-only",
        "--network=host",
    ]
    .map(str::to_owned)
    .into();
    for mount in talos_mounts(container) {
        arguments.extend(["--volume".to_owned(), podman.volume(&mount)]);
    }
    let files = local
        .join("lib/containers")
        .join(service["name"].as_str().unwrap());
    arguments.extend(["--rootfs", files.to_str().unwrap()].map(str::to_owned));
    arguments.push(container["entrypoint"].as_str().unwrap().to_owned());
    arguments.extend(words(&container["args"]));
    arguments.push(format!("--xenstore=socket={DEVICE}"));
    output(podman.command().args(&arguments));
    podman.require_publication();
    podman.stop("xen-guest-agent");
}

/// Returns the mounts of a Talos service as values of `--volume`.
fn talos_mounts(container: &Value) -> BTreeSet<String> {
    let mounts = container["mounts"].as_array().unwrap().iter();
    mounts
        .map(|mount| {
            let options = words(&mount["options"]);
            let read_only = options.iter().any(|option| option == "ro");
            volume(&mount["source"], &mount["destination"], read_only)
        })
        .collect()
}

fn volume(source: &Value, destination: &Value, read_only: bool) -> String {
    let (source, destination) = (source.as_str().unwrap(), destination.as_str().unwrap());
    let mode = if read_only { ":ro" } else { "" };
    format!("{source}:{destination}{mode}")
}

#[test]
#[ignore = "needs root, xenstored, podman, catatonit, PyYAML and cargo xtask dist"]
fn daemonset_publishes_the_machine() {
    let mut podman = Podman::new();
    podman.load();

    // Podman 4.3 knows pods, but no DaemonSet.
    let mut pod =
        read_yaml(&repository_root().join("docs/daemonset.yaml"))["spec"]["template"].take();
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    pod["metadata"]["name"] = json!("pod");
    let container = &mut pod["spec"]["containers"][0];
    container["image"] = json!(format!("localhost/xen-guest-agent:{VERSION}"));
    let arguments = container["args"].as_array_mut().unwrap();
    arguments.push(json!(format!("--xenstore=socket={DEVICE}")));
    for volume in pod["spec"]["volumes"].as_array_mut().unwrap() {
        let path = &mut volume["hostPath"]["path"];
        *path = json!(podman.path(path.as_str().unwrap()));
    }

    let file = podman.storage.path().join("pod.json");
    fs::write(&file, pod.to_string()).unwrap();
    podman.run(&["play", "kube", file.to_str().unwrap()]);
    podman.require_publication();
    podman.stop("pod-xen-guest-agent");
}

#[test]
#[ignore = "needs PyYAML"]
fn all_containers_have_the_documented_mounts() {
    let mut documented = volumes(&documented_command());
    assert_eq!(documented.len(), 5);
    documented.insert("/dev/xen:/dev/xen".to_owned());

    let service = read_yaml(&repository_root().join("packaging/talos/xen-guest-agent.yaml"));
    assert_eq!(talos_mounts(&service["container"]), documented);

    let daemonset = read_yaml(&repository_root().join("docs/daemonset.yaml"));
    let pod = &daemonset["spec"]["template"]["spec"];
    assert_eq!([&pod["hostNetwork"], &pod["hostPID"]], [true, true]);
    let container = &pod["containers"][0];
    assert_eq!(
        words(&container["args"]),
        words(&service["container"]["args"])
    );
    let image = container["image"].as_str().unwrap();
    assert!(
        image.ends_with(&format!("/xen-guest-agent:{VERSION}")),
        "{image}"
    );

    let hosts = pod["volumes"].as_array().unwrap();
    let mounts = container["volumeMounts"].as_array().unwrap().iter();
    let mounts = mounts.map(|mount| {
        let host = hosts
            .iter()
            .find(|host| host["name"] == mount["name"])
            .unwrap();
        volume(
            &host["hostPath"]["path"],
            &mount["mountPath"],
            mount["readOnly"] == true,
        )
    });
    assert_eq!(mounts.collect::<BTreeSet<_>>(), documented);
}
