# bdr for zsh. In ~/.zshrc: eval "$(bdr shell init zsh)"
# Before each typed line that may change something, a snapshot; after it, what is gone and how it comes back. `guard COMMAND` for one command.
# Off: BDR=0. Other programs keep their hooks.

typeset -g __bdr_bin='@BDR@'
typeset -ga __bdr_jobs
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
        ((cd|ls|ll|la|l|pwd|echo|cat|head|tail|wc|grep|which|type|jobs|clear|exit)' '*) \builtin return 0 ;;
        ((true|whoami|id|uname|df|du|ps|top|htop|stat|uptime|free|pushd|popd|dirs|alias|bdr|guard|z|zi|j)' '*) \builtin return 0 ;;
        # Without options: some write.
        (*' -'*) \builtin return 1 ;;
        ((history|printf|less|more|man|rg|file|tree)' '*) \builtin return 0 ;;
        (git' '(status|log|diff|show|blame|ls-files)' '*) \builtin return 0 ;;
    esac
    \builtin return 1
}

# Prints what functions and variables of a line stand for here.
function __bdr_means() {
    \builtin emulate -L zsh
    \builtin setopt extended_glob
    \builtin local word rest="$1"
    for word in ${(u)=${1//[^A-Za-z0-9_.-]/ }}; do
        if (( ${+functions[$word]} )) && [[ $word != __bdr_* && ${#functions[$word]} -lt 4000 ]]; then
            \builtin print -r -- "$word() {"$'\n'"${functions[$word]}"$'\n'"}"
            rest+=" ${functions[$word]}"
        fi
    done
    for word in ${(u)=${${(M)${(s:$:)rest}##(\{|)[A-Za-z_][A-Za-z0-9_]#}#\{}}; do
        if (( ${+parameters[$word]} )) && [[ $word != (HOME|PWD|__bdr_*) ]]; then
            case ${parameters[$word]} in
                (array*|association*) \builtin print -r -- ": ${(q)${(P)word}}" ;;
                (scalar*) [[ ${#${(P)word}} -lt 4000 ]] && \builtin print -r -- "$word=${(q)${(P)word}}" ;;
            esac
        fi
    done
}

# Is false if bdr is gone: said once.
function __bdr_there() {
    [[ -x $__bdr_bin ]] || \builtin whence -p "$__bdr_bin" &>/dev/null && \builtin return 0
    [[ -n ${__bdr_said_gone-} ]] || \builtin print -u2 -r -- "bdr: $__bdr_bin is gone: lines of this shell are not protected any more"
    typeset -g __bdr_said_gone=1
    \builtin return 1
}

# Sets __bdr_jobs to the processes that run in the background, as an option of bdr.
function __bdr_look_at_jobs() {
    \builtin emulate -L zsh
    \builtin local pids= job
    # As in running:+:4711=running:4712=running. A subshell would not know them.
    for job in ${(M)${(s.:.)${(j.:.)jobstates}}:#<->=*}; do
        pids+=${pids:+,}${job%%=*}
    done
    __bdr_jobs=(${pids:+--jobs} $pids)
}

# $1 is what was typed, $3 the same with its aliases expanded and put in other lines.
function __bdr_preexec() {
    __bdr_open=
    \builtin local line="$1"
    [[ ${1%%[[:space:]]*} == ${3%%[[:space:]]*} ]] || line="$3"
    if [[ -n ${__bdr_accepted-} ]]; then
        __bdr_open=1 __bdr_accepted=
    elif [[ ${BDR-} != 0 ]] && ! __bdr_looks "$line" && __bdr_there; then
        __bdr_look_at_jobs
        __bdr_means "$line" 2>/dev/null | \command "$__bdr_bin" hook shell before --means --shell zsh --session "$$" "${__bdr_jobs[@]}" -- "$line" >/dev/null && __bdr_open=1
    fi
    \builtin return 0
}

# If a snapshot was taken for the line, say what became of it.
function __bdr_precmd() {
    \builtin local code=$?
    if [[ -n ${__bdr_open-} ]] && __bdr_there; then
        __bdr_open=
        __bdr_look_at_jobs
        \command "$__bdr_bin" hook shell after --shell zsh --session "$$" --exit "$code" "${__bdr_jobs[@]}" </dev/null
    fi
    \builtin return $code
}

# With --veto: asks before the line is taken; one that destroys and cannot be protected stays in the editor.
function __bdr_accept() {
    __bdr_accepted=
    if [[ ${BDR-} != 0 && -n $BUFFER && $CONTEXT == start ]] && ! __bdr_looks "$BUFFER" && __bdr_there; then
        \builtin local said
        __bdr_look_at_jobs
        said=$(__bdr_means "$BUFFER" 2>/dev/null | \command "$__bdr_bin" hook shell before --veto --means --shell zsh --session "$$" "${__bdr_jobs[@]}" -- "$BUFFER" 2>&1 >/dev/null)
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
    \builtin zmodload -F zsh/parameter p:jobstates p:functions p:parameters 2>/dev/null
    add-zsh-hook preexec __bdr_preexec
    add-zsh-hook precmd __bdr_precmd
fi
# @OPTIONS@
