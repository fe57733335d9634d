# The stages of .ci/run that are more than one command. Every function fails by its exit status.

timings=

# stage NAME COMMAND...: runs it, prints its seconds, ends the whole run if it fails.
stage() {
    local name=$1 began=$SECONDS status
    shift
    printf '\n== %s\n' "$name"
    "$@"
    status=$?
    timings+=" $name $((SECONDS - began)) s;"
    if ((status != 0)); then
        printf '\nFAILED: stage %s (exit status %d) after %d s\n' "$name" "$status" "$((SECONDS - began))"
        exit 1
    fi
    printf -- '-- %s: %d s\n' "$name" "$((SECONDS - began))"
}

# Debian packages that the tests and the demo use; nothing that starts a service.
packages() {
    local pair lacking=()
    for pair in ip:iproute2 ping:iputils-ping iperf3:iperf3 ethtool:ethtool tcpdump:tcpdump nft:nftables \
        unshare:util-linux make:make cc:gcc git:git file:file readelf:binutils \
        shellcheck:shellcheck mandoc:mandoc; do
        command -v "${pair%%:*}" >/dev/null || lacking+=("${pair##*:}")
    done
    [[ -f /usr/include/stdio.h ]] || lacking+=(libc6-dev)
    python3 -c 'import ensurepip' 2>/dev/null || lacking+=(python3-venv)
    if ((${#lacking[@]} == 0)); then
        echo "nothing lacking"
    elif ((EUID != 0)); then
        echo "lacking, and not root: ${lacking[*]}"
    else
        echo "installing ${lacking[*]}"
        apt-get update -qq && apt-get install -y -qq --no-install-recommends "${lacking[@]}" >/dev/null
    fi
}

toolchain() {
    if ! command -v cargo >/dev/null; then
        echo "no cargo: install rustup with the stable toolchain first"
        return 1
    fi
    cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt || return 1
    cargo clippy --version >/dev/null 2>&1 || rustup component add clippy || return 1
    cargo --version
}

docs() {
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items
}

# The demo as an ordinary user, with the binaries of the demo before: no root, no real-time scheduling.
rootless() {
    local built=${CARGO_TARGET_DIR:-target}/release place status library
    if ((EUID != 0)); then
        echo "SKIPPED: not root, so the demo before was the rootless one"
        return
    fi
    library=${ORT_DYLIB_PATH:-$(echo "$L4SD_TOOLS"/onnxruntime/onnxruntime/capi/libonnxruntime.so.*)}
    place=$(mktemp -d) && mkdir -p "$place/tools/bin" || return 1
    cp "$built/l4sd" "$built/l4sd-testbed" "$place/" &&
        cp "$(tool udp_prague_sender)" "$(tool udp_prague_receiver)" "$place/tools/bin/" &&
        { [[ ! -f $library ]] || cp "$library" "$place/libonnxruntime.so"; } &&
        chmod 755 "$place" && chown -R nobody "$place" || return 1
    (cd "$place" && as_nobody env "L4SD_TOOLS=$place/tools" "ORT_DYLIB_PATH=$place/libonnxruntime.so" \
        ./l4sd-testbed demo --seconds 3 --out "$place/demo")
    status=$?
    if ((status == 0)) && ! [[ -s $place/demo/results.json ]]; then
        # The fallback generator answered: right on a host without user namespaces, wrong on one that has them.
        if as_nobody unshare -Urn true; then
            echo "an ordinary user can make namespaces here, and yet there was no real traffic"
            status=1
        fi
    fi
    rm -rf "$place"
    return "$status"
}

as_nobody() {
    setpriv --reuid=nobody --regid="$(id -gn nobody)" --clear-groups "$@"
}

tool() {
    PATH="$L4SD_TOOLS/bin:$PATH" command -v "$1"
}

# Debian's promtool without its daemon: unpacked, not installed.
promtool_check() {
    local promtool scrape
    promtool=$(command -v promtool) || promtool=$cache/prometheus/usr/bin/promtool
    if ! [[ -x $promtool ]]; then
        command -v apt-get >/dev/null || { echo "SKIPPED: no promtool and no apt-get"; return 0; }
        mkdir -p "$cache/deb" || return 1
        if ! (cd "$cache/deb" && apt-get download -qq prometheus); then
            if ((EUID != 0)); then
                echo "SKIPPED: promtool cannot be downloaded"
                return 0
            fi
            apt-get update -qq && (cd "$cache/deb" && apt-get download -qq prometheus) || return 1
        fi
        dpkg -x "$cache"/deb/prometheus_*.deb "$cache/prometheus" || return 1
    fi
    # The tests hold every metric against it too.
    export PROMTOOL=$promtool
    for scrape in target/demo/*/metrics.txt; do
        if ! [[ -s $scrape ]]; then
            echo "SKIPPED: the demo before had no real traffic, so there is no scrape"
            return 0
        fi
        "$promtool" check metrics <"$scrape" || return 1
    done
}

# Demo and tests as a user that has just been added, in a clone of its own, with this toolchain made readable to it.
fresh_user() {
    local user="l4sd-ci-$$" home status
    if ((EUID != 0)); then
        echo "SKIPPED: only root can add a user"
        return 0
    fi
    useradd -m "$user" || return 1
    home=$(getent passwd "$user" | cut -d: -f6)
    git clone -q . "$home/l4sd" &&
        mkdir -p "$home/.cargo" "$home/toolchain" &&
        cp -r "${CARGO_HOME:-$HOME/.cargo}/registry" "$home/.cargo/" &&
        chown -R "$user:" "$home"
    status=$?
    if ((status == 0)); then
        # The mount is private to this unshare and ends with it.
        unshare --mount sh -c 'mount --bind "$1" "$2/toolchain" && cd "$2/l4sd" && exec setpriv \
            --reuid="$3" --regid="$3" --init-groups env -i HOME="$2" USER="$3" PATH="$2/toolchain/bin:/usr/bin:/bin" \
            sh -c "make demo DEMO_ARGS=\"--seconds 5\" && make test"' \
            sh "$(rustc --print sysroot)" "$home" "$user"
        status=$?
    fi
    userdel -r "$user" 2>/dev/null
    return "$status"
}
