# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_xen_guest_agent_global_optspecs
    string join \n s/stderr= l/loglevel= schema= xenstore= root= confine= node-budget= memory-period= network-mode= network-poll-period= network-stacked-links= network-temporary-addresses= network-extra-interfaces= network-leave-out-interfaces= network-leave-out-addresses= volumes-enabled= services-directory= config= h/help V/version
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

complete -c xen-guest-agent -n "__fish_xen_guest_agent_needs_command" -s s -l stderr -d 'Log to standard error instead of the journal or syslog' -r -f -a "true\t''
false\t''"
complete -c xen-guest-agent -n "__fish_xen_guest_agent_needs_command" -s l -l loglevel -d 'Least severe messages to log' -r -f -a "off\t''
error\t''
warn\t''
info\t''
debug\t''
trace\t''"
complete -c xen-guest-agent -n "__fish_xen_guest_agent_needs_command" -l schema -d 'Layout of the published nodes' -r -f -a "std\t''
rfc\t''"
complete -c xen-guest-agent -n "__fish_xen_guest_agent_needs_command" -l xenstore -d 'How to reach Xenstore' -r -f -a "auto\t''
device\t''
socket\t''
socket=/\t''"
complete -c xen-guest-agent -n "__fish_xen_guest_agent_needs_command" -l root -d 'Directory to prepend to the paths of system files' -r -f -a "(__fish_complete_directories)"
complete -c xen-guest-agent -n "__fish_xen_guest_agent_needs_command" -l confine -d 'Privileges to give up once the agent is connected to Xenstore' -r -f -a "auto\t''
user\t''
uid0\t''
off\t''"
complete -c xen-guest-agent -n "__fish_xen_guest_agent_needs_command" -l node-budget -d 'Maximum number of nodes to create, parent nodes included' -r -f
complete -c xen-guest-agent -n "__fish_xen_guest_agent_needs_command" -l memory-period -d 'Time between checks of memory and other values for which the kernel sends no event' -r -f
complete -c xen-guest-agent -n "__fish_xen_guest_agent_needs_command" -l network-mode -d 'How to detect changes of the network' -r -f -a "auto\t''
netlink\t''
poll\t''
off\t''"
complete -c xen-guest-agent -n "__fish_xen_guest_agent_needs_command" -l network-poll-period -d 'Time between checks of the network if it is polled' -r -f
complete -c xen-guest-agent -n "__fish_xen_guest_agent_needs_command" -l network-stacked-links -d 'Publish the addresses of bridges, bonds and VLANs' -r -f -a "true\t''
false\t''"
complete -c xen-guest-agent -n "__fish_xen_guest_agent_needs_command" -l network-temporary-addresses -d 'Publish temporary IPv6 addresses' -r -f -a "true\t''
false\t''"
complete -c xen-guest-agent -n "__fish_xen_guest_agent_needs_command" -l network-extra-interfaces -d 'Other network interfaces whose addresses to publish with the VIF of the lowest number' -r -f
complete -c xen-guest-agent -n "__fish_xen_guest_agent_needs_command" -l network-leave-out-interfaces -d 'Network interfaces to ignore' -r -f
complete -c xen-guest-agent -n "__fish_xen_guest_agent_needs_command" -l network-leave-out-addresses -d 'Addresses to ignore' -r -f
complete -c xen-guest-agent -n "__fish_xen_guest_agent_needs_command" -l volumes-enabled -d 'Publish block devices and file systems' -r -f -a "true\t''
false\t''"
complete -c xen-guest-agent -n "__fish_xen_guest_agent_needs_command" -l services-directory -d 'Directory with files of the administrator\'s own facts' -r -f -a "(__fish_complete_directories)"
complete -c xen-guest-agent -n "__fish_xen_guest_agent_needs_command" -l config -d 'Read settings from this file instead of /etc/xen-guest-agent' -r -F
complete -c xen-guest-agent -n "__fish_xen_guest_agent_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c xen-guest-agent -n "__fish_xen_guest_agent_needs_command" -s V -l version -d 'Print version'
complete -c xen-guest-agent -n "__fish_xen_guest_agent_needs_command" -f -a "config" -d 'Print the effective settings and their origins, as TOML'
complete -c xen-guest-agent -n "__fish_xen_guest_agent_needs_command" -f -a "show" -d 'Print what the agent would publish on this machine, without Xenstore'
complete -c xen-guest-agent -n "__fish_xen_guest_agent_needs_command" -f -a "status" -d 'Print the state of the running agent'
complete -c xen-guest-agent -n "__fish_xen_guest_agent_needs_command" -f -a "withdraw" -d 'Remove the agent\'s nodes from Xenstore, when the agent is to be uninstalled'
complete -c xen-guest-agent -n "__fish_xen_guest_agent_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand config" -s s -l stderr -d 'Log to standard error instead of the journal or syslog' -r -f -a "true\t''
false\t''"
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand config" -s l -l loglevel -d 'Least severe messages to log' -r -f -a "off\t''
error\t''
warn\t''
info\t''
debug\t''
trace\t''"
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand config" -l schema -d 'Layout of the published nodes' -r -f -a "std\t''
rfc\t''"
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand config" -l xenstore -d 'How to reach Xenstore' -r -f -a "auto\t''
device\t''
socket\t''
socket=/\t''"
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand config" -l root -d 'Directory to prepend to the paths of system files' -r -f -a "(__fish_complete_directories)"
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand config" -l confine -d 'Privileges to give up once the agent is connected to Xenstore' -r -f -a "auto\t''
user\t''
uid0\t''
off\t''"
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand config" -l node-budget -d 'Maximum number of nodes to create, parent nodes included' -r -f
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand config" -l memory-period -d 'Time between checks of memory and other values for which the kernel sends no event' -r -f
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand config" -l network-mode -d 'How to detect changes of the network' -r -f -a "auto\t''
netlink\t''
poll\t''
off\t''"
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand config" -l network-poll-period -d 'Time between checks of the network if it is polled' -r -f
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand config" -l network-stacked-links -d 'Publish the addresses of bridges, bonds and VLANs' -r -f -a "true\t''
false\t''"
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand config" -l network-temporary-addresses -d 'Publish temporary IPv6 addresses' -r -f -a "true\t''
false\t''"
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand config" -l network-extra-interfaces -d 'Other network interfaces whose addresses to publish with the VIF of the lowest number' -r -f
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand config" -l network-leave-out-interfaces -d 'Network interfaces to ignore' -r -f
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand config" -l network-leave-out-addresses -d 'Addresses to ignore' -r -f
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand config" -l volumes-enabled -d 'Publish block devices and file systems' -r -f -a "true\t''
false\t''"
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand config" -l services-directory -d 'Directory with files of the administrator\'s own facts' -r -f -a "(__fish_complete_directories)"
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand config" -l config -d 'Read settings from this file instead of /etc/xen-guest-agent' -r -F
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand config" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand show" -l format -d 'Output format' -r -f -a "tree\t''
json\t''"
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand show" -s l -l loglevel -d 'Least severe messages to log' -r -f -a "off\t''
error\t''
warn\t''
info\t''
debug\t''
trace\t''"
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand show" -l schema -d 'Layout of the published nodes' -r -f -a "std\t''
rfc\t''"
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand show" -l root -d 'Directory to prepend to the paths of system files' -r -f -a "(__fish_complete_directories)"
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand show" -l node-budget -d 'Maximum number of nodes to create, parent nodes included' -r -f
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand show" -l network-mode -d 'How to detect changes of the network' -r -f -a "auto\t''
netlink\t''
poll\t''
off\t''"
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand show" -l network-stacked-links -d 'Publish the addresses of bridges, bonds and VLANs' -r -f -a "true\t''
false\t''"
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand show" -l network-temporary-addresses -d 'Publish temporary IPv6 addresses' -r -f -a "true\t''
false\t''"
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand show" -l network-extra-interfaces -d 'Other network interfaces whose addresses to publish with the VIF of the lowest number' -r -f
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand show" -l network-leave-out-interfaces -d 'Network interfaces to ignore' -r -f
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand show" -l network-leave-out-addresses -d 'Addresses to ignore' -r -f
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand show" -l volumes-enabled -d 'Publish block devices and file systems' -r -f -a "true\t''
false\t''"
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand show" -l services-directory -d 'Directory with files of the administrator\'s own facts' -r -f -a "(__fish_complete_directories)"
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand show" -l config -d 'Read settings from this file instead of /etc/xen-guest-agent' -r -F
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand show" -l all-interfaces -d 'Treat every network interface except loopback as a VIF, to try this without Xen'
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand status" -l root -d 'Directory to prepend to the paths of system files' -r -f -a "(__fish_complete_directories)"
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand withdraw" -s l -l loglevel -d 'Least severe messages to log' -r -f -a "off\t''
error\t''
warn\t''
info\t''
debug\t''
trace\t''"
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand withdraw" -l xenstore -d 'How to reach Xenstore' -r -f -a "auto\t''
device\t''
socket\t''
socket=/\t''"
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand withdraw" -l root -d 'Directory to prepend to the paths of system files' -r -f -a "(__fish_complete_directories)"
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand withdraw" -l config -d 'Read settings from this file instead of /etc/xen-guest-agent' -r -F
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand withdraw" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand help; and not __fish_seen_subcommand_from config show status withdraw help" -f -a "config" -d 'Print the effective settings and their origins, as TOML'
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand help; and not __fish_seen_subcommand_from config show status withdraw help" -f -a "show" -d 'Print what the agent would publish on this machine, without Xenstore'
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand help; and not __fish_seen_subcommand_from config show status withdraw help" -f -a "status" -d 'Print the state of the running agent'
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand help; and not __fish_seen_subcommand_from config show status withdraw help" -f -a "withdraw" -d 'Remove the agent\'s nodes from Xenstore, when the agent is to be uninstalled'
complete -c xen-guest-agent -n "__fish_xen_guest_agent_using_subcommand help; and not __fish_seen_subcommand_from config show status withdraw help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
