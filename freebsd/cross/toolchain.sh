#!/bin/sh
# toolchain.sh DIR: makes in DIR a second Rust toolchain, with std, that compiles and links for
# x86_64-unknown-freebsd (FreeBSD 14). From Debian 12's and PyPI's packages only; installs nothing, needs no root.
# Writes DIR/env for the caller to source. Does nothing if DIR is complete.
#
# compiler, LLVM, std's source   Debian's rustc-web and its parts, unpacked. rustup has no std for FreeBSD that its
#                                toolchain here could take without its own channel, and std's source must be of the
#                                very compiler that builds it.
# C compiler, linker, headers    PyPI's ziglang: clang and lld with FreeBSD 14's headers and versioned libc stubs.
# cargo                          the one on PATH, which drives that compiler through RUSTC.
set -eu

zig_version=0.17.1
zig_sha256=ea6cc5d87b033cf0aedfbc8f9549a908cae6c50ac31f1698188fa48a74524b54
target=x86_64-unknown-freebsd
# Raised when a change of this script makes an older DIR useless.
form=1

fail() {
    echo "freebsd/cross: $1" >&2
    exit 1
}

[ $# -eq 1 ] || fail "usage: toolchain.sh DIR"
mkdir -p "$1"
D=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)

if [ "$(sed -n 1p "$D/done" 2>/dev/null)" = "$form" ]; then
    echo "toolchain: $(sed -n 2p "$D/done") in place"
    exit 0
fi
for tool in apt-get dpkg-deb python3 cargo; do
    command -v "$tool" >/dev/null || fail "$tool is missing; this needs Debian 12 with python3 and rustup's cargo"
done
[ "$(uname -m)" = x86_64 ] || fail "the packages are taken for x86_64, this is $(uname -m)"

# Package lists of our own: current, and written without root.
mkdir -p "$D/apt/lists/partial" "$D/apt/cache/archives/partial" "$D/debs"
apt() {
    tool=$1
    shift
    "$tool" -qq -o "Dir::State::lists=$D/apt/lists" -o "Dir::Cache=$D/apt/cache" -o APT::Sandbox::User= \
        -o Debug::NoLocking=1 "$@"
}
# A third-party source that does not answer is no reason to stop; a package that is lacking is.
apt apt-get update || true
version=$(apt apt-cache policy rustc-web | awk '/Candidate:/ { print $2 }')
case $version in
'' | '(none)') fail "no rustc-web among the packages; Debian 12 with bookworm-security has it" ;;
esac
series=$(echo "$version" | cut -d. -f1,2)
llvm=$(apt apt-cache depends "libstd-rust-web-$series" | awk '/Depends: libllvm/ { print $2 }')
[ -n "$llvm" ] || fail "libstd-rust-web-$series names no LLVM"

echo "toolchain: downloading Debian's rustc-web $version and $llvm"
(
    cd "$D/debs"
    rm -f ./*.deb
    apt apt-get download "rustc-web=$version" "libstd-rust-web-dev=$version" "libstd-rust-web-$series=$version" \
        "rust-web-src=$version" "$llvm"
)
rm -rf "$D/root"
mkdir "$D/root"
for deb in "$D"/debs/*.deb; do
    dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$D/root" --anchored --no-wildcards-match-slash \
        --exclude='./usr/src/rustc-*/src' --exclude='./usr/src/rustc-*/compiler' --exclude='./usr/share/doc'
done
rm -rf "$D/debs" "$D/apt"

echo "toolchain: downloading PyPI's ziglang $zig_version"
rm -rf "$D/python"
python3 -m venv "$D/python" || fail "python3 cannot make a venv; install python3-venv"
printf 'ziglang==%s --hash=sha256:%s\n' "$zig_version" "$zig_sha256" >"$D/requirements.txt"
"$D/python/bin/pip" -q --disable-pip-version-check install --no-deps --only-binary :all: --require-hashes \
    -r "$D/requirements.txt"
ln -sfn "$D"/python/lib/python3*/site-packages/ziglang/zig "$D/zig"

# bash, because dash loses variables like CARGO_BIN_EXE_l4sd-testbed on the way.
cat >"$D/rustc" <<EOF_RUSTC
#!/bin/bash
LD_LIBRARY_PATH=$D/root/usr/lib/x86_64-linux-gnu exec $D/root/usr/bin/rustc "\$@"
EOF_RUSTC
# Cargo builds panic_abort with the profile's panic strategy, and it must have its own.
cat >"$D/wrapper" <<'EOF_WRAPPER'
#!/bin/sh
case " $* " in
*" --crate-name panic_abort "*) exec "$@" -C panic=abort ;;
esac
exec "$@"
EOF_WRAPPER
cat >"$D/ar" <<EOF_AR
#!/bin/sh
exec $D/zig ar "\$@"
EOF_AR
cp "$here/cc.sh" "$D/cc"
chmod 755 "$D/rustc" "$D/wrapper" "$D/ar" "$D/cc"
cat >"$D/env" <<EOF_ENV
RUSTC=$D/rustc
CARGO_TARGET_X86_64_UNKNOWN_FREEBSD_LINKER=$D/cc
CC_x86_64_unknown_freebsd=$D/cc
AR_x86_64_unknown_freebsd=$D/ar
ZIG_GLOBAL_CACHE_DIR=$D/zig-cache
export RUSTC CARGO_TARGET_X86_64_UNKNOWN_FREEBSD_LINKER CC_x86_64_unknown_freebsd AR_x86_64_unknown_freebsd
export ZIG_GLOBAL_CACHE_DIR
EOF_ENV

# std once, into the toolchain's own sysroot: from then on cargo needs no unstable flag. The bootstrap variable is for
# this one build of std only.
echo "toolchain: building std for $target"
rm -rf "$D/seed"
mkdir -p "$D/seed/src"
printf '[package]\nname = "seed"\nversion = "0.0.0"\nedition = "2021"\n[workspace]\n' >"$D/seed/Cargo.toml"
: >"$D/seed/src/lib.rs"
(
    # shellcheck source=/dev/null
    . "$D/env"
    cd "$D/seed"
    CARGO_TARGET_DIR=target RUSTC_BOOTSTRAP=1 RUSTC_WRAPPER="$D/wrapper" CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0 \
        cargo -q build -Z build-std=std,panic_abort,panic_unwind,proc_macro,test --target "$target"
)
sysroot=$D/root/usr/lib/rustlib/$target/lib
mkdir -p "$sysroot"
find "$D/seed/target/$target/debug/deps" -name '*.rlib' ! -name 'libseed*' -exec cp {} "$sysroot/" \;
rm -rf "$D/seed"
printf '%s\nrustc-web %s, ziglang %s\n' "$form" "$version" "$zig_version" >"$D/done"
echo "toolchain: $(sed -n 2p "$D/done")"
