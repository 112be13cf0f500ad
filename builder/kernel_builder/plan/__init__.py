"""Stage 2: BuildSpec -> BuildPlan. Everything that is decided about every variant, decided here and only here.

Pure: the host, the toolchains and the torch found on the machine come in as values (`BuildEnvironment`).
"""

from __future__ import annotations

from kernel_builder.plan.assumptions import assume_environment
from kernel_builder.plan.build import plan_build
from kernel_builder.plan.describe import describe_plan
from kernel_builder.plan.devices import DeviceChoice, choose_devices, parse_devices
from kernel_builder.plan.model import (
    BuildEnvironment,
    BuildPlan,
    Exclusion,
    ToolchainKey,
    ToolchainLack,
    ToolchainOffer,
    TorchBuild,
    TorchRelease,
    TorchSdkKey,
    VariantPlan,
)
from kernel_builder.plan.selector import Selector

__all__ = [
    "BuildEnvironment",
    "BuildPlan",
    "DeviceChoice",
    "Exclusion",
    "Selector",
    "ToolchainKey",
    "ToolchainLack",
    "ToolchainOffer",
    "TorchBuild",
    "TorchRelease",
    "TorchSdkKey",
    "VariantPlan",
    "assume_environment",
    "choose_devices",
    "describe_plan",
    "parse_devices",
    "plan_build",
]
