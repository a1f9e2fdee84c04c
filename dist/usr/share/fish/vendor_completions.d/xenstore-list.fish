complete -c xenstore-list -s p -l prefix -d 'Print paths instead of names'
complete -c xenstore-list -s s -l socket -d 'Use only xenstored\'s socket, not the kernel\'s device'
complete -c xenstore-list -l exit-codes -d 'Exit with status 2 after an error in the command line, and with 3 without a Xenstore server'
complete -c xenstore-list -s h -l help -d 'Print help (see more with \'--help\')'
