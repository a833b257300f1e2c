#!/bin/sh
# Rust's linker, which rustc puts on PATH, with the arguments that build scripts mean for a C compiler.
for argument do
  shift
  case $argument in
    -Wl,-rpath,*) set -- "$@" -rpath "${argument#-Wl,-rpath,}" ;;
    -Xlinker) ;;
    *) set -- "$@" "$argument" ;;
  esac
done
exec rust-lld "$@"
