complete -c xenstore-perms -s p -l prefix -d 'Print each key before its permissions'
complete -c xenstore-perms -s s -l socket -d 'Use only xenstored\'s socket, not the kernel\'s device'
complete -c xenstore-perms -l exit-codes -d 'Exit with status 2 after an error in the command line, and with 3 without a Xenstore server'
complete -c xenstore-perms -s h -l help -d 'Print help (see more with \'--help\')'
