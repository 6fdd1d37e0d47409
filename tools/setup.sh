#!/usr/bin/env bash
# Makes a checkout ready to run, on a bare Debian 12 or Raspberry Pi OS as well as on a laptop.
#
#   tools/setup.sh [venv]      .venv with the chappe command, from the hash-locked lists (the default)
#   tools/setup.sh numpy1      build/venv-numpy1 with numpy 1 and tflite-runtime, where a Python 3.11 exists
#   tools/setup.sh mosquitto   the broker most wire tests run against, from apt where that is allowed
#   tools/setup.sh faults      strace and what else the tests under tests/fault break things with
#   tools/setup.sh brokers     NATS and RabbitMQ, the other brokers the link is tested against
#
# Everything it makes lies in .venv and build/. Run again, it does nothing unless a lock, pyproject.toml, the Python or
# the place of the checkout has changed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
readonly CHECKOUT=$PWD

# 2026-11-21. A Pi without a clock chip starts in the past, where every TLS certificate is "not yet valid".
readonly RELEASED=1795219200
readonly SYSTEM_PYTHON=/usr/bin/python3

say() { printf 'setup: %s\n' "$*"; }
warn() { printf 'setup: %s\n' "$*" >&2; }
die() {
    warn "$@"
    exit 1
}

# ---- the machine ----------------------------------------------------------------------------------------------------

refuse_32_bit() {
    # Not `uname -m`: the 32-bit Raspberry Pi OS runs on a 64-bit kernel.
    if [ "$(getconf LONG_BIT)" != 64 ]; then
        die "32-bit systems are not supported: msgspec and ai-edge-litert publish no 32-bit ARM wheels." \
            "Install the 64-bit image of Raspberry Pi OS (or Debian arm64) and try again."
    fi
}

refuse_old_clock() {
    if [ "$(date +%s)" -lt "$RELEASED" ]; then
        die "the clock says $(date -u '+%Y-%m-%d %H:%M') UTC, which is before this release; downloads would fail with" \
            "\"certificate is not yet valid\". Set it first: sudo timedatectl set-ntp true (or sudo date -s '…')."
    fi
}

# The prefix that gets a command run as root without ever waiting for a password nobody can type; fails if there is none.
root_prefix() {
    if [ "$(id -u)" -eq 0 ]; then
        printf ''
    elif ! command -v sudo >/dev/null; then
        return 1
    elif sudo -n true 2>/dev/null || { [ -t 0 ] && sudo -p 'setup: sudo password for %p: ' -v; }; then
        # Asked for at most once, here: every later sudo finds the answer remembered.
        printf 'sudo -n'
    else
        return 1
    fi
}

apt_line() { printf 'sudo apt-get update && sudo apt-get install -y --no-install-recommends %s' "$*"; }

# apt's own lock option covers dpkg, not the package lists, which a Pi's first boot also holds for minutes.
apt_update() {
    local try
    for try in 1 2 3 4 5 6; do
        if $1 env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 update; then return 0; fi
        [ "$try" -eq 6 ] || sleep 10
    done
    warn "apt-get update failed; going on with the package lists that are there"
}

# apt_install PACKAGE…: 0 installed, 1 not (the reason has been said).
apt_install() {
    local prefix
    command -v apt-get >/dev/null || {
        warn "there is no apt-get here; install by hand what Debian calls: $*"
        return 1
    }
    prefix=$(root_prefix) || {
        warn "root is needed once. Run this, then the same make again:"
        printf '\n    %s\n\n' "$(apt_line "$@")" >&2
        return 1
    }
    say "installing with apt: $*"
    apt_update "$prefix"
    $prefix env DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l apt-get -qq -y --no-install-recommends \
        -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 install "$@" </dev/null || {
        warn "apt-get could not install: $*"
        return 1
    }
}

# ---- the Python -----------------------------------------------------------------------------------------------------

# Run, not only looked up: a version manager's shim is on PATH for versions it then refuses to start.
python_fits() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14) or sys.maxsize < 2**32)' 2>/dev/null
}

can_make_venv() { "$1" -c 'import ensurepip, venv' 2>/dev/null; }

python_version() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])'; }

# find_python TEST CANDIDATE…: the first that fits and passes the test, as an absolute path.
find_python() {
    local test=$1 candidate
    shift
    for candidate in "$@"; do
        if python_fits "$candidate" && $test "$candidate"; then
            "$candidate" -c 'import sys; print(sys.executable)'
            return 0
        fi
    done
    return 1
}

readonly CANDIDATES="python3.13 python3.12 python3.11 python3 $SYSTEM_PYTHON"

# Sets PYTHON to an interpreter that fits and can make a virtual environment, installing what apt can bring.
choose_python() {
    local found
    # shellcheck disable=SC2086 # the list is split on purpose
    if PYTHON=$(find_python can_make_venv $CANDIDATES); then return 0; fi
    # shellcheck disable=SC2086
    if found=$(find_python true $CANDIDATES); then
        # Debian keeps ensurepip in a package of its own.
        apt_install "python$(python_version "$found")-venv" || exit 1
    else
        apt_install python3 python3-venv || exit 1
    fi
    # shellcheck disable=SC2086
    PYTHON=$(find_python can_make_venv $CANDIDATES) ||
        die "Python 3.11, 3.12 or 3.13 with venv is needed and python3 here is" \
            "$(python3 --version 2>&1 || true). Debian 12, Raspberry Pi OS bookworm and newer have it."
}

# apt's libcamera works only with the system's Python, so its presence decides what kind of environment is right.
on_a_pi() { python_fits "$SYSTEM_PYTHON" && system_has libcamera; }

system_has() {
    "$SYSTEM_PYTHON" -c 'import sys; from importlib.util import find_spec; sys.exit(find_spec(sys.argv[1]) is None)' "$1"
}

# Sets PYTHON to the system's, with the compiled packages that must match apt's libcamera.
choose_pi_python() {
    local missing=()
    can_make_venv "$SYSTEM_PYTHON" || missing+=("python$(python_version "$SYSTEM_PYTHON")-venv")
    system_has numpy || missing+=(python3-numpy)
    system_has PIL || missing+=(python3-pil)
    if [ "${#missing[@]}" -gt 0 ]; then apt_install "${missing[@]}" || exit 1; fi
    PYTHON=$SYSTEM_PYTHON
}

# Raspberry Pi OS has them, plain Debian has not: pins and camera are then missing, and `chappe check` says so.
bring_pi_parts() {
    system_has lgpio || apt_install python3-lgpio || warn "going on without lgpio: no pins"
    system_has picamera2 || apt_install python3-picamera2 || warn "going on without picamera2: no camera of the Pi"
}

# bookworm's picamera2 is compiled against numpy 1, trixie's against numpy 2; a second numpy in the venv breaks it.
pi_lock() {
    case $("$SYSTEM_PYTHON" -c 'import numpy; print(numpy.__version__)') in
    1.*) printf 'lock-numpy1.txt' ;;
    *) printf 'lock.txt' ;;
    esac
}

# ---- environments ---------------------------------------------------------------------------------------------------

fingerprint() { cat "$@" | sha256sum | cut -c 1-64; }

# fresh FOLDER KEY: whether the folder was finished with this key. The stamp is written last: a folder without one is the
# rest of a set-up that failed half-way.
fresh() { [ "$(sed -n 1p "$1/.chappe-stamp" 2>/dev/null)" = "$2" ]; }

pip_install() {
    local folder=$1
    shift
    # A user's pip.conf may say `user = true` or name a target, neither of which means this environment.
    env -u PIP_TARGET -u PIP_PREFIX -u PIP_ROOT PIP_USER=0 \
        "$folder/bin/python" -m pip --disable-pip-version-check --no-input install -q --progress-bar off "$@"
}

# build_env FOLDER KEY LOCK [venv option…]: a new environment holding exactly what LOCK says.
build_env() {
    local folder=$1 key=$2 lock=$3 options=()
    shift 3
    rm -rf "$folder"
    "$PYTHON" -m venv "$@" "$folder" || die "'$PYTHON -m venv' failed (its message is above); fix that and try again."
    # With apt's packages in sight, pip would take them for its own; the lock's versions go into the venv all the same.
    [ "$#" -eq 0 ] || options=(--no-deps --ignore-installed)
    say "installing $(grep -c == "$lock") packages into ${folder#"$CHECKOUT"/} (hash-locked by ${lock#"$CHECKOUT"/})"
    pip_install "$folder" --require-hashes --only-binary :all: "${options[@]}" -r "$lock" ||
        die "pip could not install $lock (its message is above). No network? Then nothing is lost: run it again later."
    install_project "$folder" "$key"
}

# The build back-end is in the lock, so that the project itself is installed without asking any index for anything.
install_project() {
    rm -f "$1/.chappe-stamp"
    pip_install "$1" --no-index --no-deps --no-build-isolation -e . || die "the project itself could not be installed."
    printf '%s\n%s\n' "$2" "$(fingerprint pyproject.toml)" >"$1/.chappe-stamp"
}

# bring_up FOLDER KEY LOCK [venv option…]: does as little as the stamp allows.
bring_up() {
    if ! fresh "$1" "$2"; then
        build_env "$@"
    elif [ "$(sed -n 2p "$1/.chappe-stamp")" != "$(fingerprint pyproject.toml)" ]; then
        install_project "$1" "$2"
    fi
}

make_venv() {
    local lock=lock.txt options=() kind=plain key
    if on_a_pi; then
        choose_pi_python
        kind=pi
        lock=build/lock-pi.txt
        options=(--system-site-packages)
        "$PYTHON" tools/lockfilter.py "$(pi_lock)" numpy pillow opencv-python-headless >"$lock"
    else
        choose_python
    fi
    key="$kind $PYTHON $("$PYTHON" -V) $CHECKOUT $(fingerprint "$lock")"
    if [ $kind = pi ] && ! fresh .venv "$key"; then bring_pi_parts; fi
    bring_up .venv "$key" "$lock" "${options[@]}"
}

make_numpy1_venv() {
    PYTHON=$(find_python is_3_11_with_venv python3.11 python3 "$SYSTEM_PYTHON") || {
        say "no Python 3.11 here: the tests that compare the two TFLite runtimes will skip"
        return 0
    }
    # It is there to run the two runtimes, not to develop in.
    local lock=build/lock-numpy1.txt
    "$PYTHON" tools/lockfilter.py lock-numpy1.txt amqtt av grimp import-linter mypy opencv-python-headless ruff >"$lock"
    bring_up build/venv-numpy1 "numpy1 $PYTHON $CHECKOUT $(fingerprint "$lock")" "$lock"
}

is_3_11_with_venv() { [ "$(python_version "$1")" = 3.11 ] && can_make_venv "$1"; }

# ---- brokers --------------------------------------------------------------------------------------------------------

has_program() {
    PATH="$PATH:/usr/local/sbin:/usr/sbin:/usr/lib/rabbitmq/bin" command -v "$1" >/dev/null
}

# bring_broker PROGRAM PACKAGE UNIT…: installs it. Debian starts its units as system services at once; they are masked
# while apt works and off afterwards, because tests start their own on free ports and nobody asked for an open one.
bring_broker() {
    local program=$1 package=$2 prefix unit units=() installed=0
    if has_program "$program"; then return 0; fi
    prefix=$(root_prefix) || prefix=
    for unit in "${@:3}"; do
        # One that is there already belongs to somebody.
        if [ -d /run/systemd/system ] && ! systemctl cat "$unit" >/dev/null 2>&1; then units+=("$unit"); fi
    done
    [ "${#units[@]}" -eq 0 ] || $prefix systemctl mask --runtime --quiet "${units[@]}" || true
    apt_install "$package" || installed=$?
    if [ "${#units[@]}" -gt 0 ]; then
        $prefix systemctl unmask --runtime --quiet "${units[@]}" || true
        $prefix systemctl disable --quiet "${units[@]}" || true
    fi
    if [ "$installed" -ne 0 ]; then
        warn "going on without $package: the tests that need it will skip"
    elif [ "${#units[@]}" -gt 0 ]; then
        say "the system service $package is off (sudo systemctl enable --now $package turns it on)"
    fi
}

# ---- what the fault tests need ---------------------------------------------------------------------------------------

# bring_program PROGRAM PACKAGE: installs it; what is missing afterwards only makes tests skip.
bring_program() {
    if has_program "$1"; then return 0; fi
    apt_install "$2" || warn "going on without $2: the tests that need it will skip"
}

# ---- the jobs -------------------------------------------------------------------------------------------------------

unset PYTHONHOME PYTHONPATH
# A Pi's /tmp is memory; wheels are unpacked where there is room.
export TMPDIR=$CHECKOUT/build/tmp
mkdir -p "$TMPDIR"
exec 9>build/setup.lock
flock 9

case ${1:-venv} in
venv)
    refuse_32_bit
    refuse_old_clock
    make_venv
    ;;
numpy1) make_numpy1_venv ;;
mosquitto) bring_broker mosquitto mosquitto mosquitto.service ;;
brokers)
    bring_broker mosquitto mosquitto mosquitto.service
    bring_broker nats-server nats-server nats-server.service
    # Erlang's port mapper, which comes with RabbitMQ, would listen on every address.
    bring_broker rabbitmq-server rabbitmq-server rabbitmq-server.service epmd.service epmd.socket
    ;;
faults)
    bring_program strace strace
    bring_program tc iproute2
    bring_program nsenter util-linux
    bring_program mkfs.ext4 e2fsprogs
    ;;
*) die "usage: tools/setup.sh [venv | numpy1 | mosquitto | brokers | faults]" ;;
esac
