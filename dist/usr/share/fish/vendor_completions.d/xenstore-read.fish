complete -c xenstore-read -s p -l prefix -d 'Print each key before its value'
complete -c xenstore-read -s R -l raw -d 'Print the bytes unchanged, without escapes and line ends. On a terminal, control characters are escaped'
complete -c xenstore-read -s s -l socket -d 'Use only xenstored\'s socket, not the kernel\'s device'
complete -c xenstore-read -s h -l help -d 'Print help'
