# bdr for zsh. In ~/.zshrc: eval "$(bdr shell init zsh)"
# Before each typed line that may change something, a snapshot; after it, what is gone and how it comes back. `guard COMMAND` for one command.
# Off: BDR=0. Other programs keep their hooks.

typeset -g __bdr_bin='@BDR@'
[[ -x $__bdr_bin ]] || __bdr_bin=bdr

# An alias in place of the function, or of what it calls, would come first; \command goes past both.
\builtin unalias guard &>/dev/null || \builtin true

function guard() {
    if ! \builtin whence -p "$__bdr_bin" &>/dev/null; then
        \builtin print -u2 -r -- 'guard: not run. bdr is not on PATH.'
        \builtin return 125
    fi
    \command "$__bdr_bin" guard -- "$@"
}

# Is true for lines that only look: nothing is started for them.
function __bdr_looks() {
    \builtin emulate -L zsh
    [[ $1 == *[\;\&\|\<\>\`\$\(\)\{\}]* || $1 == *--output* || $1 == *$'\n'* ]] && \builtin return 1
    \builtin setopt extended_glob
    \builtin local line="${1##[[:blank:]]#} "
    case $line in
        (' '|\#*) \builtin return 0 ;;
        ((cd|ls|ll|la|l|pwd|echo|print|printf|cat|less|more|head|tail|wc|grep|rg|which|whence|type|man|history|fc|jobs|fg|bg|clear|exit)' '*) \builtin return 0 ;;
        ((true|whoami|id|uname|df|du|ps|top|htop|stat|file|tree|uptime|free|pushd|popd|dirs|alias|bdr|guard|z|zi|j)' '*) \builtin return 0 ;;
        (git' '(status|log|diff|show|blame|fetch|add|ls-files)' '*) \builtin return 0 ;;
    esac
    \builtin return 1
}

# $1 is what was typed, $3 the same with its aliases expanded and put in other lines.
function __bdr_preexec() {
    __bdr_open=
    \builtin local line="$1"
    [[ ${1%%[[:space:]]*} == ${3%%[[:space:]]*} ]] || line="$3"
    if [[ -n ${__bdr_accepted-} ]]; then
        __bdr_open=1 __bdr_accepted=
    elif [[ ${BDR-} != 0 ]] && ! __bdr_looks "$line"; then
        \command "$__bdr_bin" hook shell before --shell zsh --session "$$" -- "$line" </dev/null >/dev/null && __bdr_open=1
    fi
    \builtin return 0
}

# If a snapshot was taken for the line, say what became of it.
function __bdr_precmd() {
    \builtin local code=$?
    if [[ -n ${__bdr_open-} ]]; then
        __bdr_open=
        \command "$__bdr_bin" hook shell after --shell zsh --session "$$" --exit "$code" </dev/null
    fi
    \builtin return $code
}

# With --veto: asks before the line is taken; one that destroys and cannot be protected stays in the editor.
function __bdr_accept() {
    __bdr_accepted=
    if [[ ${BDR-} != 0 && -n $BUFFER && $CONTEXT == start ]] && ! __bdr_looks "$BUFFER"; then
        \builtin local said
        said=$(\command "$__bdr_bin" hook shell before --veto --shell zsh --session "$$" -- "$BUFFER" </dev/null 2>&1 >/dev/null)
        case $? in
            0) __bdr_accepted=1 ;;
            125) zle -M -- "$said"; \builtin return 1 ;;
            *) zle -M -- "$said" ;;
        esac
    fi
    zle __bdr_accept_line
}

function __bdr_veto() {
    # Whoever has the key already is called after it.
    if (( ${+widgets[accept-line]} )) && [[ ${widgets[accept-line]} == user:* ]]; then
        zle -A accept-line __bdr_accept_line
    else
        zle -A .accept-line __bdr_accept_line
    fi
    zle -N accept-line __bdr_accept
}

if [[ -o interactive && -z ${__bdr_loaded-} ]]; then
    typeset -g __bdr_loaded=1 __bdr_open=
    \builtin autoload -Uz add-zsh-hook
    add-zsh-hook preexec __bdr_preexec
    add-zsh-hook precmd __bdr_precmd
fi
# @OPTIONS@
