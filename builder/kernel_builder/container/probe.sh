# What an image can compile with, in lines for `container/inside.py`. Arguments: CMake and ninja of the builder, or empty.
# `--- <what> <path>` is followed by what the program says of itself.

tell() {
    path=$(command -v "$2" 2>/dev/null) || return 1
    text=$("$path" --version 2>&1 </dev/null) || return 1
    printf -- '--- %s %s\n%s\n' "$1" "$path" "$text"
}

for name in python3 python3.13 python3.12 python3.11 python3.14; do
    if "$name" -c 'import pathlib, sys, sysconfig
headers = pathlib.Path(sysconfig.get_path("include"), "Python.h").is_file()
sys.exit(sys.version_info < (3, 11) or not headers)' 2>/dev/null </dev/null; then
        tell python "$name" && break
    fi
done
for name in c++ g++ clang++; do tell cxx "$name" && break; done
{ [ -n "$1" ] && tell cmake "$1"; } || tell cmake cmake
{ [ -n "$2" ] && tell ninja "$2"; } || tell ninja ninja || tell ninja ninja-build
printf -- '--- path %s\n' "$PATH"
printf -- '--- machine %s\n' "$(uname -m)"
