complete -c xenstore-exists -s s -l socket -d 'Use only xenstored\'s socket, not the kernel\'s device'
complete -c xenstore-exists -s h -l help -d 'Print help'
