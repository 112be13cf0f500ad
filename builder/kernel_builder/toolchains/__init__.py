"""Device compilers as relocatable, probed, pinned things: what is on this machine, and what a build may fetch.

`list_offers` says what there is, without touching anything; `obtain_toolkits` makes some of it ready.
"""

from __future__ import annotations

from kernel_builder.toolchains.libraries import obtain_libraries
from kernel_builder.toolchains.model import Toolkit
from kernel_builder.toolchains.offers import list_offers, obtain_toolkits, offer_chosen, offer_cross, offer_toolkit
from kernel_builder.toolchains.tool import Tool, probe_version

__all__ = [
    "Tool",
    "Toolkit",
    "list_offers",
    "obtain_libraries",
    "obtain_toolkits",
    "offer_chosen",
    "offer_cross",
    "offer_toolkit",
    "probe_version",
]
