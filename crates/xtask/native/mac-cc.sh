#!/bin/sh
# A C compiler for Apple silicon. Zig takes its own name of the target, and has its own system headers.
skip=
for argument do
  shift
  if [ -n "$skip" ]; then skip=; continue; fi
  case $argument in
    -arch | -isysroot | -target) skip=1 ;;
    --target=* | -mmacosx-version-min=*) ;;
    *) set -- "$@" "$argument" ;;
  esac
done
exec "$(dirname "$0")/../zig/ziglang/zig" cc -target aarch64-macos.14.0 -fno-sanitize=undefined "$@"
