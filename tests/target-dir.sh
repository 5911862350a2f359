# shellcheck shell=sh
# Sourced, not run: puts build output outside the checkout, so that a checkout stays small and clean.
# Sets and exports CARGO_TARGET_DIR unless the caller has chosen one.
if [ -z "${CARGO_TARGET_DIR:-}" ]; then
    CARGO_TARGET_DIR=${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}/bdr-build
    # `mkdir` succeeds on a read-only directory that exists, so try to write as well.
    if ! mkdir -p "$CARGO_TARGET_DIR" 2>/dev/null || ! [ -w "$CARGO_TARGET_DIR" ]; then
        CARGO_TARGET_DIR=$(mktemp -d "${TMPDIR:-/tmp}/bdr-build.XXXXXX") || exit 1
        echo "note: no writable cache directory; building in $CARGO_TARGET_DIR" >&2
    fi
    export CARGO_TARGET_DIR
fi
