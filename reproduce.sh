#!/usr/bin/env bash
# Sets everything up inside this folder, then does one thing; `./reproduce.sh help` lists what.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
cd "$root"
python=.venv/bin/python
unset PYTHONPATH PYTHONHOME
# Trust the certificates that this machine trusts, as git does.
export UV_SYSTEM_CERTS=${UV_SYSTEM_CERTS:-1}

main() {
    local verb=${1-paper}
    if [ $# -gt 0 ]; then shift; fi
    case "$verb $*" in
        "paper ") set_up paper; need_tex; paper ;;
        "smoke "*) set_up all; need_tex; smoke "$@" ;;
        "grid "*) set_up all; grid "$@" ;;
        "explore ") set_up paper; explore ;;
        "submission ") set_up paper; need_tex; paper; in_venv snakemake submission ;;
        "setup ") set_up all ;;
        "test ") set_up all; quick_tests ;;
        "test --all") set_up all; need_tex; all_checks ;;
        "clean ") clean ;;
        "help " | "-h " | "--help ") usage ;;
        *) refuse "'$verb${*:+ $*}' is not known; allowed: paper, smoke, grid, explore, submission, setup, test, test --all, clean, help." ;;
    esac
}

usage() {
    cat <<'TEXT'
./reproduce.sh              every table, every figure and the paper from results/, without torch
./reproduce.sh smoke        train every run small into build/smoke/results, and the paper [--config study=bitnet]
./reproduce.sh grid ...     train for real: [--profile slurm] [--config scale=mini study=bitnet phase=5 seed=42,123]
./reproduce.sh explore      all results as one page for a browser, build/explore.html, without torch or TeX
./reproduce.sh submission   the paper's sources as an archive that compiles by itself
./reproduce.sh test         set up, then the quick tests
./reproduce.sh test --all   set up, then linters, type checker and all tests
./reproduce.sh setup        make .venv from the hash-locked requirements (about 6 GB, once)
./reproduce.sh clean        remove .venv, build/ and every cache; results/, data/ and state/ stay
TEXT
}

# --- verbs -----------------------------------------------------------------------------------------------------------

# File times mean nothing after a clone, so the results are checked first, each time, by content.
paper() {
    in_venv bitq.cli verify --paper --out build/verdict.json
    in_venv snakemake paper
    say "The paper is build/paper/bitq.pdf."
}

explore() {
    in_venv bitq.cli verify --paper --out build/verdict.json
    in_venv snakemake build/explore.html
    say "The page is build/explore.html; open it in a browser, no network is needed."
}

smoke() {
    say "The paper will be build/smoke/paper/bitq.pdf."
    become snakemake smoke "$@"
}

# --profile NAME is one of ours, unless it is a folder.
grid() {
    local words=()
    while [ $# -gt 0 ]; do
        if [ "$1" = --profile ] && [ -d "workflow/profiles/${2-}" ]; then
            need_plugin "workflow/profiles/$2"
            words+=(--profile "workflow/profiles/$2")
            shift 2
        else
            words+=("$1")
            shift
        fi
    done
    become snakemake grid "${words[@]}"
}

# Without its plugin Snakemake answers a profile of a cluster with all of its own options.
need_plugin() {
    local executor
    executor=$(sed -n 's/^executor: *//p' "$1/config.yaml")
    if [ -z "$executor" ] || "$python" -c "import snakemake_executor_plugin_$executor" 2>/dev/null; then return; fi
    refuse "--profile $executor was given, but its plugin is not installed; call" \
        "$python -m pip install --require-hashes -r requirements/base.txt -r requirements/$executor.txt first."
}

quick_tests() { in_venv pytest --numprocesses=2; }

all_checks() {
    local status=0
    lint || status=1
    # Also after a lint error, and last: CI reads the summary line.
    in_venv pytest --numprocesses=2 --durations=15 -m "" || status=$?
    return "$status"
}

lint() {
    local status=0
    in_venv ruff check . || status=1
    in_venv ruff format --check . || status=1
    in_venv mypy || status=1
    if [ -e Snakefile ]; then in_venv snakefmt --check Snakefile workflow || status=1; fi
    return "$status"
}

clean() {
    rm -rf .venv .venv.lock build .snakemake .pytest_cache .mypy_cache .ruff_cache .hypothesis ./*.egg-info
    find . -path ./.git -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +
}

# Tests run in two processes, so each keeps to one thread.
in_venv() { OMP_NUM_THREADS=1 "$python" -m "$@"; }

# As the last command, so that who stops this script stops what it started: bash passes no signal on.
become() {
    export OMP_NUM_THREADS=1
    exec "$python" -m "$@"
}

# --- set-up ----------------------------------------------------------------------------------------------------------

# `paper` needs no torch; `all` serves every verb.
set_up() {
    if is_set_up "$1"; then return; fi
    (
        # Of two commands started at once, the second waits here and then finds the work done.
        if command -v flock >/dev/null; then flock 9; fi
        if ! is_set_up "$1"; then install "$1"; fi
    ) 9>.venv.lock
}

is_set_up() {
    stamp all | cmp --silent - .venv/stamp 2>/dev/null && return
    [ "$1" = paper ] && stamp paper | cmp --silent - .venv/stamp 2>/dev/null
}

stamp() { { where && what "$1"; } 2>/dev/null; }

where() { echo "$root" && "$python" --version; }

what() { locks "$1" | xargs cat pyproject.toml; }

locks() {
    local sets=(build base)
    if [ "$1" = all ]; then sets+=(train onnx dev); fi
    printf 'requirements/%s.txt\n' "${sets[@]}"
}

install() {
    local locks kind=$1
    say "Setting up .venv ..."
    fits || make_venv
    if [ -x .venv/bin/mypy ]; then kind=all; fi # what serves every verb goes on doing so
    mapfile -t locks < <(locks "$kind")
    rm -f .venv/stamp
    find_uv
    quietly "$uv" pip sync --python "$python" --require-hashes --compile-bytecode "${locks[@]}" || give_up
    quietly "$uv" pip install --python "$python" --no-deps --no-build-isolation --editable . || give_up
    stamp "$kind" >.venv/stamp
    say "Set up in $SECONDS s."
}

# TeX and the tool that looks at PDF pages, from Debian's packages where we may install them.
need_tex() {
    local packages=(texlive-latex-recommended texlive-latex-extra texlive-fonts-recommended texlive-science
        latexmk lmodern cm-super poppler-utils)
    if command -v latexmk >/dev/null && command -v pdflatex >/dev/null && kpsewhich marginnote.sty >/dev/null; then return; fi
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
        say "Installing TeX ..."
        { apt-get update && apt-get install --yes --no-install-recommends "${packages[@]}"; } </dev/null >/dev/null 2>&1 || true
    fi
    command -v latexmk >/dev/null || refuse "no TeX is here; install it (Debian: apt-get install ${packages[*]})."
}

# A finished .venv, made here and by this Python, is brought up to date; any other is made anew.
fits() { where 2>/dev/null | cmp --silent - <(head -n 2 .venv/stamp 2>/dev/null); }

make_venv() {
    local base
    base=$(find_python)
    new_venv "$base" && return
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
        say "Installing python3-venv ..."
        { apt-get update && apt-get install --yes python3-venv; } </dev/null >/dev/null 2>&1 || true
    fi
    new_venv "$base" ||
        refuse "$base cannot make virtual environments; install its venv module (Debian: apt-get install python3-venv)."
}

new_venv() { rm -rf .venv && "$1" -m venv .venv >/dev/null 2>&1; }

find_python() {
    local name
    for name in python3 python3.{14,13,12,11}; do
        "$name" -c 'import sys; sys.version_info < (3, 11) and exit(1); print(sys.executable)' 2>/dev/null && return
    done
    refuse "no Python 3.11 or newer is on PATH; install one (Debian: apt-get install python3)."
}

find_uv() {
    uv=$(command -v uv) || uv=.venv/bin/uv
    lend_pip_index
    [ -x "$uv" ] || "$python" -m pip --disable-pip-version-check install --quiet --retries 2 \
        --require-hashes --requirement requirements/build.txt </dev/null || give_up
}

# uv does not read pip.conf: where pip was told of a mirror, uv must be told too.
lend_pip_index() {
    local index
    index=$("$python" -m pip config list 2>/dev/null | sed -n "s/^[^=]*\.index.url='\(.*\)'$/\1/p" | tail -n 1) || return 0
    if [ -n "$index" ]; then export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$index}; fi
}

# A progress bar for people only; errors for all.
quietly() {
    local command=$1
    shift
    if [ -t 2 ]; then "$command" "$@" </dev/null; else "$command" --quiet "$@" </dev/null; fi
}

give_up() {
    say "Not set up, for the reason above; check network and disk space, then call this again (downloads are kept)."
    exit 74
}

say() { echo "$*" >&2; }

refuse() {
    say "reproduce.sh: $*"
    exit 2
}

main "$@"
