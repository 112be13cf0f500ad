"""Units of templates on the disk: what each is made of, and whether all of them can be made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import TypeAlias

from kernel_builder.spec.locate import KeyPath, printable, render_key
from kernel_builder.spec.model import BuildSpec, InstantiationMatrix, TorchNoarchFramework, name_variable
from kernel_builder.spec.remark import Remark
from kernel_builder.spec.template_language import Fault
from kernel_builder.spec.unit_template import BadTemplateError, decode_template, parse_template, read_template

MAX_UNITS_BYTES = 64 << 20
FindFault: TypeAlias = Callable[[PurePosixPath], tuple[str, str | None] | None]


def check_units(spec: BuildSpec, find_fault: FindFault) -> Iterator[Remark]:
    """Every template is a file of the project, and every unit can be made of it.

    find_fault: what keeps a path from being a readable file of the project, and what to do about it.
    """
    size = 0
    for component in () if isinstance(spec.framework, TorchNoarchFramework) else spec.components:
        for index, matrix in enumerate(component.instantiate):
            key: KeyPath = ("kernel", component.name, "instantiate", index)
            name = f"`{printable(str(matrix.template))}`"
            fault = find_fault(matrix.template)
            if fault is not None:
                message = f"`{render_key(key)}` names a template that {fault[0]}: {name}"
                yield Remark((*key, "template"), message, fault[1])
                continue
            try:
                texts = make_units(spec.root, matrix)
            except BadTemplateError as error:
                for each in error.faults:
                    place = name if each.line is None else f"line {each.line} of {name}"
                    yield Remark((*key, "template"), f"{place} {each.message}", each.hint)
                continue
            size += sum(map(len, texts.values()))
            yield from _check_texts(spec.root, matrix, texts, key)
            if size > MAX_UNITS_BYTES:
                message = f"the units of the file have more than {MAX_UNITS_BYTES >> 20} MiB in all"
                yield Remark((*key, "axes"), message, "move what they share into a header")
                return


def make_units(root: Path, matrix: InstantiationMatrix) -> dict[PurePosixPath, bytes]:
    """The text of every unit of a template in the project at `root`. Raises `BadTemplateError`."""
    try:
        content = read_template(root / matrix.template)
    except OSError as error:
        raise BadTemplateError(Fault(None, f"cannot be read: {error.strerror}")) from None
    template = parse_template(decode_template(content))
    faults = tuple(template.list_faults(name_variable(axis) for axis in matrix.axes))
    if faults:
        raise BadTemplateError(*faults)
    return {unit.path: template.render(unit.values) for unit in matrix.instantiations}


def _check_texts(
    root: Path, matrix: InstantiationMatrix, texts: Mapping[PurePosixPath, bytes], key: KeyPath
) -> Iterator[Remark]:
    """A unit stands in nobody's place, and is no other one again."""
    owners: dict[bytes, PurePosixPath] = {}
    for path, text in texts.items():
        first = owners.setdefault(text, path)
        if first != path:
            message = f"`{matrix.template}` makes the same of `{first.name}` and `{path.name}`"
            yield Remark(key, message, "have the template tell them apart, or leave one out with `exclude`")
        if _is_there(root / path):
            message = f"the unit `{path}` has the name of a file of the project"
            yield Remark(key, message, "remove the file: the unit takes its place; or rename the template")


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except OSError:
        return False
    return True
