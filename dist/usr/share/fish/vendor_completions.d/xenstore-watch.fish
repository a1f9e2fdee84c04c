complete -c xenstore-watch -s n -l number -d 'Exit after this many lines; -1 for no limit' -r
complete -c xenstore-watch -s d -l depth -d 'Omit changes more than NR levels below the key: 0 for the node itself, 1 for its children too' -r
complete -c xenstore-watch -l timeout -d 'Exit after this time. The exit status is 124 if --number requires more lines or the server does not reply, and 0 otherwise' -r
complete -c xenstore-watch -l values -d 'Print the value after the path, in the format of read --prefix. A node that was removed or that cannot be read has only its path'
complete -c xenstore-watch -l json -d 'Print a JSON object for each change, one per line'
complete -c xenstore-watch -s s -l socket -d 'Use only xenstored\'s socket, not the kernel\'s device'
complete -c xenstore-watch -l exit-codes -d 'Exit with status 2 after an error in the command line, and with 3 without a Xenstore server'
complete -c xenstore-watch -s h -l help -d 'Print help (see more with \'--help\')'
