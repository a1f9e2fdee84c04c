complete -c xenstore-perms -s p -l prefix -d 'Print each key before its permissions'
complete -c xenstore-perms -s s -l socket -d 'Use only xenstored\'s socket, not the kernel\'s device'
complete -c xenstore-perms -s h -l help -d 'Print help'
