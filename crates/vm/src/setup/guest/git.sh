# Git repositories. Goes with packages.sh.
export HOME=/root GIT_TERMINAL_PROMPT=0 GIT_SSH_COMMAND='ssh -o BatchMode=yes'

# git_config KEY VALUE, for every user of the guest
git_config() {
    git config --system --replace-all -- "$1" "$2"
}

# git_clone URL PATH REVISION; an empty revision is the default branch
git_clone() {
    git clone --quiet -- "$1" "$2"
    # A branch of the remote becomes a branch that follows it; a tag or commit is detached.
    [ -z "$3" ] || git -C "$2" -c advice.detachedHead=false checkout --quiet "$3" --
}

require_git() {
    command -v git >/dev/null || packages git ca-certificates openssh-client
}

