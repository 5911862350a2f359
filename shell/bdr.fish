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

# Is false if bdr is gone: said once.
function __bdr_there
    test -x "$__bdr_bin"; or command --query $__bdr_bin; and return 0
    set -q __bdr_said_gone; or printf 'bdr: %s is gone: lines of this shell are not protected any more\n' $__bdr_bin >&2
    set -g __bdr_said_gone 1
    return 1
end

# Prints the processes that run in the background, as an option of bdr.
function __bdr_jobs
    set -l pids (jobs --pid 2>/dev/null | string match --regex '^[0-9]+$' | string join ,)
    test -n "$pids"; and printf '%s\n' --jobs $pids
end

# Prints what functions, aliases and variables of a line stand for here, as a POSIX shell would write it.
function __bdr_means
    set -l rest $argv[1]
    for word in (string match --all --regex '[A-Za-z0-9_.-]+' -- $argv[1])
        string match --quiet '__bdr_*' -- $word; and continue
        functions --query -- $word; or continue
        # What comes with fish is known by its name.
        string match --quiet -- "$__fish_data_dir/*" (functions --details -- $word 2>/dev/null); and continue
        set -l body (functions --no-details -- $word 2>/dev/null | string collect | string sub --length 4000)
        printf ': %s\n' (__bdr_quoted $body)
        set rest "$rest $body"
    end
    for word in (string match --all --groups-only --regex '\$\{?([A-Za-z_][A-Za-z0-9_]*)' -- $rest)
        contains -- $word HOME PWD; and continue
        set -q $word; or continue
        switch (count $$word)
            case 1
                printf '%s=%s\n' $word (__bdr_quoted (string sub --length 4000 -- $$word))
            case '*'
                printf ': %s\n' (__bdr_quoted $$word[1..64] | string join ' ')
        end
    end
end

# Prints texts in quotes of a POSIX shell.
function __bdr_quoted
    for text in $argv
        printf "'%s'\n" (string replace --all "'" "'\\''" -- $text | string collect)
    end | string collect
end

function __bdr_preexec --on-event fish_preexec
    set -g __bdr_open
    if test -n "$__bdr_accepted"
        set -g __bdr_open 1
        set -g __bdr_accepted
    else if test "$BDR" != 0; and not __bdr_looks "$argv[1]"; and __bdr_there
        __bdr_means "$argv[1]" 2>/dev/null | command $__bdr_bin hook shell before --means --shell fish --session $fish_pid (__bdr_jobs) -- "$argv[1]" >/dev/null
        and set -g __bdr_open 1
    end
end

# If a snapshot was taken for the line, say what became of it.
function __bdr_postexec --on-event fish_postexec
    set -l code $status
    if test -n "$__bdr_open"; and __bdr_there
        set -g __bdr_open
        command $__bdr_bin hook shell after --shell fish --session $fish_pid --exit $code (__bdr_jobs) </dev/null
    end
    return $code
end

# With --veto: asks before the line is taken; one that destroys and cannot be protected stays in the editor.
function __bdr_accept
    set -l line (commandline | string collect)
    set -g __bdr_accepted
    if test "$BDR" != 0; and not __bdr_looks "$line"; and __bdr_there
        __bdr_means "$line" 2>/dev/null | command $__bdr_bin hook shell before --veto --means --shell fish --session $fish_pid (__bdr_jobs) -- "$line" >/dev/null
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
