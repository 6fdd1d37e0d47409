#!/usr/bin/env bash
# For maintainers: writes lock.txt and lock-numpy1.txt anew, then proves that every supported Python and processor can
# install them from wheels alone.
#
#   tools/lock.sh [--upgrade]   without the option, versions change only where pyproject.toml makes them
#   tools/lock.sh --check       only the proof
#
# Needs uv (installed into build/ when it is not in .venv) and the network.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
mkdir -p build/tmp

readonly UV_VERSION=0.13.9
# The build back-end too, so that installing the project itself needs no index (tools/setup.sh).
readonly BUILD='hatchling>=1.25,<2
editables>=0.5'
readonly EXTRAS=(--extra litert --extra cv --extra v4l2 --extra pi --extra demo --extra dev)
# backports-strenum 1.3 is for Python < 3.11; uv does not look at upper bounds of a package's Python.
readonly LIMITS='backports-strenum<1.3'
# What fits numpy 1 (bookworm's picamera2, tflite-runtime): opencv 4.12 and newer want numpy 2.
readonly LIMITS_NUMPY1='backports-strenum<1.3
numpy<2
opencv-python-headless<4.12'

# A list of somebody's own packages beside the index must not lend its hashes to the locks.
without_local_indexes() {
    env -u PIP_FIND_LINKS -u PIP_INDEX_URL -u PIP_EXTRA_INDEX_URL -u UV_FIND_LINKS -u UV_INDEX_URL -u UV_EXTRA_INDEX_URL \
        PIP_CONFIG_FILE=/dev/null "$@"
}

find_uv() {
    local candidate
    for candidate in .venv/bin/uv build/venv-lock/bin/uv; do
        if [ -x "$candidate" ]; then
            printf '%s' "$candidate"
            return
        fi
    done
    .venv/bin/python -m venv build/venv-lock >&2
    build/venv-lock/bin/python -m pip install -q "uv==$UV_VERSION" >&2
    printf 'build/venv-lock/bin/uv'
}

# compile OUTPUT LIMITS uv-option…
compile() {
    local output=$1
    printf '%s\n' "$2" >build/limits.txt
    shift 2
    printf '%s\n' "$BUILD" | without_local_indexes "$uv" --no-config pip compile --quiet --python-version 3.11 \
        --generate-hashes --no-emit-index-url --no-annotate --custom-compile-command 'make lock' \
        --constraints build/limits.txt --output-file "$output" "${EXTRAS[@]}" "$@" pyproject.toml - >/dev/null
    echo "wrote $output: $(grep -c == "$output") packages"
}

# Every glibc tag up to Debian 12's 2.36: what pip itself would accept there.
platform_options() {
    local minor
    for minor in $(seq 5 36); do printf -- '--platform manylinux_2_%s_%s ' "$minor" "$1"; done
    printf -- '--platform manylinux2014_%s --platform manylinux2010_%s --platform manylinux1_%s --platform linux_%s' \
        "$1" "$1" "$1" "$1"
}

# check LOCK PYTHON MACHINE: a dry run of the installation as if on that machine.
check() {
    # With --platform pip reads markers of the Python that runs it, so the Python in question runs it where it is here.
    local python=.venv/bin/python candidate
    for candidate in "python$2" "$HOME"/.pyenv/versions/"$2".*/bin/python; do
        if "$candidate" -m pip --version >/dev/null 2>&1; then python=$candidate; fi
    done
    # shellcheck disable=SC2046 # the options are split on purpose
    if without_local_indexes "$python" -m pip --disable-pip-version-check install -q --dry-run --ignore-installed \
        --only-binary :all: $(platform_options "$3") --python-version "$2" --implementation cp --target build/nowhere \
        --require-hashes -r "$1"; then
        echo "ok    $1 on Python $2, $3 (markers by $("$python" -V))"
    else
        echo "FAIL  $1 on Python $2, $3"
        failed=1
    fi
}

check_all() {
    local machine python
    failed=0
    for machine in x86_64 aarch64; do
        for python in 3.11 3.12 3.13; do check lock.txt "$python" "$machine"; done
        check lock-numpy1.txt 3.11 "$machine"
    done
    return "$failed"
}

case ${1:-} in
'' | --upgrade)
    uv=$(find_uv)
    compile lock.txt "$LIMITS" --universal --fork-strategy fewest "$@"
    compile lock-numpy1.txt "$LIMITS_NUMPY1" --python-platform linux --extra tflite "$@"
    check_all
    ;;
--check) check_all ;;
*)
    echo "usage: tools/lock.sh [--upgrade | --check]" >&2
    exit 2
    ;;
esac
