"""The command that would bring what is missing, as this machine's package manager spells it."""

from __future__ import annotations

import shutil
import sys

_NAMES = {
    "g++": {"dnf": "gcc-c++"},
    "python3-dev": {"dnf": "python3-devel"},
}


def install_command(package: str) -> str:
    """How to install a package that is named as Debian names it."""
    if sys.platform == "darwin":
        return "xcode-select --install"
    for program, verb in (("apt-get", "install"), ("dnf", "install"), ("apk", "add")):
        if shutil.which(program) is not None:
            return f"{program} {verb} {_NAMES.get(package, {}).get(program, package)}"
    return f"install {package}"
