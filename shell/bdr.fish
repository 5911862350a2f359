# bdr for fish: `guard rm -rf build` takes a snapshot, then runs the command; `bdr undo` takes it back.
# To use it, add to ~/.config/fish/config.fish:   source /path/to/bdr.fish
functions --erase guard 2>/dev/null

function guard --wraps command --description 'Take a snapshot, then run the command; bdr undo takes it back'
    if not command --query bdr
        printf 'guard: not run. bdr is not on PATH.\n' >&2
        return 125
    end
    command bdr guard -- $argv
end
