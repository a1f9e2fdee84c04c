complete -c xenstore-watch -s n -l number -d 'End after so many lines; -1 for never' -r
complete -c xenstore-watch -s s -l socket -d 'Use xenstored\'s socket only, not the kernel\'s device'
complete -c xenstore-watch -s h -l help -d 'Print help (see more with \'--help\')'
