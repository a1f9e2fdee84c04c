complete -c xenstore-chmod -s u -l upto -d 'Also set permissions on all parent nodes except the root'
complete -c xenstore-chmod -s r -l recurse -d 'Also set permissions on all nodes below'
complete -c xenstore-chmod -s s -l socket -d 'Use only xenstored\'s socket, not the kernel\'s device'
complete -c xenstore-chmod -s h -l help -d 'Print help'
