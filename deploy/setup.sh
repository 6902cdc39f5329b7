# What a machine needs to build and test Peeklock, written once. Sourced by deploy/run and tests/run.
# shellcheck shell=bash

# shellcheck disable=SC2034  # used by who sources this
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# RocksDB takes half an hour of processor time to build, so its result is kept outside the checkout.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$HOME/.cache/peeklock/target}"

say() { printf '== %s\n' "$*"; }

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

has() { command -v "$1" >/dev/null 2>&1; }

# The names bindgen looks for: libclang-cpp, which comes with llvm, is another library.
has_libclang() {
    [ -n "${LIBCLANG_PATH:-}" ] && return 0
    ldconfig -p 2>/dev/null | grep -q 'libclang[-.0-9]*\.so' && return 0
    compgen -G '/usr/lib/llvm-*/lib/libclang.so*' >/dev/null ||
        compgen -G '/usr/lib/llvm-*/lib/libclang-[0-9]*.so*' >/dev/null
}

has_python_venv() { has python3 && python3 -c 'import venv, ensurepip' 2>/dev/null; }

has_python_headers() {
    has python3 &&
        [ -f "$(python3 -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" ]
}

# Prints the Debian packages that bring what is missing; nothing when all is there.
missing_for_build() {
    has cc || echo gcc
    has c++ || echo g++
    has make || echo make
    has_libclang || echo libclang-dev
}

missing_for_clients() {
    has_python_venv || echo python3-venv
    # python-qpid-proton has no wheel for Linux; pip compiles it.
    has cc || echo gcc
    has_python_headers || echo python3-dev
    # The azservicebus crate has a client of HTTP in it that is built on OpenSSL, and never used.
    has pkg-config || echo pkg-config
    pkg-config --exists openssl 2>/dev/null || echo libssl-dev
    has node || echo nodejs
    has npm || echo npm
}

# Installs the named packages with apt after saying so, or says what to install and stops.
install_packages() {
    [ "$#" -gt 0 ] || return 0
    if ! has apt-get || [ ! -f /etc/debian_version ]; then
        printf 'Peeklock needs what these Debian packages hold; install their like and run again:\n' >&2
        printf '    %s\n' "$@" >&2
        exit 1
    fi
    local as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        has sudo || fail "not root, and no sudo. As root, run: apt-get install $*"
        as_root=(sudo)
    fi
    say "installing with apt-get: $*"
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

need_rust() {
    # A fresh installation of rustup is not on the path of a shell that is already open.
    if ! has cargo && [ -x "$HOME/.cargo/bin/cargo" ]; then
        PATH="$HOME/.cargo/bin:$PATH"
    fi
    has cargo || fail "no cargo. Install Rust with rustup (rust-toolchain.toml names the version) and run again"
}

need_build() {
    need_rust
    local packages
    mapfile -t packages < <(missing_for_build | sort -u)
    install_packages "${packages[@]}"
    if ! compgen -G "$CARGO_TARGET_DIR/release/build/librocksdb-sys-*/out/librocksdb.a" >/dev/null; then
        say "RocksDB is not built yet: the first build takes about 30 minutes of processor time"
        say "(about 15 minutes on two cores); it is kept in $CARGO_TARGET_DIR"
    fi
}

need_clients() {
    local packages
    mapfile -t packages < <(missing_for_clients | sort -u)
    install_packages "${packages[@]}"
}
