# supervise-daemon starts the agent again.
process=$(field process)
kill -s KILL "$process"
sleep 1
for _ in $(seq 100); do
    now=$(field process)
    [ -n "$now" ] && [ "$now" != "$process" ] && break
    sleep 0.1
done
await state '"published"'
[ "$(field process)" != "$process" ] || fail "the agent was not started again"
expect 0 "$service" status

# The agent sees by this variable that something starts it again.
grep -qz '^RC_SVCNAME=xen-guest-agent$' "/proc/$(field process)/environ" || fail "RC_SVCNAME is missing"
