# A dead agent is told from a stopped one, and a start is possible.
kill -s KILL "$(field process)"
sleep 0.5
expect 1 "$service" status
expect 0 "$service" try-restart
expect 1 "$service" status
expect 0 "$service" start
await state '"published"'
expect 0 "$service" try-restart
expect 0 "$service" force-reload
expect 2 "$service" no-such-action
expect 0 "$service" stop
expect 7 "$service" reload
expect 0 "$service" start
await state '"published"'
