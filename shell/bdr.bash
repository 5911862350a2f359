# bdr for bash: `guard rm -rf build` takes a snapshot, then runs the command; `bdr undo` takes it back.
# To use it, add to ~/.bashrc:   source /path/to/bdr.bash
# An alias in place of the function, or of what it calls, would come first; \command goes past both.
\builtin unalias guard &>/dev/null || \builtin true

function guard() {
    if ! \builtin type -P bdr &>/dev/null; then
        \builtin printf 'guard: not run. bdr is not on PATH.\n' >&2
        \builtin return 125
    fi
    \command bdr guard -- "$@"
}
