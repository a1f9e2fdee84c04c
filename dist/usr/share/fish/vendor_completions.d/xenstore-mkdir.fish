complete -c xenstore-mkdir -s s -l socket -d 'Use xenstored\'s socket only, not the kernel\'s device'
complete -c xenstore-mkdir -s h -l help -d 'Print help'
