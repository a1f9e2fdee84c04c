complete -c xenstore-list -s p -l prefix -d 'Print paths instead of names'
complete -c xenstore-list -s s -l socket -d 'Use only xenstored\'s socket, not the kernel\'s device'
complete -c xenstore-list -s h -l help -d 'Print help'
