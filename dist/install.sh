#!/bin/sh
# Installs xen-guest-agent and the command xenstore from this directory, or removes them: sh install.sh --help
#
# Use a package where there is one. This script is for systems without one.
set -eu

PATH=$PATH:/usr/sbin:/sbin
agent=/usr/sbin/xen-guest-agent
share=/usr/share/xen-guest-agent
list=$share/installed-files
incomplete=$share/incomplete
script=/etc/init.d/xen-guest-agent

usage() {
	cat <<-'END'
		Usage: install.sh [-n]              install, or upgrade
		       install.sh [-n] --uninstall  remove, but keep /etc/xen-guest-agent

		  -n  ask nothing
	END
}

fail() {
	echo "install.sh: $*" >&2
	exit 1
}

confirm() {
	[ "$asks" = yes ] || return 0
	printf '%s [y/N] ' "$1"
	read -r answer || answer=
	case $answer in
		[yY] | [yY][eE][sS]) ;;
		*) fail "nothing changed" ;;
	esac
}

has() { command -v "$1" >/dev/null 2>&1; }

# Whether a package owns the file.
is_packaged() {
	{ has dpkg && dpkg -S "$1"; } >/dev/null 2>&1 ||
		{ has rpm && rpm -qf "$1"; } >/dev/null 2>&1 ||
		{ has apk && apk info --who-owns "$1"; } >/dev/null 2>&1 ||
		{ has pacman && pacman -Qo "$1"; } >/dev/null 2>&1
}

# Whether an earlier run of this script installed the file, and no package has replaced it since.
is_ours() { [ -f "$list" ] && grep -qxF "$1" "$list" && ! is_packaged "$1"; }

# Removes a file, or a directory if it is empty, that this script installed. Directories end with a slash.
remove() {
	if is_packaged "${1%/}"; then
		return
	fi
	case $1 in
		*/) rmdir "$1" 2>/dev/null || : ;;
		*) rm -f "$1" "$1.new" ;;
	esac
}

# Creates a directory and those that lead to it, and records the new ones.
make_dir() {
	if [ -d "$1" ]; then
		return
	fi
	make_dir "$(dirname "$1")"
	echo "$1/" >>"$list.new"
	mkdir "$1"
}

# Records the file $2, and installs $1 there with the mode $3.
put() {
	make_dir "$(dirname "$2")"
	echo "$2" >>"$list.new"
	# A running program cannot be overwritten, but its file can be replaced.
	cp "$1" "$2.new"
	chmod "$3" "$2.new"
	mv -f "$2.new" "$2"
}

# Adds the files of an interrupted run to the list.
merge_lists() {
	if [ -f "$list.new" ]; then
		cat "$list.new" >>"$list"
		rm "$list.new"
	fi
}

# Prints the init system: systemd, openrc or sysv.
init_system() {
	if [ -d /run/systemd/system ] || { has systemctl && ! [ -x /sbin/openrc-run ]; }; then
		echo systemd
	elif [ -x /sbin/openrc-run ]; then
		echo openrc
	elif [ -d /etc/init.d ]; then
		echo sysv
	else
		fail "found none of systemd, OpenRC and SysV init; copy the files by hand"
	fi
}

create_user() {
	if grep -q '^xen-guest-agent:' /etc/passwd; then
		return
	elif has systemd-sysusers; then
		systemd-sysusers /usr/lib/sysusers.d/xen-guest-agent.conf
	elif has useradd; then
		group=--user-group
		! grep -q '^xen-guest-agent:' /etc/group || group=--gid=xen-guest-agent
		useradd --system "$group" --no-create-home --home-dir / --shell /sbin/nologin \
			--comment "Xen guest agent" xen-guest-agent
	else
		addgroup -S xen-guest-agent
		adduser -S -D -H -h / -s /sbin/nologin -G xen-guest-agent -g "Xen guest agent" xen-guest-agent
	fi
}

# Restarts the service after an upgrade, if it runs. The administrator may have disabled it.
restart_service() {
	case $(init_system) in
		systemd)
			if [ -d /run/systemd/system ]; then
				systemctl daemon-reload
				systemctl try-restart xen-guest-agent.service
			fi
			;;
		openrc) rc-service --ifstarted xen-guest-agent restart ;;
		sysv) "$script" try-restart ;;
	esac
}

start_service() {
	case $(init_system) in
		systemd)
			systemctl enable xen-guest-agent.service
			if [ -d /run/systemd/system ]; then
				systemctl daemon-reload
				systemctl restart xen-guest-agent.service
			fi
			;;
		openrc)
			rc-update -q add xen-guest-agent default
			if [ -e /run/openrc/softlevel ]; then
				rc-service xen-guest-agent restart || echo "the service does not run on this machine" >&2
			fi
			;;
		sysv)
			if has update-rc.d; then
				update-rc.d xen-guest-agent defaults
			elif has chkconfig; then
				chkconfig --add xen-guest-agent
			else
				echo "enable the service $script in the way of this system"
			fi
			# While an image is built, no init runs.
			if [ "$(runlevel 2>/dev/null || :)" != unknown ]; then
				"$script" restart || echo "the service does not run on this machine" >&2
			fi
			;;
	esac
}

# Stops and disables the service. A part of it that is missing already is no reason to keep the rest.
stop_service() {
	case $(init_system) in
		systemd)
			systemctl disable xen-guest-agent.service || :
			if [ -d /run/systemd/system ]; then
				systemctl stop xen-guest-agent.service || :
			fi
			;;
		openrc)
			rc-update -q del xen-guest-agent default || :
			if [ -e /run/openrc/softlevel ]; then
				rc-service --ifstarted xen-guest-agent stop || :
			fi
			;;
		sysv)
			"$script" stop || :
			if has update-rc.d; then
				update-rc.d -f xen-guest-agent remove || :
			elif has chkconfig; then
				chkconfig --del xen-guest-agent || :
			fi
			;;
	esac
}

install_all() {
	from=$(CDPATH='' cd "$(dirname "$0")" && pwd)
	[ -x "$from$agent" ] || fail "$from$agent: no such file; run the script in the unpacked archive"
	if grep -qs control_d /proc/xen/capabilities; then
		fail "this is domain 0, and the agent is for guests"
	fi
	is_ours "$agent" || ! is_packaged "$agent" || fail "a package has installed $agent; upgrade or remove that package"
	"$from$agent" --version >/dev/null || fail "$from$agent does not run on this system"
	init=$(init_system)
	confirm "Install $("$from$agent" --version) as a service of $init?"

	mkdir -p "$share"
	# The marker stays if this run fails, so that the next run is no upgrade either.
	[ -f "$list" ] || : >"$incomplete"
	is_upgrade=yes
	[ ! -e "$incomplete" ] || is_upgrade=no
	merge_lists
	put "$from/install.sh" "$share/install.sh" 755
	put "$from$agent" "$agent" 755
	# The files below may belong to the package xenstore-utils.
	if [ -e /usr/bin/xenstore ] && ! is_ours /usr/bin/xenstore; then
		echo "keeping /usr/bin/xenstore, which this script has not installed; its man pages and completions stay out, too"
		is_wanted() { case $1 in *xenstore*) return 1 ;; esac; }
	else
		is_wanted() { :; }
		put "$from/usr/bin/xenstore" /usr/bin/xenstore 755
		for link in "$from"/usr/bin/xenstore-*; do
			[ -L "$link" ] || continue
			echo "/usr/bin/${link##*/}" >>"$list.new"
			ln -sf xenstore "/usr/bin/${link##*/}"
		done
	fi
	(cd "$from" && find usr/share usr/lib ! -type d) >"$list.source"
	while read -r file; do
		if is_wanted "$file"; then
			put "$from/$file" "/$file" 644
		fi
	done <"$list.source"
	rm "$list.source"
	case $init in
		openrc | sysv) put "$from/$init/xen-guest-agent" "$script" 755 ;;
	esac

	# The administrator's files are neither replaced nor recorded.
	mkdir -p /etc/xen-guest-agent/conf.d /etc/xen-guest-agent/services.d
	# An upgrade leaves a deleted file deleted.
	if [ "$is_upgrade" = no ] && ! [ -e /etc/xen-guest-agent/config.toml ]; then
		cp "$from/etc/xen-guest-agent/config.toml" /etc/xen-guest-agent/
		chmod 644 /etc/xen-guest-agent/config.toml
	fi

	# Removes files and directories of an earlier version that this one lacks.
	if [ -f "$list" ]; then
		LC_ALL=C sort -r "$list" | while read -r file; do
			grep -qxF "$file" "$list.new" || remove "$file"
			case $file in
				*/) ! [ -d "$file" ] || echo "$file" >>"$list.new" ;;
			esac
		done
	fi

	create_user || echo "install.sh: cannot create the user xen-guest-agent, which only the setting confine needs" >&2
	if has udevadm; then
		udevadm control --reload 2>/dev/null || :
	fi
	if [ "$is_upgrade" = yes ]; then
		restart_service
	else
		start_service
	fi
	mv "$list.new" "$list"
	rm -f "$incomplete"
	echo "installed; to remove it again: sh $share/install.sh --uninstall"
}

uninstall() {
	[ -f "$list" ] || [ -f "$list.new" ] || fail "this script has installed nothing here"
	confirm "Remove xen-guest-agent?"

	merge_lists
	# The service of a package that has replaced the files goes on.
	if ! is_packaged "$agent"; then
		stop_service
		# In a chroot these belong to the running machine, whose agent goes on.
		if [ "$(stat -Lc %d:%i /proc/1/root/. 2>/dev/null)" = "$(stat -Lc %d:%i /.)" ]; then
			"$agent" withdraw || echo "published nodes stay in Xenstore until the guest is shut down" >&2
			rm -rf /run/xen-guest-agent
		fi
	fi
	# In reverse order a directory follows the files in it.
	LC_ALL=C sort -r "$list" | while read -r file; do
		remove "$file"
	done
	rm -f "$list" "$list.source" "$incomplete"
	rmdir "$share" 2>/dev/null || :
	if [ -d /run/systemd/system ]; then
		systemctl daemon-reload
	fi
	echo "removed; the settings in /etc/xen-guest-agent and the user xen-guest-agent stay"
}

asks=yes
action=install_all
for argument; do
	case $argument in
		-n) asks=no ;;
		--uninstall) action=uninstall ;;
		-h | --help)
			usage
			exit
			;;
		*)
			usage >&2
			exit 2
			;;
	esac
done
[ "$(id -u)" = 0 ] || fail "run this script as root"
umask 022
"$action"
