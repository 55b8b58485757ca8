#!/usr/bin/env bash
# Mutation by tool: cargo-mutants over what decides (topology, nodes, ledger, the store), each mutant before the tests of that code.
# mutants.sh FILE...: over these, in place of all that are named below. What survives is in target/mutants/mutants.out/missed.txt.
# It works on a copy of the tree without what decides nothing: a mutant is built in seconds there, not in a minute.
set -euo pipefail
cd "$(dirname "$0")/.."
copy=target/mutants/tree
cargo mutants --version >/dev/null 2>&1 || { echo "installing cargo-mutants"; cargo install cargo-mutants --version 27.1.0 --locked --quiet; }

mkdir -p "$copy"
# Its own target folder stays: what has been built is not built again.
find "$copy" -mindepth 1 -maxdepth 1 ! -name target -exec rm -r {} +
git ls-files -z Cargo.lock Cargo.toml clippy.toml src tests | xargs -0 cp --parents -t "$copy"
cd "$copy"
rm -r src/{api,controller,delivery,listener,telemetry,fuzzing}* src/main.rs
mv src/commands/demo/cluster* src/commands/demo/watchdog.rs .
rm -r src/commands*
mkdir -p src/commands/demo
mv cluster* watchdog.rs src/commands/demo
echo 'pub mod demo { pub mod cluster; mod watchdog; }' > src/commands.rs
python3 - <<'PYTHON'
import pathlib, re

def change(path, *patterns):
    file = pathlib.Path(path)
    text = file.read_text()
    for pattern in patterns:
        text, count = re.subn(pattern, "", text, flags=re.M | re.S)
        assert count, f"{path} has no {pattern}"
    file.write_text(text)

change("src/lib.rs", r"^(#\[[^\n]*\n)*pub mod (api|controller|delivery|fuzzing|listener|telemetry);\n")
unused = "axum|clap|h2|http-body-util|httpdate|hyper|hyper-util|k8s-openapi|kube|reqwest|schemars|serde_norway|serde_path_to_error" \
    "|standardwebhooks|tower-service|url"
change("Cargo.toml", r"^\[\[bin\]\].*?(?=^\[dependencies\])", rf"^({unused}) = [^\n]*\n")
change("tests/scripted/main.rs", r"^mod (changing|declaring|owning);\n")
PYTHON
find tests -mindepth 1 -maxdepth 1 ! -name scripted ! -name simulation ! -name store ! -name support -exec rm -r {} +

# What carries decisions from one to another (sessions, links, threads) is for the faults to break.
[ $# -gt 0 ] || set -- src/topology/{merge,parse}.rs src/nodes/{clerk,evidence,frames,offset,watch,wire}.rs \
    src/ledger/{book,identity,judge,resync}.rs 'src/ledger/keeper/*.rs' 'src/store/memory/*.rs' \
    src/store/redis/{budget,counting,epoch,facts,id,journal,line,mend,ops,pages,places,record,refusal,reply}.rs \
    src/store/sqlite/{filing,ledger,outbox,unfiled}.rs
globs=()
for file in "$@"; do globs+=(-f "$file"); done
export CARGO_INCREMENTAL=1 CARGO_PROFILE_DEV_DEBUG=false
run() { cargo mutants --in-place --no-shuffle --timeout 120 --output .. "${globs[@]}" "$@" || [ $? -le 3 ]; }
# The tests beside the code kill most, and soonest.
run -- --lib
run --iterate -- --test simulation --test scripted --test store
