#!/bin/sh
# ns-3 from PyPI into a Python environment of its own, and dumbbell.cc built against the libraries in it.
#
# usage: build.sh [VENV]    default target/ns3
#
# Prints the path of the program. Needs python3.11 with venv, pip, g++; about 500 MB.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
venv=${1:-$here/../../target/ns3}
version=3.44.post0

[ -x "$venv/bin/python" ] || "${PYTHON:-python3.11}" -m venv "$venv" >&2
"$venv/bin/python" -c "import importlib.metadata as m; assert m.version('ns3') == '$version'" 2>/dev/null ||
    "$venv/bin/pip" install -q "ns3==$version" >&2

root=$("$venv/bin/python" -c "import importlib.util as u; print(u.find_spec('ns3').submodule_search_locations[0])")
program=$venv/dumbbell
if [ ! -x "$program" ] || [ "$here/dumbbell.cc" -nt "$program" ]; then
    # The definitions are those that the libraries were built with (lib64/cmake/ns3/ns3Targets.cmake).
    modules="applications internet point-to-point traffic-control bridge network stats core"
    # shellcheck disable=SC2046
    ${CXX:-g++} -O2 -std=c++20 -DNS3_BUILD_PROFILE_RELEASE -DNS3_LOG_ENABLE -DNS3_ASSERT_ENABLE -D__LINUX__ \
        -I"$root/include" -o "$program" "$here/dumbbell.cc" -L"$root/lib64" -Wl,-rpath,"$root/lib64" \
        -Wl,--allow-shlib-undefined $(for m in $modules; do echo "-lns3.44-$m"; done) >&2
fi
echo "$program"
