#!/usr/bin/env bash
# Finds out what a build and the tests need, and installs what is missing, where that may be done without asking.
#
# Needed to build: a C and C++ compiler, libclang (the bindings of RocksDB), mold (the linker that
# .cargo/config.toml names), pkg-config, Perl. The tests also drive psql, Python and Java; without them those tests say
# SKIPPED (in CI they fail).
set -euo pipefail

packages=()
need() { # need PACKAGE COMMAND…: the package, if the command fails
    local package=$1
    shift
    "$@" >/dev/null 2>&1 || packages+=("$package")
}
libclang() {
    [ -n "${LIBCLANG_PATH:-}" ] && return
    # Not libclang-cpp, which is something else.
    ldconfig -p | grep -q 'libclang[-.0-9]*\.so' || ls /usr/lib/llvm-*/lib/libclang{,-[0-9]*}.so* | grep -q .
}

command -v cargo >/dev/null || {
    echo "cargo is missing: install Rust from https://rustup.rs, then run this again" >&2
    exit 1
}

need g++ g++ --version
need libclang-dev libclang
need mold mold --version
need pkg-config pkg-config --version
need perl perl --version
need zlib1g-dev sh -c 'echo "#include <zlib.h>" | ${CC:-cc} -E - '
build_count=${#packages[@]}

need postgresql-client psql --version
need python3-venv python3 -c 'import ensurepip, venv'
need default-jdk-headless javac -version
need maven mvn --version
need curl curl --version

[ ${#packages[@]} -eq 0 ] && exit 0

if ! command -v apt-get >/dev/null; then
    echo "install these, by the names that your system has for them, then run this again: ${packages[*]}" >&2
    [ "$build_count" -eq 0 ] && exit 0 || exit 1
fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then
    if sudo -n true 2>/dev/null; then
        as_root=(sudo -n)
    else
        echo "missing: ${packages[*]}; run: sudo apt-get install ${packages[*]}" >&2
        [ "$build_count" -eq 0 ] && exit 0 || exit 1
    fi
fi
echo "installing ${packages[*]}"
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
