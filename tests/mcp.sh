#!/bin/sh
# `bdr mcp` as others see it: the inspector's strict check, the official clients, the conformance suite. Usage: sh tests/mcp.sh BDR DIR
# BDR is built with the feature `conformance`; what is needed from npm and PyPI is installed into DIR, and skipped loudly where that cannot be.
set -eu
cd "$(dirname "$0")/.."
bdr=$1
dir=$2
mkdir -p "$dir"

say() { printf '%s\n' "$*"; }
skip() { say "SKIPPED: $*"; }
die() { say "tests/mcp.sh: $*" >&2; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }

scratch=$(mktemp -d "${TMPDIR:-/tmp}/bdr-mcp.XXXXXX")
servers=
# shellcheck disable=SC2086 # several numbers
trap '[ -z "$servers" ] || kill $servers 2>/dev/null; chmod -R u+w "$scratch"; rm -rf "$scratch"' EXIT
mkdir "$scratch/tree"
i=0
while [ $i -lt 50 ]; do echo "file $i" >"$scratch/tree/$i.txt"; i=$((i + 1)); done
export BDR_HOME="$scratch/bdr" BDR_LIFEBOAT='' BDR_BACKGROUND=0
(cd "$scratch/tree" && "$bdr" --quiet init --yes --source "tree=$scratch/tree")

# The Python client.
if has python3; then
    [ -x "$dir/python/bin/python" ] || python3 -m venv "$dir/python" >/dev/null 2>&1 || :
    "$dir/python/bin/python" -c 'import mcp' 2>/dev/null || "$dir/python/bin/pip" install -q 'mcp==2.3.0' >/dev/null 2>&1 || :
    if "$dir/python/bin/python" -c 'import mcp' 2>/dev/null; then
        timeout 120 "$dir/python/bin/python" tests/mcp/client.py "$bdr" || die "the Python client"
    else
        skip "the Python client of MCP (pip cannot install mcp)"
    fi
else
    skip "the Python client of MCP (no python3)"
fi

# Everything else takes Node 22, which npm has as a package.
if ! has npm; then
    skip "the inspector, the TypeScript client and the conformance suite of MCP (no npm)"
    exit 0
fi
install() {
    (mkdir -p "$1" && cd "$1" && shift && npm install --no-audit --no-fund --no-save "$@" >/dev/null 2>&1) || :
}
# npm reads package.json of a directory further up, unless there is one.
for place in "$dir/node" "$dir/alpha"; do
    mkdir -p "$place"
    [ -f "$place/package.json" ] || echo '{"private":true}' >"$place/package.json"
done
node22="$dir/node/node_modules/node/bin"
[ -x "$node22/node" ] || install "$dir/node" node@22
if ! "$node22/node" --version 2>/dev/null | grep -q '^v22'; then
    skip "the inspector, the TypeScript client and the conformance suite of MCP (npm cannot install node@22)"
    exit 0
fi
PATH="$node22:$PATH"
modules="$dir/node/node_modules/@modelcontextprotocol"
if [ ! -d "$dir/node/node_modules/@anthropic-ai/mcpb" ] || [ ! -d "$modules/inspector" ] || [ ! -d "$modules/client" ] || [ ! -d "$modules/conformance" ]; then
    install "$dir/node" node@22 @modelcontextprotocol/inspector@2.12.0 @modelcontextprotocol/client@2.4.0 @modelcontextprotocol/conformance@0.1.16 @anthropic-ai/mcpb@2.1.2
fi
[ -d "$dir/alpha/node_modules/@modelcontextprotocol/conformance" ] ||
    install "$dir/alpha" @modelcontextprotocol/conformance@0.2.0-alpha.12

if [ -d "$modules/client" ]; then
    BDR_NODE="$dir/node" timeout 120 node tests/mcp/client.mjs "$bdr" || die "the TypeScript client"
else
    skip "the TypeScript client of MCP (npm cannot install it)"
fi

if [ -d "$modules/inspector" ]; then
    # It hands no variables on.
    printf '#!/bin/sh\ncd %s/tree && BDR_HOME=%s BDR_LIFEBOAT= BDR_BACKGROUND=0 exec %s mcp\n' "$scratch" "$BDR_HOME" "$bdr" >"$scratch/server"
    chmod +x "$scratch/server"
    inspect() { (cd "$dir/node" && timeout 120 npx mcp-inspector --cli --format json -q "$@" "$scratch/server" 2>/dev/null); }
    for era in legacy modern; do
        found=$(inspect --protocol-era "$era" --method tools/list --strict) || die "the inspector's strict check ($era)"
        printf '%s' "$found" | grep -Eq '"severity": *"(error|warning)"' && die "the inspector finds: $found"
        inspect --protocol-era "$era" --method tools/call --tool-name restore_backup --tool-args-json '{"backupId":"latest","dryRun":true}' >/dev/null ||
            die "a call by the inspector ($era)"
    done
    inspect --method tools/call --tool-name list_backups --load --load-requests 500 --load-concurrency 10 >"$scratch/load" || die "500 calls under load"
    node -e '
        const load = JSON.parse(require("fs").readFileSync(process.argv[1], "utf8"));
        const find = (value, name) => value && typeof value === "object" ? (name in value ? value[name] : Object.values(value).map((v) => find(v, name)).find((v) => v !== undefined)) : undefined;
        const failed = find(load, "errors") ?? find(load, "failed") ?? 0;
        console.log("inspector: no findings, 500 calls, failed: " + JSON.stringify(failed));
        process.exit(Array.isArray(failed) ? failed.length : Number(failed) || 0);' "$scratch/load" || die "calls under load failed"
else
    skip "the inspector of MCP (npm cannot install it)"
fi

if [ -d "$dir/node/node_modules/@anthropic-ai/mcpb" ]; then
    manifest=$PWD/.ci/mcpb/manifest.json
    (cd "$dir/node" && npx mcpb validate "$manifest" >/dev/null 2>&1) || die "the manifest of the MCP bundle"
else
    skip "the manifest of the MCP bundle (npm cannot install mcpb)"
fi

# Over HTTP: the server as it is, and with what the suite asks for.
start() {
    (cd "$scratch/tree" && exec "$bdr" mcp --http 127.0.0.1:0 "$1" 2>"$scratch/$2") &
    servers="$servers $!"
    tries=0
    until grep -q 'listening on' "$scratch/$2" 2>/dev/null; do
        tries=$((tries + 1))
        [ $tries -lt 100 ] || die "the server over HTTP does not start: $(cat "$scratch/$2")"
        sleep 0.1
    done
    sed -n 's/.*\(http:[^;]*\);.*/\1/p' "$scratch/$2"
}
suite() { (cd "$1" && shift && timeout 300 npx conformance server "$@" 2>&1) >"$scratch/suite" || :; }
# The last count of passed and failed; failures of scenarios that do not count for a version are told apart by the suite.
if [ -d "$modules/conformance" ]; then
    start --fixture fixture >"$scratch/url"
    url=$(cat "$scratch/url")
    suite "$dir/node" --url "$url" -o "$scratch/out"
    grep -q '^Total: [0-9]* passed, 0 failed' "$scratch/suite" || die "conformance 0.1.16: $(tail -40 "$scratch/suite")"
    say "conformance 0.1.16: $(grep '^Total' "$scratch/suite")"
    for scenario in json-schema-2020-12 server-sse-polling; do
        suite "$dir/node" --url "$url" --scenario "$scenario"
        grep -Eq '^Passed: ([0-9]+)/\1, 0 failed' "$scratch/suite" || die "conformance 0.1.16, $scenario: $(tail -20 "$scratch/suite")"
    done
else
    skip "the conformance suite of MCP (npm cannot install it)"
fi
if [ -d "$dir/alpha/node_modules/@modelcontextprotocol/conformance" ] && [ -n "${url:-}" ]; then
    for version in 2025-11-25 2026-07-28; do
        suite "$dir/alpha" --url "$url" --requirements "$version" --timeout 8000 -o "$scratch/out-$version"
        grep -q '^=== SUMMARY' "$scratch/suite" || die "conformance $version gave no result: $(tail -20 "$scratch/suite")"
        # Scenarios that fail, but for those that are listed as not scored.
        sed -n '/^Not scored/,$p' "$scratch/suite" | sed -n 's/^  [^ ]* \([a-z0-9-]*\) .*/\1/p' >"$scratch/unscored"
        sed -n '/^=== SUMMARY/,/^Total/p' "$scratch/suite" | sed -n 's/^✗ \([a-z0-9-]*\):.*/\1/p' >"$scratch/failed"
        failed=$(grep -vxF -f "$scratch/unscored" "$scratch/failed" || :)
        [ -z "$failed" ] || die "conformance $version: $failed"
        scored=$(sed -n '/^=== SUMMARY/,/^Total/p' "$scratch/suite" | grep -c '^✓' || :)
        say "conformance $version: $scored scenarios pass, every scored one"
    done
    start --open open >"$scratch/url"
    open=$(cat "$scratch/url")
    for scenario in server-initialize:2025-11-25 ping:2025-11-25 server-session-lifecycle:2025-11-25 tools-list:2025-11-25 resources-list:2025-11-25 prompts-list:2025-11-25 \
        tools-list:2026-07-28 resources-list:2026-07-28 prompts-list:2026-07-28 completion-complete:2026-07-28 caching:2026-07-28 \
        http-header-validation:2026-07-28 dns-rebinding-protection:2026-07-28 sep-2164-resource-not-found:2026-07-28; do
        suite "$dir/alpha" --url "$open" --scenario "${scenario%:*}" --spec-version "${scenario#*:}"
        grep -Eq '^Passed: ([0-9]+)/\1, 0 failed' "$scratch/suite" || die "conformance of the real server, $scenario: $(tail -20 "$scratch/suite")"
    done
    say "conformance of the real server: every scenario that needs no fixture"
fi
