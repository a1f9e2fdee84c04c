complete -c xenstore-watch -s n -l number -d 'Exit after this many lines; -1 for no limit' -r
complete -c xenstore-watch -s s -l socket -d 'Use only xenstored\'s socket, not the kernel\'s device'
complete -c xenstore-watch -s h -l help -d 'Print help (see more with \'--help\')'
