#!/bin/sh
# bdr and the real programs of the system around it: schedulers run it, others read what it hands them, a desktop shows its notes.
# Usage: tests/system.sh BDR. What this machine does not have is skipped, loudly. Nothing outside a scratch directory is changed: real
# daemons run in namespaces of their own.
set -eu
# shellcheck disable=SC1007 # an empty assignment: no CDPATH
here=$(CDPATH= cd "$(dirname "$0")" && pwd)

say() { printf '%s\n' "$*"; }
skip() { say "SKIPPED: $*"; }
die() { say "tests/system.sh: $*" >&2; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }

# The parts that run inside of a namespace.
if [ "${1:-}" = inside-systemd ]; then
    mount -t tmpfs tmpfs /run/systemd && mkdir -p /run/systemd/system
    mount -t tmpfs tmpfs /sys/fs/cgroup && mkdir -p /sys/fs/cgroup/systemd
    mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd
    mkdir -p /sys/fs/cgroup/systemd/bdr && echo $$ >/sys/fs/cgroup/systemd/bdr/cgroup.procs
    manager=/lib/systemd/systemd
    [ -x "$manager" ] || manager=/usr/lib/systemd/systemd
    "$manager" --user >"$T/systemd.log" 2>&1 &
    pid=$!
    n=0
    until systemctl --user show-environment >/dev/null 2>&1; do
        n=$((n + 1))
        [ $n -lt 100 ] || { cat "$T/systemd.log"; exit 9; }
        sleep 0.1
    done
    "$BDR" schedule install || exit 1
    mkdir -p "$XDG_CONFIG_HOME/systemd/user/bdr-tick.timer.d"
    printf '[Timer]\nOnCalendar=\nOnCalendar=*:*:0/2\nAccuracySec=100ms\n' >"$XDG_CONFIG_HOME/systemd/user/bdr-tick.timer.d/fast.conf"
    systemctl --user daemon-reload
    systemctl --user restart bdr-tick.timer
    n=0
    until grep -q '"by":"systemd"' "$BDR_HOME"/state/*/memory.json 2>/dev/null; do
        n=$((n + 1))
        [ $n -lt 300 ] || { systemctl --user status bdr-tick.service bdr-tick.timer; exit 1; }
        sleep 0.1
    done
    # It goes on firing, and what it ran succeeded.
    sleep 3
    systemctl --user show bdr-tick.service -p Result,ExecMainStatus
    "$BDR" schedule status || exit 1
    "$BDR" schedule uninstall || exit 1
    if systemctl --user is-active bdr-tick.timer; then exit 1; fi
    kill $pid
    exit 0
fi
if [ "${1:-}" = inside-cron ]; then
    mount -t tmpfs tmpfs /var/spool/cron && mkdir -m 1730 /var/spool/cron/crontabs
    mount -t tmpfs tmpfs /run
    printf '# caf\351\n0 1 1 1 * true\n' | crontab -
    crontab -l >"$T/before"
    "$BDR" schedule install --backend cron || exit 1
    # The same command, every minute.
    crontab -l | LC_ALL=C sed 's/^[0-9]* \* \* \* \*/* * * * */' | crontab -
    cron -f -L 15 >"$T/cron.log" 2>&1 &
    pid=$!
    n=0
    until grep -q '"by":"cron"' "$BDR_HOME"/state/*/memory.json 2>/dev/null; do
        n=$((n + 1))
        [ $n -lt 1300 ] || { cat "$T/cron.log"; exit 1; }
        sleep 0.1
    done
    kill $pid
    "$BDR" schedule status || exit 1
    "$BDR" schedule uninstall || exit 1
    crontab -l | cmp - "$T/before" || exit 1
    exit 0
fi

if [ "${1:-}" = inside-desktop ]; then
    /usr/bin/python3 -m dbusmock --template notification_daemon >"$T/notes" 2>&1 &
    pid=$!
    n=0
    until dbus-send --session --print-reply --dest=org.freedesktop.DBus / org.freedesktop.DBus.GetNameOwner string:org.freedesktop.Notifications >/dev/null 2>&1; do
        n=$((n + 1))
        [ $n -lt 100 ] || exit 9
        sleep 0.1
    done
    "$BDR" notify --test || exit 1
    # The same without the program that is made for it.
    mkdir "$T/only"
    ln -s "$(command -v busctl)" "$T/only/busctl"
    PATH=$T/only "$BDR" notify --test || exit 1
    kill $pid
    [ "$(grep -c 'Notify "bdr"' "$T/notes")" = 2 ] || { cat "$T/notes"; exit 1; }
    exit 0
fi

BDR=${1:?usage: tests/system.sh BDR}
T=$(mktemp -d "${TMPDIR:-/tmp}/bdr-system.XXXXXX")
trap 'chmod -R u+w "$T"; rm -rf "$T"' EXIT
export BDR T

# A world of its own, with a source and a backup: `world NAME`.
world() {
    HOME=$T/$1/home
    BDR_HOME=$T/$1/bdr
    XDG_CONFIG_HOME=$HOME/.config
    XDG_RUNTIME_DIR=$T/$1/run
    export HOME BDR_HOME XDG_CONFIG_HOME XDG_RUNTIME_DIR
    mkdir -p "$HOME/notes" "$XDG_RUNTIME_DIR"
    chmod 700 "$XDG_RUNTIME_DIR"
    echo precious >"$HOME/notes/a.md"
    "$BDR" init --yes --quiet --source "notes=$HOME/notes" >"$T/said" 2>&1 || { cat "$T/said"; die "init failed"; }
}
member() { python3 -c 'import json,sys; d=json.load(sys.stdin)
for k in sys.argv[1].split("."): d=d[int(k)] if k.isdigit() else d[k]
sys.stdout.write(str(d))' "$1"; }

has python3 || { skip "what schedulers are told, as others read it (no python3)"; exit 0; }
world readers

# Units, by systemd's own checker. It exits with 0 on unknown keys, but says so.
if has systemd-analyze; then
    mkdir "$T/units"
    "$BDR" schedule print --backend systemd --json >"$T/units.json"
    for n in 0 1; do
        name=$(member "data.files.$n.path" <"$T/units.json")
        member "data.files.$n.text" <"$T/units.json" >"$T/units/$(basename "$name")"
    done
    said=$(systemd-analyze --user verify "$T/units/bdr-tick.timer" "$T/units/bdr-tick.service" 2>&1) || die "systemd-analyze verify: $said"
    # What it says of other units of this machine is not about these.
    case $said in *bdr-tick*) die "systemd-analyze verify: $said" ;; esac
    say "ok: systemd-analyze accepts the units"

    # Our calendar and systemd's, over nights when clocks change.
    checked=0
    for zone in UTC Europe/Berlin America/New_York Australia/Lord_Howe; do
        [ -e "/usr/share/zoneinfo/$zone" ] || continue
        for base in 2026-03-07T12:00 2026-03-08T12:00 2026-03-27T23:00 2026-03-30T03:00 2026-04-04T12:00 2026-07-01T02:31 2026-10-03T20:00 2026-10-24T12:00 2026-10-31T22:10 2026-12-31T23:59; do
            for at in 00:15 04:30 23:45; do
                now=$(TZ=$zone date -d "$base" +%s)
                theirs=$(TZ=$zone systemd-analyze calendar --base-time="@$now" "*-*-* $at:00" | sed -n 's/.*Next elapse: *//p')
                theirs=$(TZ=$zone date -d "$theirs" +%s)
                sed -i '/^\[schedule\]/,$d' "$BDR_HOME/config.toml"
                printf '[schedule]\nat = "%s"\n' "$at" >>"$BDR_HOME/config.toml"
                utc=$(date -u -d "@$now" +%Y-%m-%dT%H:%M:%SZ)
                # Everything that was due is done: what is next is the next slot.
                printf '{"since":"%s","pasts":{"backup":{"success":"%s","failures":0}}}' "$utc" "$utc" >"$(echo "$BDR_HOME"/state/*/memory.json)"
                ours=$(TZ=$zone BDR_TEST_NOW=$utc "$BDR" tick --dry-run --json | member data.next)
                ours=$(date -d "$ours" +%s)
                [ "$ours" = "$theirs" ] || die "after $base in $zone, $at comes at $ours, by systemd at $theirs"
                checked=$((checked + 1))
            done
        done
    done
    say "ok: $checked slots as systemd-analyze has them"
else
    skip "units and slots as systemd reads them (no systemd-analyze)"
fi

"$BDR" schedule print --backend launchd --json | member data.files.0.text >"$T/tick.plist"
python3 - "$T/tick.plist" "$BDR" <<'PY'
import plistlib, sys
plist = plistlib.load(open(sys.argv[1], "rb"))
assert plist["ProgramArguments"][1:] == ["tick", "--quiet", "--scheduler", "launchd"], plist
assert 1 <= plist["StartCalendarInterval"]["Minute"] <= 59 and plist["RunAtLoad"] is True, plist
PY
if has plistutil; then
    plistutil -i "$T/tick.plist" -f bin -o "$T/tick.bin" || die "plistutil does not read the agent"
    [ -s "$T/tick.bin" ] || die "plistutil makes nothing of the agent"
else
    skip "the agent as plistutil reads it (no plistutil)"
fi
say "ok: the agent of launchd is a property list"

"$BDR" schedule print --backend schtasks --json | member data.files.0.text >"$T/tick.xml"
python3 - "$T/tick.xml" <<'PY'
import sys, xml.etree.ElementTree as tree
text = open(sys.argv[1], encoding="utf-8").read()
assert text.startswith("\ufeff") or text.startswith("<?xml"), text[:20]
task = tree.fromstring(text.lstrip("\ufeff").replace("\r\n", "\n").encode("utf-16"))
space = {"t": "http://schemas.microsoft.com/windows/2004/02/mit/task"}
get = lambda path: task.find(path, space).text
assert get("t:Settings/t:StartWhenAvailable") == "true" and get("t:Settings/t:StopIfGoingOnBatteries") == "false"
assert get("t:Settings/t:MultipleInstancesPolicy") == "IgnoreNew"
assert get("t:Triggers/t:CalendarTrigger/t:Repetition/t:Interval") == "PT1H"
assert get("t:Actions/t:Exec/t:Command") == "conhost.exe" and " tick --quiet" in get("t:Actions/t:Exec/t:Arguments")
PY
say "ok: the task of Windows is well-formed"

can_mount() { [ "$(id -u)" = 0 ] && has unshare && unshare -m true 2>/dev/null; }

if can_mount && has dbus-run-session && has systemctl && { [ -x /lib/systemd/systemd ] || [ -x /usr/lib/systemd/systemd ]; }; then
    world systemd
    code=0
    env -u DBUS_SESSION_BUS_ADDRESS unshare -m dbus-run-session -- sh "$here/system.sh" inside-systemd >"$T/said" 2>&1 || code=$?
    case $code in
        0)
            for line in ExecMainStatus=0 Result=success; do
                grep -qx "$line" "$T/said" || { cat "$T/said"; die "the service of systemd failed"; }
            done
            say "ok: a real systemd timer of the user woke bdr up"
            ;;
        9) skip "a real systemd timer (its manager does not start here)" ;;
        *) cat "$T/said"; die "a real systemd timer did not wake bdr up" ;;
    esac
else
    skip "a real systemd timer (it takes root, unshare, dbus-run-session and systemd)"
fi

if can_mount && has cron && has crontab; then
    world cron
    unshare -m sh "$here/system.sh" inside-cron >"$T/said" 2>&1 || { cat "$T/said"; die "a real cron did not wake bdr up"; }
    say "ok: a real cron woke bdr up, and the crontab is as it was"
else
    skip "a real cron (it takes root, unshare and cron)"
fi

if has dbus-run-session && has dbus-send && has notify-send && has busctl && /usr/bin/python3 -c 'import dbusmock' 2>/dev/null; then
    world desktop
    "$BDR" config set --quiet notify.desktop true
    code=0
    env -u DBUS_SESSION_BUS_ADDRESS dbus-run-session -- sh "$here/system.sh" inside-desktop >"$T/said" 2>&1 </dev/null || code=$?
    case $code in
        0) say "ok: a desktop shows notes, by notify-send and by busctl" ;;
        9) skip "a note on a desktop (no notification daemon can be played here)" ;;
        *) cat "$T/said"; die "a desktop does not show notes" ;;
    esac
else
    skip "a note on a desktop (it takes dbus-run-session, notify-send, busctl and python3-dbusmock)"
fi
