# Read by the recipes of the Makefile. A toolchain shared by several users often comes with a CARGO_HOME that an ordinary
# user may read but not write; cargo then gets one inside target/, with the shared one's configuration.
l4sd_home="${CARGO_HOME:-${HOME:-/nonexistent}/.cargo}"
if ! mkdir -p "$l4sd_home/registry" 2>/dev/null || ! [ -w "$l4sd_home/registry" ] || ! [ -w "$l4sd_home" ]; then
    mkdir -p target/cargo-home
    for l4sd_file in config.toml config; do
        if [ -r "$l4sd_home/$l4sd_file" ]; then
            cp "$l4sd_home/$l4sd_file" target/cargo-home/
        fi
    done
    CARGO_HOME="$PWD/target/cargo-home"
    export CARGO_HOME
fi

# Tests run in their own package's directory; the tools are in one place for all of them.
L4SD_TOOLS="${L4SD_TOOLS:-$PWD/target/tools}"
export L4SD_TOOLS

# Programs that an ordinary user's PATH often lacks, although the user may run them: ethtool, nft, tcpdump.
PATH="$PATH:$L4SD_TOOLS/bin:$L4SD_TOOLS/usr/bin:$L4SD_TOOLS/usr/sbin:/usr/sbin:/sbin"
export PATH

# The library that runs models, where tools.sh has put it; what the user has set wins.
for l4sd_file in "$L4SD_TOOLS"/onnxruntime/onnxruntime/capi/libonnxruntime.so.*; do
    if [ -z "${ORT_DYLIB_PATH:-}" ] && [ -f "$l4sd_file" ]; then
        ORT_DYLIB_PATH=$l4sd_file
        export ORT_DYLIB_PATH
    fi
done
