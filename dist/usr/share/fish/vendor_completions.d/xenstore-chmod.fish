complete -c xenstore-chmod -s u -l upto -d 'Of the nodes above too, but for the root'
complete -c xenstore-chmod -s r -l recurse -d 'Of all nodes below too'
complete -c xenstore-chmod -s s -l socket -d 'Use xenstored\'s socket only, not the kernel\'s device'
complete -c xenstore-chmod -s h -l help -d 'Print help'
