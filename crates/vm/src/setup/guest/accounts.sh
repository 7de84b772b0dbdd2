# Groups and users. Every argument may be empty: not asked for.
set -eu

# group NAME GID SYSTEM
group() {
    if entry=$(getent group "$1"); then
        gid=$(printf '%s' "$entry" | cut -d : -f 3)
        if [ -n "$2" ] && [ "$2" != "$gid" ]; then
            echo "group $1 exists with gid $gid, not $2" >&2
            exit 1
        fi
        return
    fi
    groupadd ${2:+--gid "$2"} ${3:+--system} -- "$1"
}

# user NAME UID GECOS HOME SHELL SYSTEM GROUPS, the groups separated by commas
user() {
    name=$1 uid=$2 gecos=$3 home=$4 shell=$5 system=$6 groups=$7
    set --
    [ -z "$uid" ] || set -- "$@" --uid "$uid"
    [ -z "$gecos" ] || set -- "$@" --comment "$gecos"

    if getent passwd "$name" >/dev/null; then
        [ -z "$home" ] || set -- "$@" --home "$home"
        [ -z "$shell" ] || set -- "$@" --shell "$shell"
        [ -z "$groups" ] || set -- "$@" --append --groups "$groups"
        [ $# -eq 0 ] || usermod "$@" -- "$name"
        return
    fi

    # A user has a group of its own name, which may have been made before.
    if getent group "$name" >/dev/null; then
        set -- "$@" --gid "$name"
    else
        set -- "$@" --user-group
    fi
    if [ -n "$system" ]; then
        set -- "$@" --system --shell "${shell:-/usr/sbin/nologin}" --home-dir "${home:-/}"
    else
        set -- "$@" --shell "${shell:-/bin/bash}" --home-dir "${home:-/home/$name}"
    fi
    if [ "$home" = / ] || [ -n "$system" ] && [ -z "$home" ]; then
        set -- "$@" --no-create-home
    else
        set -- "$@" --create-home
    fi
    [ -z "$groups" ] || set -- "$@" --groups "$groups"
    useradd "$@" -- "$name"
}

