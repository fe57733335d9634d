#!/bin/sh
# Gets the programs that the demo and the cells drive: iperf3 and ethtool from the system's packages (installed as root,
# else downloaded and unpacked), udp_prague by cargo. What is there is used. Never fails: the testbed itself says what
# is still missing. ONNX Runtime comes in its Python package. Everything unpacked goes to $L4SD_TOOLS, by default target/tools.
set -u
tools="${L4SD_TOOLS:-target/tools}"
mkdir -p "$tools"
tools=$(cd "$tools" && pwd)
PATH="$tools/bin:$tools/usr/bin:$tools/usr/sbin:$PATH:/usr/sbin:/sbin"
export PATH DEBIAN_FRONTEND=noninteractive

have() {
    command -v "$1" >/dev/null 2>&1
}

install_as_root() {
    apt-get install -y -qq --no-install-recommends $1 >/dev/null 2>&1 && return
    apt-get update -qq >/dev/null 2>&1
    apt-get install -y -qq --no-install-recommends $1 >/dev/null
}

# An ordinary user has the right to read package lists but not to refresh them, hence lists of its own if need be.
unpack_as_user() (
    mkdir -p "$tools/apt/lists/partial" "$tools/apt/cache/archives/partial" || exit 1
    cd "$tools/apt" || exit 1
    lists=
    if ! apt-get -s install $1 >/dev/null 2>&1; then
        lists="-o Dir::State::lists=$tools/apt/lists -o Dir::Cache=$tools/apt/cache"
        apt-get $lists update -qq || exit 1
    fi
    wanted=$(apt-get $lists -s --no-install-recommends install $1 | awk '/^Inst / { print $2 }')
    rm -f ./*.deb
    apt-get $lists download -qq $wanted || exit 1
    for package in ./*.deb; do
        dpkg -x "$package" "$tools" || exit 1
    done
)

missing=
for program in iperf3 ethtool; do
    have "$program" || missing="$missing $program"
done
if [ -n "$missing" ] && have apt-get; then
    echo "tools: getting$missing"
    if [ "$(id -u)" = 0 ]; then
        install_as_root "$missing" || echo "tools: could not install$missing"
    else
        unpack_as_user "$missing" || echo "tools: could not download$missing"
    fi
fi

if ! have udp_prague_sender || ! have udp_prague_receiver; then
    echo "tools: building udp_prague"
    "${CARGO:-cargo}" install -q udp_prague --version 0.2.2 --locked --root "$tools" ||
        echo "tools: could not build udp_prague"
fi

# The library only: the package's Python files are not used.
onnxruntime=1.31.1
if [ -z "${ORT_DYLIB_PATH:-}" ] && ! ls "$tools"/onnxruntime/onnxruntime/capi/libonnxruntime.so.* >/dev/null 2>&1; then
    echo "tools: getting onnxruntime $onnxruntime"
    python3 -m venv "$tools/venv" >/dev/null 2>&1 &&
        "$tools/venv/bin/pip" install -q --target "$tools/onnxruntime" --no-deps "onnxruntime==$onnxruntime" ||
        echo "tools: could not get onnxruntime (python3 with venv is needed); models cannot be run"
fi
exit 0
