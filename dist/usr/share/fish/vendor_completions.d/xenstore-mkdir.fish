complete -c xenstore-mkdir -s s -l socket -d 'Use only xenstored\'s socket, not the kernel\'s device'
complete -c xenstore-mkdir -s h -l help -d 'Print help'
