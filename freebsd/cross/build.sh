#!/bin/sh
# build.sh: compiles, links and inspects everything of this workspace that exists on FreeBSD, for
# x86_64-unknown-freebsd (FreeBSD 14), on a Debian 12. Nothing is run: there is no FreeBSD here.
# The toolchain is made on the first call in ${L4SD_CACHE:-~/.cache/l4sd}/freebsd, what is built in target/freebsd.
set -eu
cd "$(dirname "$0")/../.."

target=x86_64-unknown-freebsd
toolchain=${L4SD_CACHE:-$HOME/.cache/l4sd}/freebsd
here=freebsd/cross

fail() {
    echo "freebsd/cross: $1" >&2
    exit 1
}

for tool in file readelf; do
    command -v "$tool" >/dev/null || fail "$tool is missing; install the Debian packages file and binutils"
done
"$here/toolchain.sh" "$toolchain"
# shellcheck source=/dev/null
. "$toolchain/env"

# One small profile for programs and tests: what is wanted is that they link.
CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/freebsd
CARGO_INCREMENTAL=0
CARGO_PROFILE_DEV_DEBUG=0
CARGO_PROFILE_TEST_DEBUG=0
CARGO_PROFILE_TEST_OPT_LEVEL=0
export CARGO_TARGET_DIR CARGO_INCREMENTAL CARGO_PROFILE_DEV_DEBUG CARGO_PROFILE_TEST_DEBUG CARGO_PROFILE_TEST_OPT_LEVEL
# Cargo does not see that std was replaced.
if ! cmp -s "$toolchain/done" "$CARGO_TARGET_DIR/toolchain"; then
    rm -rf "$CARGO_TARGET_DIR"
    mkdir -p "$CARGO_TARGET_DIR"
    cp "$toolchain/done" "$CARGO_TARGET_DIR/toolchain"
fi

# The constants that are written by hand, against FreeBSD's own headers.
for source in "$here"/*.c; do
    "$toolchain/cc" -Wall -Werror -c -o "$CARGO_TARGET_DIR/constants.o" "$source" || fail "$source does not agree with FreeBSD 14's headers"
    echo "agrees with FreeBSD 14's headers: $source"
done

# Packet sockets and AF_XDP are Linux's; the Python package is built by maturin on the machine that it is for.
set -- --locked --workspace --exclude l4sd-afpacket --exclude l4sd-afxdp --exclude l4sd-python --target "$target"
cargo build "$@"
cargo test "$@" --no-run

# inspect PROGRAM: it is for FreeBSD 14, and wants no library but the expected ones.
inspect() {
    what=$(file -b "$1")
    case $what in
    *'for FreeBSD 14.'*) ;;
    *) fail "$1 is not for FreeBSD 14: $what" ;;
    esac
    needed=$(readelf -dW "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | sort)
    beyond=$(echo "$needed" | grep -vxF -f "$here/needed.txt" || true)
    [ -z "$beyond" ] || fail "$1 needs $(echo "$beyond" | paste -sd ' '), which $here/needed.txt does not have"
    echo "$1: $(echo "$what" | grep -o 'for FreeBSD [^,]*'), needs $(echo "$needed" | paste -sd ' ')"
}
for program in l4sd l4sd-testbed fixed_work; do
    inspect "$CARGO_TARGET_DIR/$target/debug/$program"
done
# The program that is installed needs them all, or the list is too long.
needed=$(readelf -dW "$CARGO_TARGET_DIR/$target/debug/l4sd" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | sort)
[ "$needed" = "$(grep -v '^#' "$here/needed.txt" | sort)" ] || fail "l4sd does not need all of $here/needed.txt"

tests=0
for program in "$CARGO_TARGET_DIR/$target"/debug/deps/*; do
    if [ -x "$program" ] && [ -f "$program" ] && [ "$(head -c 4 "$program" | tail -c 3)" = ELF ]; then
        inspect "$program" >/dev/null
        tests=$((tests + 1))
    fi
done
echo "$tests programs and test programs are linked for FreeBSD 14; none has been run"
