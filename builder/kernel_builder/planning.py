"""The beginning of the straight path: load -> plan. Apart from `pipeline`, so that a plan does not load what builds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from kernel_builder.container import Container
from kernel_builder.environment import TorchChoice, probe_surroundings
from kernel_builder.includes import declare_torch
from kernel_builder.inputs import BuildInputs, probe_inputs
from kernel_builder.plan import BuildPlan, DeviceChoice, assume_environment, choose_devices, plan_build
from kernel_builder.plan.matrix import load_matrix
from kernel_builder.spec.model import BuildSpec
from kernel_builder.spec.reader import load_spec
from kernel_builder.toolchains import offer_chosen, offer_cross
from kernel_builder.toolchains.system import Toolchain
from kernel_builder.torch_sdk import TorchSdk


@dataclass(frozen=True, slots=True)
class PlannedProject:
    """A project that was loaded and planned on this machine.

    installed: the torches at hand. notices: what its author should know. container: where it will be compiled, None for
    this machine itself.
    """

    plan: BuildPlan
    inputs: BuildInputs
    toolchain: Toolchain
    installed: tuple[TorchSdk, ...] = ()
    notices: tuple[str, ...] = ()
    container: Container | None = None

    @property
    def spec(self) -> BuildSpec:
        """The declaration behind the plan."""
        return self.plan.spec


def plan_project(
    project: Path,
    *,
    torch: TorchChoice | None = None,
    assumptions: Iterable[str] = (),
    devices: DeviceChoice | None = None,
    container: Container | None = None,
) -> PlannedProject:
    """Load a project and plan all its variants on this machine.

    torch: the releases to plan for, by default the one at hand. assumptions: what is planned for instead of what is
    here, see `assume_environment`. devices: archs and toolkits to plan for, by default those that the project and this
    machine have. container: where it will be compiled, by default on this machine itself.
    """
    loaded = load_spec(project)
    spec, torch_users = declare_torch(loaded.spec)
    tools = None if container is None else container.inside.tools
    here = probe_surroundings(torch, backends=spec.general.backends, tools=tools)
    matrix = load_matrix(None if torch is None else torch.matrix_file)
    environment = assume_environment(here.environment, assumptions, matrix)
    devices = devices or DeviceChoice()
    is_cross = devices.host is not None and devices.host != here.environment.host
    cross = offer_cross(devices.host) if is_cross and devices.host is not None else None
    chosen = [offer_chosen(key, here.environment.host) for key in devices.toolkits]
    environment = choose_devices(environment, devices, cross, chosen)
    inputs = probe_inputs(spec)
    plan = plan_build(spec, environment, inputs.digest)
    notices = (*loaded.notices, *_tell_torch_users(plan, torch_users))
    return PlannedProject(plan, inputs, here.toolchain, here.installed, notices, container)


def _tell_torch_users(plan: BuildPlan, found: Mapping[str, str]) -> Iterator[str]:
    """What an author should know who builds for several ABIs."""
    if len({variant.sdk.release for variant in plan.variants if variant.sdk is not None}) > 1:
        for name, told in sorted(found.items()):
            yield f"`kernel.{name}` is compiled for each torch, since {told}; say so in its `depends`"
