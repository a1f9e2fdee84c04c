complete -c xenstore-write -s R -l raw -d 'Write the values unchanged, without interpreting backslashes'
complete -c xenstore-write -s s -l socket -d 'Use only xenstored\'s socket, not the kernel\'s device'
complete -c xenstore-write -l exit-codes -d 'Exit with status 2 after an error in the command line, and with 3 without a Xenstore server'
complete -c xenstore-write -s h -l help -d 'Print help (see more with \'--help\')'
