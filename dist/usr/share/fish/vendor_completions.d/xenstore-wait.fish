complete -c xenstore-wait -l timeout -d 'Exit with status 124 after this time. With 0, test once' -r
complete -c xenstore-wait -l gone -d 'Wait until the node does not exist'
complete -c xenstore-wait -s R -l raw -d 'Do not interpret backslashes in the value'
complete -c xenstore-wait -s s -l socket -d 'Use only xenstored\'s socket, not the kernel\'s device'
complete -c xenstore-wait -l exit-codes -d 'Exit with status 2 after an error in the command line, and with 3 without a Xenstore server'
complete -c xenstore-wait -s h -l help -d 'Print help (see more with \'--help\')'
