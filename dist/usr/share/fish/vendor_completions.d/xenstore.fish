# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_xenstore_global_optspecs
    string join \n s/socket exit-codes h/help V/version
end

function __fish_xenstore_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_xenstore_global_optspecs) -- $cmd 2>/dev/null
    or return 0
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_xenstore_using_subcommand
    set -l cmd (__fish_xenstore_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c xenstore -n "__fish_xenstore_needs_command" -s s -l socket -d 'Use only xenstored\'s socket, not the kernel\'s device'
complete -c xenstore -n "__fish_xenstore_needs_command" -l exit-codes -d 'Exit with status 2 after an error in the command line, and with 3 without a Xenstore server'
complete -c xenstore -n "__fish_xenstore_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c xenstore -n "__fish_xenstore_needs_command" -s V -l version -d 'Print version'
complete -c xenstore -n "__fish_xenstore_needs_command" -f -a "read" -d 'Print values'
complete -c xenstore -n "__fish_xenstore_needs_command" -f -a "write" -d 'Write values, all of them or none'
complete -c xenstore -n "__fish_xenstore_needs_command" -f -a "rm" -d 'Remove nodes with all nodes below them, all of them or none'
complete -c xenstore -n "__fish_xenstore_needs_command" -f -a "mkdir" -d 'Create empty nodes, all of them or none'
complete -c xenstore -n "__fish_xenstore_needs_command" -f -a "list" -d 'Print the names of child nodes'
complete -c xenstore -n "__fish_xenstore_needs_command" -f -a "ls" -d 'Print the tree below a node'
complete -c xenstore -n "__fish_xenstore_needs_command" -f -a "exists" -d 'Exit with status 0 if all of the nodes exist'
complete -c xenstore -n "__fish_xenstore_needs_command" -f -a "chmod" -d 'Set the owner and permissions of a node'
complete -c xenstore -n "__fish_xenstore_needs_command" -f -a "perms" -d 'Print owner and permissions in the format of chmod'
complete -c xenstore -n "__fish_xenstore_needs_command" -f -a "watch" -d 'Print the paths of nodes that change'
complete -c xenstore -n "__fish_xenstore_needs_command" -f -a "wait" -d 'Wait until a node exists, has a value or is removed'
complete -c xenstore -n "__fish_xenstore_needs_command" -f -a "domains" -d 'Print the numbers and names of the running domains'
complete -c xenstore -n "__fish_xenstore_needs_command" -f -a "control" -d 'Send a command to the Xenstore server and print its reply'
complete -c xenstore -n "__fish_xenstore_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c xenstore -n "__fish_xenstore_using_subcommand read" -s p -l prefix -d 'Print each key before its value'
complete -c xenstore -n "__fish_xenstore_using_subcommand read" -s R -l raw -d 'Print the bytes unchanged, without escapes and line ends. On a terminal, control characters are escaped'
complete -c xenstore -n "__fish_xenstore_using_subcommand read" -s s -l socket -d 'Use only xenstored\'s socket, not the kernel\'s device'
complete -c xenstore -n "__fish_xenstore_using_subcommand read" -l exit-codes -d 'Exit with status 2 after an error in the command line, and with 3 without a Xenstore server'
complete -c xenstore -n "__fish_xenstore_using_subcommand read" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c xenstore -n "__fish_xenstore_using_subcommand write" -s R -l raw -d 'Write the values unchanged, without interpreting backslashes'
complete -c xenstore -n "__fish_xenstore_using_subcommand write" -s s -l socket -d 'Use only xenstored\'s socket, not the kernel\'s device'
complete -c xenstore -n "__fish_xenstore_using_subcommand write" -l exit-codes -d 'Exit with status 2 after an error in the command line, and with 3 without a Xenstore server'
complete -c xenstore -n "__fish_xenstore_using_subcommand write" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c xenstore -n "__fish_xenstore_using_subcommand rm" -s t -l tidy -d 'Also remove parent nodes that become empty'
complete -c xenstore -n "__fish_xenstore_using_subcommand rm" -s s -l socket -d 'Use only xenstored\'s socket, not the kernel\'s device'
complete -c xenstore -n "__fish_xenstore_using_subcommand rm" -l exit-codes -d 'Exit with status 2 after an error in the command line, and with 3 without a Xenstore server'
complete -c xenstore -n "__fish_xenstore_using_subcommand rm" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c xenstore -n "__fish_xenstore_using_subcommand mkdir" -s s -l socket -d 'Use only xenstored\'s socket, not the kernel\'s device'
complete -c xenstore -n "__fish_xenstore_using_subcommand mkdir" -l exit-codes -d 'Exit with status 2 after an error in the command line, and with 3 without a Xenstore server'
complete -c xenstore -n "__fish_xenstore_using_subcommand mkdir" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c xenstore -n "__fish_xenstore_using_subcommand list" -s p -l prefix -d 'Print paths instead of names'
complete -c xenstore -n "__fish_xenstore_using_subcommand list" -s s -l socket -d 'Use only xenstored\'s socket, not the kernel\'s device'
complete -c xenstore -n "__fish_xenstore_using_subcommand list" -l exit-codes -d 'Exit with status 2 after an error in the command line, and with 3 without a Xenstore server'
complete -c xenstore -n "__fish_xenstore_using_subcommand list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c xenstore -n "__fish_xenstore_using_subcommand ls" -s f -l flat -d 'Print whole paths instead of indented names'
complete -c xenstore -n "__fish_xenstore_using_subcommand ls" -s p -l permissions -d 'Print permissions'
complete -c xenstore -n "__fish_xenstore_using_subcommand ls" -l json -d 'Print one JSON object that maps paths to values'
complete -c xenstore -n "__fish_xenstore_using_subcommand ls" -s s -l socket -d 'Use only xenstored\'s socket, not the kernel\'s device'
complete -c xenstore -n "__fish_xenstore_using_subcommand ls" -l exit-codes -d 'Exit with status 2 after an error in the command line, and with 3 without a Xenstore server'
complete -c xenstore -n "__fish_xenstore_using_subcommand ls" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c xenstore -n "__fish_xenstore_using_subcommand exists" -s s -l socket -d 'Use only xenstored\'s socket, not the kernel\'s device'
complete -c xenstore -n "__fish_xenstore_using_subcommand exists" -l exit-codes -d 'Exit with status 2 after an error in the command line, and with 3 without a Xenstore server'
complete -c xenstore -n "__fish_xenstore_using_subcommand exists" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c xenstore -n "__fish_xenstore_using_subcommand chmod" -s u -l upto -d 'Also set permissions on all parent nodes except the root'
complete -c xenstore -n "__fish_xenstore_using_subcommand chmod" -s r -l recurse -d 'Also set permissions on all nodes below'
complete -c xenstore -n "__fish_xenstore_using_subcommand chmod" -s s -l socket -d 'Use only xenstored\'s socket, not the kernel\'s device'
complete -c xenstore -n "__fish_xenstore_using_subcommand chmod" -l exit-codes -d 'Exit with status 2 after an error in the command line, and with 3 without a Xenstore server'
complete -c xenstore -n "__fish_xenstore_using_subcommand chmod" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c xenstore -n "__fish_xenstore_using_subcommand perms" -s p -l prefix -d 'Print each key before its permissions'
complete -c xenstore -n "__fish_xenstore_using_subcommand perms" -s s -l socket -d 'Use only xenstored\'s socket, not the kernel\'s device'
complete -c xenstore -n "__fish_xenstore_using_subcommand perms" -l exit-codes -d 'Exit with status 2 after an error in the command line, and with 3 without a Xenstore server'
complete -c xenstore -n "__fish_xenstore_using_subcommand perms" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c xenstore -n "__fish_xenstore_using_subcommand watch" -s n -l number -d 'Exit after this many lines; -1 for no limit' -r
complete -c xenstore -n "__fish_xenstore_using_subcommand watch" -s d -l depth -d 'Omit changes more than NR levels below the key: 0 for the node itself, 1 for its children too' -r
complete -c xenstore -n "__fish_xenstore_using_subcommand watch" -l timeout -d 'Exit after this time. The exit status is 124 if --number requires more lines or the server does not reply, and 0 otherwise' -r
complete -c xenstore -n "__fish_xenstore_using_subcommand watch" -l values -d 'Print the value after the path, in the format of read --prefix. A node that was removed or that cannot be read has only its path'
complete -c xenstore -n "__fish_xenstore_using_subcommand watch" -l json -d 'Print a JSON object for each change, one per line'
complete -c xenstore -n "__fish_xenstore_using_subcommand watch" -s s -l socket -d 'Use only xenstored\'s socket, not the kernel\'s device'
complete -c xenstore -n "__fish_xenstore_using_subcommand watch" -l exit-codes -d 'Exit with status 2 after an error in the command line, and with 3 without a Xenstore server'
complete -c xenstore -n "__fish_xenstore_using_subcommand watch" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c xenstore -n "__fish_xenstore_using_subcommand wait" -l timeout -d 'Exit with status 124 after this time. With 0, test once' -r
complete -c xenstore -n "__fish_xenstore_using_subcommand wait" -l gone -d 'Wait until the node does not exist'
complete -c xenstore -n "__fish_xenstore_using_subcommand wait" -s R -l raw -d 'Do not interpret backslashes in the value'
complete -c xenstore -n "__fish_xenstore_using_subcommand wait" -s s -l socket -d 'Use only xenstored\'s socket, not the kernel\'s device'
complete -c xenstore -n "__fish_xenstore_using_subcommand wait" -l exit-codes -d 'Exit with status 2 after an error in the command line, and with 3 without a Xenstore server'
complete -c xenstore -n "__fish_xenstore_using_subcommand wait" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c xenstore -n "__fish_xenstore_using_subcommand domains" -s f -l follow -d 'Continue to print domains that start (+) and end (-)'
complete -c xenstore -n "__fish_xenstore_using_subcommand domains" -s s -l socket -d 'Use only xenstored\'s socket, not the kernel\'s device'
complete -c xenstore -n "__fish_xenstore_using_subcommand domains" -l exit-codes -d 'Exit with status 2 after an error in the command line, and with 3 without a Xenstore server'
complete -c xenstore -n "__fish_xenstore_using_subcommand domains" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c xenstore -n "__fish_xenstore_using_subcommand control" -s s -l socket -d 'Use only xenstored\'s socket, not the kernel\'s device'
complete -c xenstore -n "__fish_xenstore_using_subcommand control" -l exit-codes -d 'Exit with status 2 after an error in the command line, and with 3 without a Xenstore server'
complete -c xenstore -n "__fish_xenstore_using_subcommand control" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c xenstore -n "__fish_xenstore_using_subcommand help; and not __fish_seen_subcommand_from read write rm mkdir list ls exists chmod perms watch wait domains control help" -f -a "read" -d 'Print values'
complete -c xenstore -n "__fish_xenstore_using_subcommand help; and not __fish_seen_subcommand_from read write rm mkdir list ls exists chmod perms watch wait domains control help" -f -a "write" -d 'Write values, all of them or none'
complete -c xenstore -n "__fish_xenstore_using_subcommand help; and not __fish_seen_subcommand_from read write rm mkdir list ls exists chmod perms watch wait domains control help" -f -a "rm" -d 'Remove nodes with all nodes below them, all of them or none'
complete -c xenstore -n "__fish_xenstore_using_subcommand help; and not __fish_seen_subcommand_from read write rm mkdir list ls exists chmod perms watch wait domains control help" -f -a "mkdir" -d 'Create empty nodes, all of them or none'
complete -c xenstore -n "__fish_xenstore_using_subcommand help; and not __fish_seen_subcommand_from read write rm mkdir list ls exists chmod perms watch wait domains control help" -f -a "list" -d 'Print the names of child nodes'
complete -c xenstore -n "__fish_xenstore_using_subcommand help; and not __fish_seen_subcommand_from read write rm mkdir list ls exists chmod perms watch wait domains control help" -f -a "ls" -d 'Print the tree below a node'
complete -c xenstore -n "__fish_xenstore_using_subcommand help; and not __fish_seen_subcommand_from read write rm mkdir list ls exists chmod perms watch wait domains control help" -f -a "exists" -d 'Exit with status 0 if all of the nodes exist'
complete -c xenstore -n "__fish_xenstore_using_subcommand help; and not __fish_seen_subcommand_from read write rm mkdir list ls exists chmod perms watch wait domains control help" -f -a "chmod" -d 'Set the owner and permissions of a node'
complete -c xenstore -n "__fish_xenstore_using_subcommand help; and not __fish_seen_subcommand_from read write rm mkdir list ls exists chmod perms watch wait domains control help" -f -a "perms" -d 'Print owner and permissions in the format of chmod'
complete -c xenstore -n "__fish_xenstore_using_subcommand help; and not __fish_seen_subcommand_from read write rm mkdir list ls exists chmod perms watch wait domains control help" -f -a "watch" -d 'Print the paths of nodes that change'
complete -c xenstore -n "__fish_xenstore_using_subcommand help; and not __fish_seen_subcommand_from read write rm mkdir list ls exists chmod perms watch wait domains control help" -f -a "wait" -d 'Wait until a node exists, has a value or is removed'
complete -c xenstore -n "__fish_xenstore_using_subcommand help; and not __fish_seen_subcommand_from read write rm mkdir list ls exists chmod perms watch wait domains control help" -f -a "domains" -d 'Print the numbers and names of the running domains'
complete -c xenstore -n "__fish_xenstore_using_subcommand help; and not __fish_seen_subcommand_from read write rm mkdir list ls exists chmod perms watch wait domains control help" -f -a "control" -d 'Send a command to the Xenstore server and print its reply'
complete -c xenstore -n "__fish_xenstore_using_subcommand help; and not __fish_seen_subcommand_from read write rm mkdir list ls exists chmod perms watch wait domains control help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
