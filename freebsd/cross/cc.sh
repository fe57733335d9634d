#!/bin/sh
# C compiler and linker for FreeBSD 14: clang and lld with the headers and libc stubs that PyPI's ziglang carries.
# It has no stubs for four libraries that the libc crate names on every link. They are left out here, so a program
# that calls into one of them fails to link; none of ours does.
for argument; do
    shift
    case $argument in
    -lkvm | -lmemstat | -lprocstat | -ldevstat | -m64 | --target=*) ;;
    *) set -- "$@" "$argument" ;;
    esac
done
exec "$(dirname "$(realpath "$0")")"/zig cc -target x86_64-freebsd.14.0-none "$@"
