# Services: their files are in place, with those that replace some of them later in $SETTLED.
# A function that is given no units has nothing to do.
set -u
SETTLED=/run/freestyle/settled
status=0
limit=

# ready_within SECONDS: how long `start` may take.
ready_within() {
    limit=$1
}

# The host reads these properties.
show() {
    systemctl show \
        --property=Id,LoadState,ActiveState,SubState,Result,ExecMainStatus,NRestarts -- "$@"
}

enable() {
    [ $# -eq 0 ] || systemctl enable --quiet --no-reload -- "$@" || status=$?
}

disable() {
    [ $# -eq 0 ] || systemctl disable --quiet --no-reload -- "$@" || status=$?
}

load() {
    systemctl daemon-reload || status=$?
}

# What is patched and runs takes the patch over.
restart() {
    [ $# -eq 0 ] || systemctl try-restart -- "$@" || status=$?
}

# All at once: systemd orders them by their dependencies. Oneshots are waited for.
start() {
    [ $# -eq 0 ] || timeout "$limit" systemctl start -- "$@" || status=$?
}

# Prints the state of units, and fails if one of them failed.
check() {
    states=
    [ $# -eq 0 ] || states=$(show "$@") || status=$?
    printf '%s\n' "$states"
    case $states in *ActiveState=failed*) [ "$status" -ne 0 ] || status=1 ;; esac
    [ "$status" -eq 0 ] || exit "$status"
}

# Removes units that have done their work. Nobody may still require them when they are stopped: it
# would stop with them. A unit that is stopped and has no file is forgotten, so systemd reads its
# files again, which takes seconds in an emulated guest, only for those who required it.
forget() {
    [ $# -gt 0 ] || return 0
    if [ -d "$SETTLED" ]; then
        cp -R "$SETTLED/." /etc/systemd/system/ && rm -rf "$SETTLED" &&
            systemctl daemon-reload || return
    fi
    # Those which require each other stop together: the files are still there, because a unit that
    # has none and has stopped cannot be stopped.
    systemctl stop -- "$@" || return
    for unit; do
        # An earlier layer may have enabled it.
        if ls /etc/systemd/system/*/"$unit" >/dev/null 2>&1; then
            systemctl disable --quiet --no-reload -- "$unit"
        fi
        rm -rf "/etc/systemd/system/$unit" "/etc/systemd/system/$unit.d"
    done
}
