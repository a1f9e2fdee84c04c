//! Recipes of packages in `packaging/`, as far as this machine can check them.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "this is test code"
)]

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use system_tests::{output, repository_root};

const VERSION: &str = env!("CARGO_PKG_VERSION");

#[test]
fn recipes_have_the_version_of_the_programs() {
    for (file, line) in [
        ("alpine/APKBUILD", format!("pkgver={VERSION}")),
        ("arch/PKGBUILD", format!("pkgver={VERSION}")),
        (
            "buildroot/xen-guest-agent.mk",
            format!("XEN_GUEST_AGENT_VERSION = {VERSION}"),
        ),
        ("freebsd/Makefile", format!("DISTVERSION=\t{VERSION}")),
    ] {
        let text = fs::read_to_string(repository_root().join("packaging").join(file)).unwrap();
        assert!(text.lines().any(|found| found == line), "{file}: {line}");
    }
}

/// Stands for Buildroot: defines the variables that the recipe uses, and runs its commands.
const BUILDROOT: &str = r"
INSTALL = install
RUSTC_TARGET_NAME = target-name
include $(RECIPE)

$(BUILD)/%:
	$(XEN_GUEST_AGENT_INSTALL_TARGET_CMDS)
	$(XEN_GUEST_AGENT_INSTALL_INIT_$*)
";

/// Installs the files by the commands of the recipe, and returns those besides the program.
fn install_by_buildroot(init: &str) -> Vec<(String, u32)> {
    let directory = tempfile::tempdir().unwrap();
    let [build, target] = ["build", "target"].map(|name| directory.path().join(name));
    let program = build.join("target/target-name/release/xen-guest-agent");
    fs::create_dir_all(program.parent().unwrap()).unwrap();
    fs::write(&program, "program").unwrap();
    symlink(repository_root().join("dist"), build.join("dist")).unwrap();
    let makefile = directory.path().join("Makefile");
    fs::write(&makefile, BUILDROOT).unwrap();

    let recipe = repository_root().join("packaging/buildroot/xen-guest-agent.mk");
    output(
        Command::new("make")
            .arg(format!("--file={}", makefile.display()))
            .arg(format!("RECIPE={}", recipe.display()))
            .arg(format!("BUILD={}", build.display()))
            .arg(format!("TARGET_DIR={}", target.display()))
            .arg(build.join(init)),
    );

    let find = ["-type", "f", "-o", "-type", "d", "-empty"];
    let found = output(Command::new("find").arg(&target).args(find));
    let mut installed: Vec<_> = found
        .lines()
        .map(|path| {
            let name = Path::new(path).strip_prefix(&target).unwrap();
            let mode = fs::metadata(path).unwrap().permissions().mode() & 0o777;
            (name.to_str().unwrap().to_owned(), mode)
        })
        .collect();
    installed.sort();
    installed
}

#[test]
#[ignore = "needs make"]
fn buildroot_recipe_installs_agent_and_service() {
    let mut expected: Vec<_> = [
        ("etc/xen-guest-agent/conf.d", 0o755),
        ("etc/xen-guest-agent/config.toml", 0o644),
        ("etc/xen-guest-agent/services.d", 0o755),
        ("usr/lib/udev/rules.d/60-xen-vcpu-hotplug.rules", 0o644),
        ("usr/sbin/xen-guest-agent", 0o755),
    ]
    .map(|(name, mode)| (name.to_owned(), mode))
    .into();
    let service = "usr/lib/systemd/system/xen-guest-agent.service".to_owned();
    expected.insert(3, (service, 0o644));
    assert_eq!(install_by_buildroot("SYSTEMD"), expected);

    expected.remove(3);
    expected.insert(0, ("etc/init.d/S50xen-guest-agent".to_owned(), 0o755));
    assert_eq!(install_by_buildroot("SYSV"), expected);

    let hashes = repository_root().join("packaging/buildroot/xen-guest-agent.hash");
    let hashes = fs::read_to_string(hashes).unwrap();
    for file in ["LICENSE-MIT", "LICENSE-APACHE"] {
        let sum = output(
            Command::new("sha256sum")
                .arg(file)
                .current_dir(repository_root()),
        );
        let line = format!("sha256  {}", sum.trim_end());
        assert!(hashes.lines().any(|found| found == line), "{line}");
    }
}

/// Stands for FreeBSD's ports tree: defines the variables that the port uses.
const BSD_PORT_MK: &str = r"
PREFIX = /usr/local
MKDIR = mkdir -p
RLN = ln -s -r
SETENV = env
MAKE_JOBS_NUMBER = 1
REINPLACE_CMD = sed -i
INSTALL_PROGRAM = install -m 755
INSTALL_DATA = install -m 644
INSTALL_MAN = install -m 644

stage: post-patch
	mkdir -p ${STAGEDIR}${PREFIX}/bin ${STAGEDIR}${PREFIX}/sbin
	mkdir -p ${STAGEDIR}${PREFIX}/share/man/man1 ${STAGEDIR}${PREFIX}/share/man/man5 ${STAGEDIR}${PREFIX}/share/man/man8
	${MAKE} -rm ${PORTS} do-install

plist:
	@printf '%s\n' ${PLIST_FILES} ${PLIST_DIRS}
";

#[test]
#[ignore = "needs bmake"]
fn freebsd_port_installs_the_files_of_its_list() {
    let directory = tempfile::tempdir().unwrap();
    let [ports, build, stage] = ["ports", "build", "stage"].map(|name| directory.path().join(name));
    let source = build.join(format!("xen-guest-agent-{VERSION}"));
    let programs = source.join("target/release");
    fs::create_dir_all(&programs).unwrap();
    for program in ["xen-guest-agent", "xenstore"] {
        fs::write(programs.join(program), "program").unwrap();
    }
    let dist = repository_root().join("dist");
    output(Command::new("cp").args(["-r"]).arg(dist).arg(&source));
    fs::create_dir(&ports).unwrap();
    fs::write(ports.join("bsd.port.mk"), BSD_PORT_MK).unwrap();

    let make = |target: &str| {
        output(
            Command::new("bmake")
                .args(["-r", "-m"])
                .arg(&ports)
                .arg(format!("PORTS={}", ports.display()))
                .arg(format!("WRKDIR={}", build.display()))
                .arg(format!("STAGEDIR={}", stage.display()))
                .arg(target)
                .current_dir(repository_root().join("packaging/freebsd")),
        )
    };
    make("stage");
    let mut listed: Vec<String> = make("plist")
        .lines()
        // The ports tree compresses manual pages, and `@sample` is an instruction of pkg(8).
        .map(|line| line.trim_end_matches(".gz").replace("@sample ", ""))
        .collect();
    listed.sort();

    let prefix = stage.join("usr/local");
    let find = ["!", "-type", "d", "-o", "-type", "d", "-empty"];
    let found = output(Command::new("find").arg(&prefix).args(find));
    let mut installed: Vec<String> = found
        .lines()
        .map(|path| Path::new(path).strip_prefix(&prefix).unwrap())
        .map(|name| name.to_str().unwrap().to_owned())
        .collect();
    installed.sort();
    assert_eq!(installed, listed);

    let commands = fs::read_dir(prefix.join("bin")).unwrap().count() - 1;
    let pages = fs::read_dir(repository_root().join("dist/usr/share/man/man1")).unwrap();
    assert_eq!(commands, pages.count() - 1, "xenstore and its links");
    for page in ["man5/xen-guest-agent.5", "man8/xen-guest-agent.8"] {
        let text = fs::read_to_string(prefix.join("share/man").join(page)).unwrap();
        let paths = text.replace(r"\-", "-");
        assert!(paths.contains("/usr/local/etc/xen-guest-agent"), "{page}");
        assert!(!paths.contains(" /etc/xen-guest-agent"), "{page}");
    }
}

/// Stands for FreeBSD's rc.subr(8): prints the command that it would run.
const RC_SUBR: &str = r#"
load_rc_config() { :; }
run_rc_command() {
    eval "rc_flags=\${flags:-\$${name}_flags}"
    echo $command $rc_flags $command_args
}
"#;

#[test]
fn flags_of_the_freebsd_service_are_those_of_the_agent() {
    let directory = tempfile::tempdir().unwrap();
    let subr = directory.path().join("rc.subr");
    fs::write(&subr, RC_SUBR).unwrap();
    let script = repository_root().join("packaging/freebsd/files/xen_guest_agent.in");
    let script = fs::read_to_string(script).unwrap();
    let script = script
        .replace("/etc/rc.subr", subr.to_str().unwrap())
        .replace("%%PREFIX%%", "/usr/local");

    let command = |flags: &str| {
        output(
            Command::new("sh")
                .args(["-c", &script, "xen_guest_agent", "start"])
                .env("xen_guest_agent_flags", flags),
        )
    };
    let start =
        "/usr/sbin/daemon -f -p /var/run/xen-guest-agent.pid /usr/local/sbin/xen-guest-agent";
    assert_eq!(command("").trim_end(), start);
    let flags = "--loglevel debug";
    assert_eq!(command(flags).trim_end(), format!("{start} {flags}"));
}

/// Stands for the parts of nixpkgs that the module uses. `enable` is a setting of another agent.
const NIXPKGS: &str = r#"
{ directory, enable }:
let
  lib = {
    cleanSource = toString;
    importTOML = file: builtins.fromTOML (builtins.readFile file);
    licenses = { mit = "MIT"; asl20 = "Apache-2.0"; };
    literalExpression = text: text;
    mkEnableOption = text: { default = false; };
    mkIf = condition: value: if condition then value else { };
    mkOption = option: option;
    types.package = "package";
  };
  pkgs = {
    callPackage = file: arguments:
      import file ({ inherit lib; rustPlatform.buildRustPackage = package: package; } // arguments);
    formats.toml = { }: { type = "toml"; generate = name: value: { inherit name value; }; };
  };
  module = import (directory + "/module.nix") {
    inherit lib pkgs;
    config.services = {
      xe-guest-utilities = { inherit enable; };
      xen-guest-agent = { enable = true; package = "package"; settings.confine = "off"; };
    };
  };
  package = module.options.services.xen-guest-agent.package.default;
in
module.config // {
  package = { inherit (package) pname version cargoBuildFlags postInstall; };
}
"#;

fn evaluate_module(other_agent: bool) -> Value {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("nixpkgs.nix");
    fs::write(&file, NIXPKGS).unwrap();
    let json = output(
        Command::new("nix-instantiate")
            .args(["--store", "dummy://", "--eval", "--strict", "--json"])
            .args(["--arg", "directory"])
            .arg(repository_root().join("packaging/nixos"))
            .args([
                "--arg",
                "enable",
                if other_agent { "true" } else { "false" },
            ])
            .arg(&file),
    );
    serde_json::from_str(&json).unwrap()
}

#[test]
#[ignore = "needs nix-bin"]
fn nixos_module_enables_the_service() {
    let config = evaluate_module(false);
    assert_eq!(config["assertions"][0]["assertion"], true);
    let settings = json!({ "name": "config.toml", "value": { "confine": "off" } });
    let file = &config["environment"]["etc"]["xen-guest-agent/config.toml"];
    assert_eq!(file["source"], settings);
    let service = &config["systemd"]["services"]["xen-guest-agent"];
    assert_eq!(service["wantedBy"], json!(["multi-user.target"]));
    assert_eq!(service["reloadTriggers"], json!([settings]));
    assert_eq!(config["systemd"]["packages"], json!(["package"]));

    let package = &config["package"];
    assert_eq!(package["version"], VERSION);
    let commands = package["postInstall"].as_str().unwrap();
    let words = commands.split_whitespace();
    let files: Vec<_> = words.filter(|word| word.starts_with("dist/")).collect();
    assert_eq!(files.len(), 3);
    for file in files {
        for section in ["5", "8"] {
            let file = repository_root().join(file.replace("$section", section));
            assert!(file.exists(), "{}", file.display());
        }
    }

    assert_eq!(evaluate_module(true)["assertions"][0]["assertion"], false);
}
