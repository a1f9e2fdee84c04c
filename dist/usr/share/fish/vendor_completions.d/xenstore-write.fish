complete -c xenstore-write -s R -l raw -d 'Write the values as they are: a backslash is a backslash'
complete -c xenstore-write -s s -l socket -d 'Use xenstored\'s socket only, not the kernel\'s device'
complete -c xenstore-write -s h -l help -d 'Print help (see more with \'--help\')'
