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
    apt-get update -q -o Acquire::Languages=none
    # A configuration file that was there before a package stays.
    apt-get install -q -y --no-install-recommends -o DPkg::Lock::Timeout=120 \
        -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold -- "$@"
}

