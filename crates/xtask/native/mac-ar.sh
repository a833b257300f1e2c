#!/bin/sh
exec "$(dirname "$0")/../zig/ziglang/zig" ar "$@"
