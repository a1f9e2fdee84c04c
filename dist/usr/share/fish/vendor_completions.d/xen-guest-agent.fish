# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_xen_guest_agent_global_optspecs
    string join \n s/stderr= l/loglevel= schema= xenstore= root= node-budget= memory-period= network-mode= network-poll-period= network-stacked-links= network-temporary-addresses= network-leave-out-interfaces= network-leave-out-addresses= volumes-enabled= services-directory= config= h/help V/version
end

function __fish_xen_guest_agent_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_xen_guest_agent_global_optspecs) -- $cmd 2>/dev/null
    or return 0
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_xen_guest_agent_using_subcommand
    set -l cmd (__fish_xen_guest_agent_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c xen-guest-agent -n "__fish_xen_guest_agent_needs_command" -s s -l stderr -d 'Log to standard error instead of the journal or syslog: true or false [default: false]' -r
complete -c xen-guest-agent -n "__fish_xen_guest_agent_needs_command" -s l -l loglevel -d 'How much to log: off, error, warn, info, debug or trace; for some modules another, as in warn,xenstore=debug [default: info] [environment: RUST_LOG]' -r
complete -c xen-guest-agent -n "__fish_xen_guest_agent_needs_command" -l schema -d 'Which nodes to publish: std or rfc [default: std] [environment: XENSTORE_SCHEMA]' -r -f -a "std\t''
rfc\t''"
complete -c xen-guest-agent -n "__fish_xen_guest_agent_needs_command" -l xenstore -d 'Where Xenstore is: auto, device, socket or socket=PATH [default: auto]' -r
complete -c xen-guest-agent -n "__fish_xen_guest_agent_needs_command" -l root -d 'Read the files in /etc, /usr/lib, /proc and /sys from below this: the absolute path of a directory [default: /]' -r
complete -c xen-guest-agent -n "__fish_xen_guest_agent_needs_command" -l node-budget -d 'Nodes to make at most, those above others included; what is worth least is left out: an integer from 50 to 1000000 [default: 700]' -r
complete -c xen-guest-agent -n "__fish_xen_guest_agent_needs_command" -l memory-period -d 'Seconds between two looks at memory, and at what else nothing reports: a number from 0.01 to 86400 [default: 60]' -r
complete -c xen-guest-agent -n "__fish_xen_guest_agent_needs_command" -l network-mode -d 'How to look at the network: by what the kernel reports, from time to time, or by whichever works: auto, netlink, poll or off [default: auto]' -r -f -a "auto\t''
netlink\t''
poll\t''
off\t''"
complete -c xen-guest-agent -n "__fish_xen_guest_agent_needs_command" -l network-poll-period -d 'Seconds between two looks at the network, where changes are not reported: a number from 0.01 to 86400 [default: 60]' -r
complete -c xen-guest-agent -n "__fish_xen_guest_agent_needs_command" -l network-stacked-links -d 'Whether to show the addresses of bridges, bonds, VLANs and so on with the device that carries them: true or false [default: true]' -r
complete -c xen-guest-agent -n "__fish_xen_guest_agent_needs_command" -l network-temporary-addresses -d 'Whether to show temporary IPv6 addresses: true or false [default: true]' -r
complete -c xen-guest-agent -n "__fish_xen_guest_agent_needs_command" -l network-leave-out-interfaces -d 'Interfaces to show nothing of: names and patterns, as docker*' -r
complete -c xen-guest-agent -n "__fish_xen_guest_agent_needs_command" -l network-leave-out-addresses -d 'Addresses not to show: addresses and networks, as 169.254.0.0/16' -r
complete -c xen-guest-agent -n "__fish_xen_guest_agent_needs_command" -l volumes-enabled -d 'Whether to publish block devices and file systems: true or false [default: false]' -r
complete -c xen-guest-agent -n "__fish_xen_guest_agent_needs_command" -l services-directory -d 'Where the administrator\'s own facts are: the absolute path of a directory [default: /etc/xen-guest-agent/services.d]' -r
complete -c xen-guest-agent -n "__fish_xen_guest_agent_needs_command" -l config -d 'Read this file of settings instead of /etc/xen-guest-agent/config.toml and /etc/xen-guest-agent/conf.d/*.toml' -r -F
complete -c xen-guest-agent -n "__fish_xen_guest_agent_needs_command" -s h -l help -d 'Print help'
complete -c xen-guest-agent -n "__fish_xen_guest_agent_needs_command" -s V -l version -d 'Print version'
complete -c xen-guest-agent -n "__fish_xen_guest_agent_needs_command" -f -a "config" -d 'Print the settings as TOML, each with where it comes from'
complete -c xen-guest-agent -n "__fish_xen_guest_agent_needs_command" -f -a "show" -d 'Print what the agent would publish here now, without Xenstore'
complete -c xen-guest-agent -n "__fish_xen_guest_agent_needs_command" -f -a "status" -d 'Print what the running agent has published, and how'
complete -c xen-guest-agent -n "__fish_xen_guest_agent_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand config" -s s -l stderr -d 'Log to standard error instead of the journal or syslog: true or false [default: false]' -r
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand config" -s l -l loglevel -d 'How much to log: off, error, warn, info, debug or trace; for some modules another, as in warn,xenstore=debug [default: info] [environment: RUST_LOG]' -r
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand config" -l schema -d 'Which nodes to publish: std or rfc [default: std] [environment: XENSTORE_SCHEMA]' -r -f -a "std\t''
rfc\t''"
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand config" -l xenstore -d 'Where Xenstore is: auto, device, socket or socket=PATH [default: auto]' -r
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand config" -l root -d 'Read the files in /etc, /usr/lib, /proc and /sys from below this: the absolute path of a directory [default: /]' -r
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand config" -l node-budget -d 'Nodes to make at most, those above others included; what is worth least is left out: an integer from 50 to 1000000 [default: 700]' -r
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand config" -l memory-period -d 'Seconds between two looks at memory, and at what else nothing reports: a number from 0.01 to 86400 [default: 60]' -r
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand config" -l network-mode -d 'How to look at the network: by what the kernel reports, from time to time, or by whichever works: auto, netlink, poll or off [default: auto]' -r -f -a "auto\t''
netlink\t''
poll\t''
off\t''"
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand config" -l network-poll-period -d 'Seconds between two looks at the network, where changes are not reported: a number from 0.01 to 86400 [default: 60]' -r
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand config" -l network-stacked-links -d 'Whether to show the addresses of bridges, bonds, VLANs and so on with the device that carries them: true or false [default: true]' -r
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand config" -l network-temporary-addresses -d 'Whether to show temporary IPv6 addresses: true or false [default: true]' -r
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand config" -l network-leave-out-interfaces -d 'Interfaces to show nothing of: names and patterns, as docker*' -r
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand config" -l network-leave-out-addresses -d 'Addresses not to show: addresses and networks, as 169.254.0.0/16' -r
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand config" -l volumes-enabled -d 'Whether to publish block devices and file systems: true or false [default: false]' -r
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand config" -l services-directory -d 'Where the administrator\'s own facts are: the absolute path of a directory [default: /etc/xen-guest-agent/services.d]' -r
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand config" -l config -d 'Read this file of settings instead of /etc/xen-guest-agent/config.toml and /etc/xen-guest-agent/conf.d/*.toml' -r -F
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand config" -s h -l help -d 'Print help'
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand show" -l format -d 'How to print it' -r -f -a "tree\t''
json\t''"
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand show" -s s -l stderr -d 'Log to standard error instead of the journal or syslog: true or false [default: false]' -r
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand show" -s l -l loglevel -d 'How much to log: off, error, warn, info, debug or trace; for some modules another, as in warn,xenstore=debug [default: info] [environment: RUST_LOG]' -r
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand show" -l schema -d 'Which nodes to publish: std or rfc [default: std] [environment: XENSTORE_SCHEMA]' -r -f -a "std\t''
rfc\t''"
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand show" -l xenstore -d 'Where Xenstore is: auto, device, socket or socket=PATH [default: auto]' -r
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand show" -l root -d 'Read the files in /etc, /usr/lib, /proc and /sys from below this: the absolute path of a directory [default: /]' -r
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand show" -l node-budget -d 'Nodes to make at most, those above others included; what is worth least is left out: an integer from 50 to 1000000 [default: 700]' -r
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand show" -l memory-period -d 'Seconds between two looks at memory, and at what else nothing reports: a number from 0.01 to 86400 [default: 60]' -r
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand show" -l network-mode -d 'How to look at the network: by what the kernel reports, from time to time, or by whichever works: auto, netlink, poll or off [default: auto]' -r -f -a "auto\t''
netlink\t''
poll\t''
off\t''"
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand show" -l network-poll-period -d 'Seconds between two looks at the network, where changes are not reported: a number from 0.01 to 86400 [default: 60]' -r
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand show" -l network-stacked-links -d 'Whether to show the addresses of bridges, bonds, VLANs and so on with the device that carries them: true or false [default: true]' -r
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand show" -l network-temporary-addresses -d 'Whether to show temporary IPv6 addresses: true or false [default: true]' -r
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand show" -l network-leave-out-interfaces -d 'Interfaces to show nothing of: names and patterns, as docker*' -r
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand show" -l network-leave-out-addresses -d 'Addresses not to show: addresses and networks, as 169.254.0.0/16' -r
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand show" -l volumes-enabled -d 'Whether to publish block devices and file systems: true or false [default: false]' -r
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand show" -l services-directory -d 'Where the administrator\'s own facts are: the absolute path of a directory [default: /etc/xen-guest-agent/services.d]' -r
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand show" -l config -d 'Read this file of settings instead of /etc/xen-guest-agent/config.toml and /etc/xen-guest-agent/conf.d/*.toml' -r -F
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand show" -l all-interfaces -d 'Treat every network interface except loopback as a VIF, to try this without Xen'
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand show" -s h -l help -d 'Print help'
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand status" -l root -d 'Read the files in /etc, /usr/lib, /proc and /sys from below this: the absolute path of a directory [default: /]' -r
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand status" -s h -l help -d 'Print help'
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand help; and not __fish_seen_subcommand_from config show status help" -f -a "config" -d 'Print the settings as TOML, each with where it comes from'
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand help; and not __fish_seen_subcommand_from config show status help" -f -a "show" -d 'Print what the agent would publish here now, without Xenstore'
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand help; and not __fish_seen_subcommand_from config show status help" -f -a "status" -d 'Print what the running agent has published, and how'
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand help; and not __fish_seen_subcommand_from config show status help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
