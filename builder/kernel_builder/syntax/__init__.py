"""Read sources whose compiler is not on this machine, as far as another compiler can; nothing is compiled.

Beside the straight path: `build` compiles, and asks nobody here. For Metal clang reads shaders and Objective-C++ with
stand-ins for Apple's headers, which know names and shapes and nothing of address spaces or of Metal's own type rules.
"""

from __future__ import annotations

from kernel_builder.syntax.check import SyntaxReport, check_syntax

__all__ = ["SyntaxReport", "check_syntax"]
