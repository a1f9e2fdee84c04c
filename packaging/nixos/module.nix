# Module for NixOS. It never ran there: docs/packaging.md says what has been checked.
{ config, lib, pkgs, ... }:

let
  cfg = config.services.xen-guest-agent;
  format = pkgs.formats.toml { };
  settings = format.generate "config.toml" cfg.settings;
in
{
  options.services.xen-guest-agent = {
    enable = lib.mkEnableOption "the guest agent, which shows facts of this virtual machine to its Xen host";

    package = lib.mkOption {
      type = lib.types.package;
      default = pkgs.callPackage ./package.nix { };
      defaultText = lib.literalExpression "pkgs.callPackage ./package.nix { }";
      description = "Package of the agent.";
    };

    settings = lib.mkOption {
      type = format.type;
      default = { };
      example = { network.leave-out-addresses = [ "192.0.2.0/24" ]; };
      description = "Contents of /etc/xen-guest-agent/config.toml: see xen-guest-agent(5).";
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = !config.services.xe-guest-utilities.enable;
        message = "services.xen-guest-agent and services.xe-guest-utilities write the same nodes; disable one of them";
      }
    ];

    environment.etc."xen-guest-agent/config.toml".source = settings;
    environment.systemPackages = [ cfg.package ];
    services.udev.packages = [ cfg.package ];

    systemd.packages = [ cfg.package ];
    systemd.services.xen-guest-agent = {
      wantedBy = [ "multi-user.target" ];
      reloadTriggers = [ settings ];
    };

    # The user of the setting confine.
    users.users.xen-guest-agent = {
      isSystemUser = true;
      group = "xen-guest-agent";
    };
    users.groups.xen-guest-agent = { };
  };
}
