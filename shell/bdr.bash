# bdr for bash. In ~/.bashrc: eval "$(bdr shell init bash)"
# Before each typed line that may change something, a snapshot; after it, what is gone and how it comes back. `guard COMMAND` for one command.
# Off: BDR=0. It changes neither $? nor PIPESTATUS nor $_, and lets other programs have their traps and hooks.

__bdr_bin='@BDR@'
[[ -x $__bdr_bin ]] || __bdr_bin=bdr

# An alias in place of the function, or of what it calls, would come first; \builtin command goes past both.
\builtin unalias guard &>/dev/null || \builtin true

function guard() {
    if ! \builtin type -P "$__bdr_bin" &>/dev/null; then
        \builtin printf 'guard: not run. bdr is not on PATH.\n' >&2
        \builtin return 125
    fi
    \builtin command "$__bdr_bin" guard -- "$@"
}

# Is true for lines that only look: nothing is started for them.
__bdr_looks() {
    case $1 in
    *[\;\&\|\<\>\`\$\(\)\{\}]* | *--output* | *$'\n'*) \builtin return 1 ;;
    esac
    # In quotes: behind \builtin a declaration is a word like others.
    \builtin local "line=${1#"${1%%[![:blank:]]*}"}"
    # An alias may be anything.
    case ${BASH_ALIASES["${line%%[[:blank:]]*}"-none]-} in
    '' | ls | ls\ * | grep\ * | cd\ *) ;;
    *) \builtin return 1 ;;
    esac
    # What is here only reads by the rules of bdr, whatever follows: a test compares the two.
    case "$line " in
    ' ' | \#*) \builtin return 0 ;;
    cd\ * | ls\ * | ll\ * | la\ * | l\ * | pwd\ * | echo\ * | cat\ * | head\ * | tail\ * | wc\ * | grep\ * | which\ * | type\ * | \
        jobs\ * | clear\ * | exit\ * | true\ * | whoami\ * | id\ * | uname\ * | df\ * | du\ * | ps\ * | top\ * | htop\ * | stat\ * | \
        uptime\ * | free\ * | pushd\ * | popd\ * | dirs\ * | alias\ * | bdr\ * | guard\ * | z\ * | zi\ * | j\ *) \builtin return 0 ;;
    # Without options: some write.
    *\ -*) \builtin return 1 ;;
    history\ * | printf\ * | less\ * | more\ * | man\ * | rg\ * | file\ * | tree\ * | git\ status\ * | git\ log\ * | git\ diff\ * | git\ show\ * | \
        git\ blame\ * | git\ ls-files\ *) \builtin return 0 ;;
    esac
    \builtin return 1
}

# Prints what the words of a line stand for here: aliases, functions, variables.
__bdr_means() {
    \builtin local text=$1 seen=' ' rest word value pass IFS=$' \t\n'
    # shellcheck disable=SC2034 # it only counts
    for pass in 1 2; do
        rest=$text text=
        for word in ${rest//[!A-Za-z0-9_.-]/ }; do
            [[ ${#seen} -lt 4000 && $seen != *" $word "* ]] || \builtin continue
            seen+="$word "
            value=${BASH_ALIASES["$word"]-}
            if [[ -z $value && $word != __bdr_* ]] && \builtin declare -F -- "$word" >/dev/null; then
                value=$(\builtin declare -f -- "$word")
            fi
            [[ -n $value && ${#value} -lt 4000 ]] && text+=$value$'\n'
        done
        \builtin printf '%s' "$text"
        text=$rest$'\n'$text
    done
    rest=$text seen=' '
    while [[ $rest == *\$* && ${#seen} -lt 4000 ]]; do
        rest=${rest#*\$}
        rest=${rest#\{}
        word=${rest%%[!A-Za-z0-9_]*}
        case $seen$word in
        *" $word "* | *" " | *" "[0-9]* | *" __bdr_"* | *" HOME" | *" PWD") \builtin continue ;;
        esac
        seen+="$word "
        value=$(\builtin declare -p -- "$word" 2>/dev/null)
        [[ -n $value && ${#value} -lt 4000 ]] || \builtin continue
        case $value in
        declare\ -*[aA]*\ "$word"=*) \builtin printf ': %q\n' "${value#*=}" ;;
        declare\ -*\ "$word"=*) \builtin printf '%s=%s\n' "$word" "${value#*=}" ;;
        esac
    done
    \builtin return 0
}

# Is false if bdr is gone: said once, at the next prompt.
__bdr_there() {
    [[ -x $__bdr_bin ]] || \builtin type -P "$__bdr_bin" &>/dev/null
}

# Takes the snapshot for a line, or for one that is not known. Is false if there is none; 125: and the line destroys.
__bdr_before() {
    __bdr_there || \builtin return 1
    # Somebody's own would take the words apart otherwise.
    \builtin local IFS=$' \t\n'
    \builtin local words
    words=(hook shell before --means)
    [[ -z ${__bdr_refuses-} ]] || words+=(--veto)
    \builtin local jobs
    jobs=$(\builtin jobs -p 2>/dev/null)
    [[ -z $jobs ]] || words+=(--jobs "${jobs//$'\n'/,}")
    words+=(--shell bash --session "$$")
    [[ -z $1 ]] || words+=(-- "$1")
    __bdr_means "$1" 2>/dev/null | \builtin command "$__bdr_bin" "${words[@]}" >/dev/null
}

# PS0 is expanded in a subshell: this prints the number of the line in the history, negative if nothing was started.
__bdr_ps0() {
    \builtin local entry='' number line IFS=$' \t\n'
    # Positive still: no prompt has said what the line before did, since somebody has set PROMPT_COMMAND anew.
    if [[ ${__bdr_number:-0} -gt 0 ]]; then
        __bdr_tell 0 >/dev/null
    fi
    # Through a pipe of its own, which Linux opens again for writing: a command substitution would start another process.
    { HISTTIMEFORMAT='' \builtin history 1 >/dev/fd/9 && IFS='' \builtin read -r -d '' entry <&9; } 9<<<'' 2>/dev/null
    [[ -n $entry ]] || entry=$(HISTTIMEFORMAT='' \builtin history 1)
    # What the pipe begins with, and what the line ends with.
    entry=${entry#$'\n'}
    entry=${entry%$'\n'}
    entry=${entry#"${entry%%[![:blank:]]*}"}
    number=${entry%%[!0-9]*}
    line=${entry#"$number"}
    line=${line#[* ]}
    line=${line# }
    if [[ -z $number || $number == "$((${__bdr_number#-} % __bdr_vetoed))" ]]; then
        # The shell did not remember it: repeated, or begun with a space.
        line=
    elif __bdr_looks "$line"; then
        \builtin printf '%s' "-$number"
        \builtin return
    fi
    number=${number:-1}
    if [[ ${BDR-} == 0 ]]; then
        number=-$number
    else
        __bdr_before "$line"
        case $? in
        0) ;;
        125) number=-$((number + __bdr_vetoed)) ;;
        *) number=-$number ;;
        esac
    fi
    \builtin printf '%s' "$number"
}

# For those that hand the line over: bash-preexec, ble.sh.
__bdr_preexec() {
    if ! __bdr_looks "$1" && [[ ${BDR-} != 0 ]]; then
        __bdr_before "$1" && __bdr_number=1
    fi
    \builtin return 0
}

# Before bash 4.4 there is no PS0: from the prompt on, until the first command that may change something.
__bdr_debug() {
    if [[ -n ${__bdr_armed-} && -z ${COMP_LINE-} ]] && ! __bdr_looks "$BASH_COMMAND"; then
        __bdr_armed=
        case $BASH_COMMAND in
        __bdr_*) ;;
        *)
            if [[ ${BDR-} != 0 ]]; then
                __bdr_before "$(HISTTIMEFORMAT='' \builtin history 1 | \builtin command sed 's/^ *[0-9]*[* ] *//')" && __bdr_number=1
            fi
            ;;
        esac
    fi
    \builtin return 0
}

# Says what became of the line for which a snapshot was taken, and that ended with this status.
__bdr_tell() {
    __bdr_there || \builtin return 0
    # Jobs that live on: what they do belongs to the line that began them.
    \builtin local jobs
    jobs=$(\builtin jobs -p)
    \builtin command "$__bdr_bin" hook shell after --shell bash --session "$$" --exit "$1" ${jobs:+--jobs "${jobs//$'\n'/,}"} </dev/null
}

# Before each prompt.
__bdr_after() {
    \builtin local status=$? IFS=$' \t\n'
    if [[ ${__bdr_number:-0} -gt 0 ]]; then
        # First: one that is interrupted is not asked again.
        __bdr_number=-$__bdr_number
        __bdr_tell "$status"
    fi
    if [[ -z ${__bdr_said-} ]] && ! __bdr_there; then
        __bdr_said=1
        \builtin printf 'bdr: %s is gone: lines of this shell are not protected any more\n' "$__bdr_bin" >&2
    fi
    # Without promptvars PS0 would be printed as it stands.
    if [[ -n ${__bdr_part-} ]] && ! \builtin shopt -q promptvars; then
        PS0=${PS0/"$__bdr_part"/}
        __bdr_part=
        if [[ -z $(\builtin trap -p DEBUG) ]]; then
            \builtin trap '__bdr_debug' DEBUG
        else
            \builtin printf 'bdr: promptvars is off and the DEBUG trap is taken: lines of this shell are not protected any more\n' >&2
        fi
    fi
    # Set anew since.
    if [[ -n ${__bdr_part-} && ${PS0-} != *"$__bdr_part"* ]]; then
        PS0=$__bdr_part${PS0-}
    fi
    if [[ ${__bdr_number:-0} -le -${__bdr_vetoed:-1000000000} ]]; then
        __bdr_number=-$((${__bdr_number#-} % __bdr_vetoed))
    fi
    __bdr_armed=1
    \builtin return "$status"
}

# With --veto: with extdebug, a command is not run if this is false. The lines of a prompt are all refused, those of a subshell too.
__bdr_refuse() {
    [[ -n ${COMP_LINE-} || ${__bdr_number:-0} -gt -$__bdr_vetoed || ${BASH_COMMAND-} == __bdr_* ]]
}

__bdr_veto() {
    if [[ -n ${BLE_VERSION-}${bash_preexec_imported-}${__bp_imported-} || -n $(\builtin trap -p DEBUG) ]]; then
        \builtin printf 'bdr: --veto: somebody else has the DEBUG trap; --wrap does without\n' >&2
        \builtin return 1
    fi
    __bdr_refuses=1
    \builtin shopt -s extdebug
    \builtin trap '__bdr_refuse' DEBUG
}

__bdr_install() {
    if [[ -n ${BLE_VERSION-} ]]; then
        blehook PREEXEC+=__bdr_preexec
        blehook PRECMD+=__bdr_after
        \builtin return
    fi
    \builtin local has_ps0=
    if ((BASH_VERSINFO[0] > 4 || BASH_VERSINFO[0] == 4 && BASH_VERSINFO[1] >= 4)) && [[ -z ${__bdr_no_ps0-} ]] && \builtin shopt -q promptvars; then
        has_ps0=1
    fi
    # bash-preexec sees no line that begins with a subshell: PS0 goes first.
    if [[ -z $has_ps0 && -n ${bash_preexec_imported-}${__bp_imported-} ]]; then
        preexec_functions+=(__bdr_preexec)
        precmd_functions+=(__bdr_after)
        \builtin return
    fi
    # First: what comes after it sees the same status.
    if [[ $(\builtin declare -p PROMPT_COMMAND 2>/dev/null) =~ ^declare\ -[a-zA-Z]*r ]]; then
        # shellcheck disable=SC2016 # it is what is to be typed
        \builtin printf 'bdr: PROMPT_COMMAND is read-only here: lines are protected, but what they did is said with the next one\n' >&2
    elif ((BASH_VERSINFO[0] > 5 || BASH_VERSINFO[0] == 5 && BASH_VERSINFO[1] >= 1)); then
        PROMPT_COMMAND=(__bdr_after "${PROMPT_COMMAND[@]}")
    else
        # shellcheck disable=SC2178,SC2128 # it is no array before bash 5.1
        PROMPT_COMMAND=__bdr_after${PROMPT_COMMAND:+$'\n'$PROMPT_COMMAND}
    fi
    if [[ -n $has_ps0 ]]; then
        # The number is kept here, where the subshell cannot; one that was interrupted says nothing, and that is 0.
        __bdr_empty=
        # shellcheck disable=SC2016 # the shell expands it before each line
        if ((BASH_VERSINFO[0] > 5 || BASH_VERSINFO[0] == 5 && BASH_VERSINFO[1] >= 3)); then
            # No process at all.
            __bdr_part='${__bdr_empty:$((__bdr_number=${ __bdr_ps0; }-0)):0}'
        else
            __bdr_part='${__bdr_empty:$((__bdr_number=$(__bdr_ps0)-0)):0}'
        fi
        PS0=$__bdr_part${PS0-}
    elif [[ -z $(\builtin trap -p DEBUG) ]]; then
        \builtin trap '__bdr_debug' DEBUG
    fi
}

if [[ $- == *i* && -z ${__bdr_loaded-} ]]; then
    __bdr_loaded=1
    __bdr_number=0
    # Added to the number of a line that is not to be run.
    __bdr_vetoed=1000000000
    __bdr_refuses=
    __bdr_install
fi
# @OPTIONS@
