# Recipe for Nix. It was never built by Nix: docs/packaging.md says what has been checked.
{ lib, rustPlatform }:

rustPlatform.buildRustPackage {
  pname = "xen-guest-agent";
  version = (lib.importTOML ../../Cargo.toml).workspace.package.version;

  src = lib.cleanSource ../..;
  cargoLock.lockFile = ../../Cargo.lock;
  cargoBuildFlags = [ "-p" "xen-guest-agent" ];
  cargoTestFlags = [ "-p" "xen-guest-agent" "--lib" ];

  postInstall = ''
    install -Dm644 -t $out/lib/systemd/system dist/usr/lib/systemd/system/xen-guest-agent.service
    substituteInPlace $out/lib/systemd/system/xen-guest-agent.service \
      --replace-fail /usr/sbin/xen-guest-agent $out/bin/xen-guest-agent
    install -Dm644 -t $out/lib/udev/rules.d dist/usr/lib/udev/rules.d/60-xen-vcpu-hotplug.rules
    for section in 5 8; do
      install -Dm644 -t $out/share/man/man$section dist/usr/share/man/man$section/xen-guest-agent.$section
    done
  '';

  meta = {
    description = "Guest agent for virtual machines on Xen";
    license = [ lib.licenses.mit lib.licenses.asl20 ];
    platforms = [ "x86_64-linux" "aarch64-linux" ];
    mainProgram = "xen-guest-agent";
  };
}
