# Checks the service in a booted system, and powers it off. The last line of /result is "passed".
exec >/result 2>&1
trap 'sync; poweroff -f' EXIT
service=/etc/init.d/xen-guest-agent
settings=/etc/xen-guest-agent/config.toml
PATH=/usr/sbin:/usr/bin:/sbin:/bin

fail() {
    echo "failed: $*"
    exit 1
}

# Runs a command, which must end with the status $1.
expect() {
    expected=$1
    shift
    echo "\$ $*"
    "$@"
    status=$?
    [ "$status" = "$expected" ] || fail "$*: exit status $status instead of $expected"
}

refused() {
    echo "\$ $*"
    ! "$@" || fail "$*: exit status 0"
}

# Prints a field of the agent's status.
field() { xen-guest-agent status 2>/dev/null | sed -n "s/^$1 = //p"; }

# Waits until a field has a value.
await() {
    for _ in $(seq 100); do
        [ "$(field "$1")" = "$2" ] && return
        sleep 0.1
    done
    fail "$1 = $(field "$1") instead of $2"
}

# The service is enabled, so it runs after the boot.
await state '"published"'
expect 0 "$service" status
expect 0 "$service" start
getent passwd xen-guest-agent | grep -q nologin || fail "no system user"

# A reload sends SIGHUP.
process=$(field process)
cp "$settings" /valid
echo 'schema = "rfc"' >>"$settings"
expect 0 "$service" reload
await schema '"rfc"'
[ "$(field process)" = "$process" ] || fail "the reload was a restart"

# Invalid settings leave the agent running.
echo 'no-such-setting = 1' >>"$settings"
refused "$service" reload
refused "$service" restart
expect 0 "$service" status
[ "$(field process)" = "$process" ] || fail "another process after invalid settings"

cp /valid "$settings"
expect 0 "$service" restart
await state '"published"'
await schema '"std"'
[ "$(field process)" != "$process" ] || fail "the restart had no effect"

expect 0 "$service" stop
expect 3 "$service" status
expect 3 xen-guest-agent status
expect 0 "$service" stop
expect 0 "$service" start
await state '"published"'

# OWN CHECKS

# An upgrade by the same script keeps the settings and restarts the service.
process=$(field process)
expect 0 sh /archive/install.sh -n
await state '"published"'
[ "$(field process)" != "$process" ] || fail "the upgrade did not restart the service"
cmp /valid "$settings" || fail "the upgrade changed the settings"
expect 0 xenstore-ls -h

expect 0 sh /usr/share/xen-guest-agent/install.sh -n --uninstall
pidof xen-guest-agent && fail "the agent still runs"
left=$(find / -xdev -path /archive -prune -o -name '*xen-guest-agent*' -print -o -name '*xenstore*' -print | sort)
[ "$left" = /etc/xen-guest-agent ] || fail "left: $left"
cmp /valid "$settings" || fail "the removal changed the settings"
refused sh /archive/install.sh --uninstall </dev/null

echo passed
