# bdr for fish. In ~/.config/fish/config.fish: bdr shell init fish | source
# Before each typed line that may change something, a snapshot; after it, what is gone and how it comes back. `guard COMMAND` for one command.
# Off: BDR=0.

set -g __bdr_bin '@BDR@'
test -x "$__bdr_bin"; or set -g __bdr_bin bdr
functions --erase guard 2>/dev/null

function guard --wraps command --description 'Take a snapshot, then run the command; bdr undo takes it back'
    if not command --query $__bdr_bin
        printf 'guard: not run. bdr is not on PATH.\n' >&2
        return 125
    end
    command $__bdr_bin guard -- $argv
end

# Is true for lines that only look: nothing is started for them.
function __bdr_looks
    string match --quiet --regex '[;&|<>`$(){}\n]|--output' -- $argv[1]; and return 1
    string match --quiet --regex '^\s*($|#|(cd|ls|ll|la|l|pwd|echo|cat|head|tail|wc|grep|which|type|jobs|clear|exit|true|whoami|id|uname|df|du|ps|top|htop|stat|uptime|free|pushd|popd|dirs|alias|bdr|guard|z|zi|j)(\s|$)|(history|printf|less|more|man|rg|file|tree|git (status|log|diff|show|blame|ls-files))(\s+[^-\s]\S*)*\s*$)' -- $argv[1]
end

function __bdr_preexec --on-event fish_preexec
    set -g __bdr_open
    if test -n "$__bdr_accepted"
        set -g __bdr_open 1
        set -g __bdr_accepted
    else if test "$BDR" != 0; and not __bdr_looks "$argv[1]"
        command $__bdr_bin hook shell before --shell fish --session $fish_pid -- "$argv[1]" </dev/null >/dev/null
        and set -g __bdr_open 1
    end
end

# If a snapshot was taken for the line, say what became of it.
function __bdr_postexec --on-event fish_postexec
    set -l code $status
    if test -n "$__bdr_open"
        set -g __bdr_open
        set -l jobs (jobs --pid 2>/dev/null | string match --regex '^[0-9]+$' | string join ,)
        test -n "$jobs"; and set jobs --jobs $jobs
        command $__bdr_bin hook shell after --shell fish --session $fish_pid --exit $code $jobs </dev/null
    end
    return $code
end

# With --veto: asks before the line is taken; one that destroys and cannot be protected stays in the editor.
function __bdr_accept
    set -l line (commandline | string collect)
    set -g __bdr_accepted
    if test "$BDR" != 0; and not __bdr_looks "$line"
        command $__bdr_bin hook shell before --veto --shell fish --session $fish_pid -- "$line" </dev/null >/dev/null
        switch $status
            case 0
                set -g __bdr_accepted 1
            case 125
                commandline -f repaint
                return
        end
    end
    commandline -f execute
end

function __bdr_veto
    for mode in default insert
        bind --mode $mode \r __bdr_accept 2>/dev/null
        bind --mode $mode \n __bdr_accept 2>/dev/null
    end
end

if not status is-interactive
    functions --erase __bdr_preexec __bdr_postexec
end
# @OPTIONS@
