# What became of services. Goes with units.sh.

# diagnose UNIT...: the states of these and of all services that failed; then, for each that failed
# or has not ended starting, a line `log UNIT BYTES` and as many bytes of its journal's end.
diagnose() {
    export LC_ALL=C
    failed=$(systemctl list-units --type=service --state=failed --plain --no-legend --full |
        cut -d ' ' -f 1 | head -n 32)
    # The names of units hold no white space.
    set -- "$@" $failed
    [ $# -gt 0 ] || return 0
    show "$@"
    journalctl --sync
    troubled=$(systemctl list-units --type=service --state=failed,activating --plain --no-legend \
        --full | cut -d ' ' -f 1 | head -n 16)
    for unit in $troubled; do
        log=$(journalctl --quiet --no-pager --output=cat --lines=60 --unit="$unit" | tail -c 8000)
        printf '\nlog %s %s\n%s' "$unit" "${#log}" "$log"
    done
}

