# bdr for zsh: `guard rm -rf build` takes a snapshot, then runs the command; `bdr undo` takes it back.
# To use it, add to ~/.zshrc:   source /path/to/bdr.zsh
# An alias in place of the function, or of what it calls, would come first; \command goes past both.
\builtin unalias guard &>/dev/null || \builtin true

function guard() {
    if ! \builtin whence -p bdr &>/dev/null; then
        \builtin print -u2 -r -- 'guard: not run. bdr is not on PATH.'
        \builtin return 125
    fi
    \command bdr guard -- "$@"
}
