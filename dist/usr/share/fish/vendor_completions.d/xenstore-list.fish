complete -c xenstore-list -s p -l prefix -d 'Print paths instead of names'
complete -c xenstore-list -s s -l socket -d 'Use xenstored\'s socket only, not the kernel\'s device'
complete -c xenstore-list -s h -l help -d 'Print help'
