#!/bin/sh
# Builds bdr from this checkout and installs it for the current user. No sudo; no network but cargo's.
set -eu

usage() {
    cat <<'TEXT'
usage: sh install.sh [--demo] [--prefix DIR] [--uninstall]

  --demo         after installing, run `bdr demo` (in a scratch directory)
  --prefix DIR   install DIR/bin/bdr  [default: $BDR_INSTALL_DIR/bdr, else ~/.local/bin/bdr]
  --uninstall    remove the installed program; backups and settings stay
  --help         print this

BDR_FEATURES=remote builds it with all kinds of destinations (S3, Google Cloud Storage, Azure, Backblaze); without it there
are directories, SFTP, WebDAV, Google Drive and Dropbox.
TEXT
}
say() { printf '%s\n' "$*"; }
die() {
    printf 'install.sh: %s\n' "$1" >&2
    shift
    for hint in "$@"; do printf '  %s\n' "$hint" >&2; done
    exit 1
}

demo='' uninstall='' prefix=''
while [ $# -gt 0 ]; do
    case $1 in
        --demo) demo=1 ;;
        --uninstall) uninstall=1 ;;
        --prefix) [ -n "${2:-}" ] || die "--prefix needs a directory"; prefix=$2; shift ;;
        --prefix=?*) prefix=${1#*=} ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; exit 2 ;;
    esac
    shift
done

if [ -n "$prefix" ]; then
    dir=$prefix/bin
elif [ -n "${BDR_INSTALL_DIR:-}" ]; then
    dir=$BDR_INSTALL_DIR
elif [ -n "${HOME:-}" ]; then
    dir=$HOME/.local/bin
else
    die "HOME is not set, so there is no place to install to" "sh install.sh --prefix DIR"
fi
case $dir in /*) ;; *) dir=$PWD/$dir ;; esac

if [ -n "$uninstall" ]; then
    [ -z "$demo" ] || die "--demo and --uninstall do not go together"
    if [ -f "$dir/bdr" ] || [ -L "$dir/bdr" ]; then
        rm -f "$dir/bdr"
        say "removed $dir/bdr; backups and settings are where they were"
    else
        say "nothing to remove: there is no $dir/bdr"
    fi
    exit 0
fi

root=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
if ! [ -f "$root/Cargo.toml" ] || ! [ -f "$root/tests/target-dir.sh" ]; then
    die "run this from a checkout of bdr" "git clone <repository> bdr && sh bdr/install.sh"
fi
cd "$root"

# rustup's own directory may not be on PATH yet in this shell.
command -v cargo >/dev/null 2>&1 || PATH=$PATH:${CARGO_HOME:-${HOME:-}/.cargo}/bin
command -v cargo >/dev/null 2>&1 || die "Rust is needed to build bdr, and there is no cargo. Install it, then run this again:" \
    "curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh"
command -v cc >/dev/null 2>&1 || command -v gcc >/dev/null 2>&1 || command -v clang >/dev/null 2>&1 || [ -n "${CC:-}" ] ||
    die "a C compiler is needed to build SQLite and libgit2. Install one, then run this again:" \
        "Debian, Ubuntu:  sudo apt-get install gcc libc6-dev" "Fedora:          sudo dnf install gcc" \
        "macOS:           xcode-select --install"

. tests/target-dir.sh
say "building bdr in $CARGO_TARGET_DIR (the first time takes some minutes)"
cargo build --release --locked --bin bdr ${BDR_FEATURES:+--features "$BDR_FEATURES"} || die "the build failed; the lines above say why. Needed: Rust 1.91 or newer (rustup update)"
# A target set in cargo's configuration moves the output one directory down.
built=$CARGO_TARGET_DIR/${CARGO_BUILD_TARGET:+$CARGO_BUILD_TARGET/}release/bdr
[ -x "$built" ] || die "the build left no $built"

mkdir -p "$dir" || die "cannot create $dir" "sh install.sh --prefix DIR"
# Temp + rename, so that a bdr that is running, or a hook that starts one now, never sees half a file.
temp=$(mktemp "$dir/.bdr.XXXXXX") || die "cannot write to $dir" "sh install.sh --prefix DIR"
trap 'rm -f "$temp"' EXIT
trap 'exit 1' HUP INT TERM
cp "$built" "$temp"
chmod 755 "$temp"
"$temp" --version >/dev/null || die "the program that was built does not run here; nothing was installed"
mv -f "$temp" "$dir/bdr"
trap - EXIT
say "installed $("$dir/bdr" --version) as $dir/bdr"

case :${PATH:-}: in
    *:"$dir":*)
        found=$(command -v bdr || :)
        [ "$found" = "$dir/bdr" ] || say "note: $found comes first on your PATH"
        ;;
    *)
        say "$dir is not on your PATH. Add it:"
        case ${SHELL:-} in
            */fish) say "  fish_add_path $dir" ;;
            */zsh) say "  echo 'export PATH=\"$dir:\$PATH\"' >> ~/.zshrc" ;;
            */bash) say "  echo 'export PATH=\"$dir:\$PATH\"' >> ~/.bashrc" ;;
            *) say "  echo 'export PATH=\"$dir:\$PATH\"' >> ~/.profile" ;;
        esac
        ;;
esac
if [ -n "$demo" ]; then
    "$dir/bdr" demo
else
    say "next: bdr init      (or first: bdr demo, which touches nothing of yours)"
fi
