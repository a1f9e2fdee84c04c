complete -c xenstore-rm -s t -l tidy -d 'Remove the nodes above too, as far as they are empty'
complete -c xenstore-rm -s s -l socket -d 'Use xenstored\'s socket only, not the kernel\'s device'
complete -c xenstore-rm -s h -l help -d 'Print help'
