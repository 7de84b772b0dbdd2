# Debian packages, without a question to anyone.
set -eu
export DEBIAN_FRONTEND=noninteractive

# packages NAME...
packages() {
    # Asking costs little; the lists of the archive take many seconds.
    if states=$(dpkg-query --show --showformat '${db:Status-Abbrev}\n' -- "$@" 2>/dev/null) &&
        ! printf '%s\n' "$states" | grep -qv '^.i '; then
        return
    fi
    # Lists of ten minutes ago are new enough, unless somebody removed them: a spec's layers ask for
    # them one after the other.
    fetched=/run/freestyle-apt-lists
    if [ -z "$(find "$fetched" -mmin -10 2>/dev/null)" ] ||
        ! ls /var/lib/apt/lists/*Packages* >/dev/null 2>&1; then
        apt-get update -q
        touch "$fetched"
    fi
    # A configuration file that was there before a package stays.
    apt-get install -q -y --no-install-recommends -o DPkg::Lock::Timeout=120 \
        -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold -- "$@"
}

