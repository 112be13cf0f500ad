from __future__ import annotations

import pytest

from kernel_builder.errors import BadInputError
from kernel_builder.spec.model import AxisValue
from kernel_builder.spec.unit_template import (
    MAX_TEMPLATE_BYTES,
    BadTemplateError,
    UnitTemplate,
    decode_template,
)


def render(text: str, **values: AxisValue) -> str:
    return UnitTemplate(text).render(values).decode()


def refuse(text: str, **values: AxisValue) -> str:
    with pytest.raises(BadTemplateError) as caught:
        UnitTemplate(text).render(values)
    return "; ".join(f"{fault.line}: {fault.message}" for fault in caught.value.faults)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ dtype }} {{ head_dim }} {{ causal }}\n", "float16 64 true\n"),
        ("{{ not causal }}{{ -head_dim }}{{ head_dim * 2 + 1 }}{{ 9 // 2 - 7 % 4 }}", "false-641291"),
        ("{{ 'a' if head_dim > 32 and causal else 'b' }}", "a"),
        ("{{ {'float16': 'Float16'}[dtype] }} {{ dtype|upper }} {{ 'Ab'|lower }}", "Float16 FLOAT16 ab"),
        ("{% for size in [1, 2] %}{{ size }}{{ ', ' if not loop.last }}{% endfor %}", "1, 2"),
        ("{% for a, b in [['x', 1]] %}{{ loop.index }}{{ a }}{{ b }}{% endfor %}", "1x1"),
        ("{% for name in {'k': 1} %}{{ name }}{% else %}none{% endfor %}", "k"),
        ("{% set type = dtype|upper %}{{ type }}", "FLOAT16"),
        ("{% if 'float' in dtype %}yes{% elif causal %}no{% endif %}", "yes"),
        ("{# a comment #}{% raw %}{{1}}{% endraw %}", "{{1}}"),
        ("line 1\r\nline 2\r\n", "line 1\nline 2\n"),
        ("<&>\"'\\ é", "<&>\"'\\ é"),
    ],
)
def test_what_a_template_may_say(text: str, expected: str) -> None:
    assert render(text, dtype="float16", head_dim=64, causal=True) == expected


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("\n{{ dtype.__class__.__mro__ }}", "2: takes the attribute `__mro__`"),
        ("{{ ''['__class__'] }}", "1: fails: string indices"),
        ("{{ dtype['upper'] }}", "1: fails: string indices"),
        ("{{ {'a': 1}['items'] }}", "1: fails: the table has no `items`"),
        ("{{ dtype.upper() }}", "calls a function"),
        ("{% for i in range(10 ** 9) %}{% endfor %}", "calls a function"),
        ("{{ lipsum.__globals__ }}", "takes the attribute"),
        ("{{ self.x }}", "takes the attribute `x`"),
        ("{{ self }}", "`TemplateReference` cannot be printed"),
        ("{{ [dtype]|join }}", "uses the filter `join`"),
        ("{{ dtype|_scalar }}", "uses the filter `_scalar`"),
        ("{{ dtype|upper(1) }}", "uses the filter `upper`"),
        ("{% include 'x' %}", "includes another template"),
        ("{% import 'x' as y %}", "imports another template"),
        ("{% extends 'x' %}", "extends another template"),
        ("{% macro f() %}{% endmacro %}", "defines a macro"),
        ("{% filter upper %}x{% endfilter %}", "uses `filterblock`"),
        ("{% set x %}y{% endset %}", "uses `assignblock`"),
        ("{% set a, b = [1, 2] %}", "uses `assign` in a form"),
        ("{% block x %}{% endblock %}", "uses `block`"),
        ("{% for i in [1] recursive %}{% endfor %}", "uses `for` in a form"),
        ("{{ loop.index }}", "fails: 'loop' is undefined"),
        ("{% for i in [1] %}{{ loop.cycle }}{% endfor %}", "takes the attribute `cycle`"),
        ("{{ dtype is string }}", "uses a test"),
        ("{{ dtype[:2] }}", "takes a slice"),
        ("{{ dtype ~ dtype }}", "joins texts"),
        ("{{ 'a' * size }}", "`*` is for integers"),
        ("{{ dtype % 1 }}", "`%` is for integers"),
        ("{{ true + size }}", "`+` is for integers"),
        ("{{ 2 ** 3 }}", "uses the power `**`"),
        ("{{ 1 / 2 }}", "divides with `/`"),
        ("{{ size // 0 }}", "1: fails: integer division"),
        ("{{ 9223372036854775807 + size }}", "more than 64 bits"),
        ("{{ dtype < 1 }}", "1: fails: '<' not supported"),
        ("\n\n{{ unknown }}", "3: fails: 'unknown' is undefined"),
        ("{% if unknown %}{% endif %}", "'unknown' is undefined"),
        ("{{ unknown + 1 }}", "'unknown' is undefined"),
        ("{{ [1][unknown] }}", "'unknown' is undefined"),
        ("{% set x = unknown %}", "'unknown' is undefined"),
        ("{% for a in unknown %}{% endfor %}", "`for` runs over a list"),
        ("{% for a in dtype %}{% endfor %}", "`for` runs over a list"),
        ("{% for a in [[1]] %}{% endfor %}", "a variable of `for` is for a text, an integer or a boolean"),
        ("{% for a, b in [([1], 2)] %}{% endfor %}", "a variable of `for` is for a text"),
        ("{% for a, (b, c) in [] %}{% endfor %}", "uses `for` in a form"),
        ("{{ size == '" + "x" * 201 + "' }}", "computes with a text of more than 200 characters"),
        ("{% set x = [1] %}", "`set` is for a text, an integer or a boolean"),
        ("{{ 1.5 if size else 1 }}", "`float` cannot be printed"),
        ("{{ 1 }}", "prints a literal"),
        ("a{{1}};", "prints a literal"),
        ("{{ [1, 2] }}", "prints a literal"),
        ("{{ {'a': 1} }}", "prints a literal"),
        ("{{1, 2}, {3, 4}}", "1: cannot be read: unexpected '}'"),
        ("\n{% if %}", "2: cannot be read: Expected an expression"),
        ("{% debug %}", "cannot be read: Encountered unknown tag"),
        ("{{ " + "9" * 5000 + " + 1 }}", "cannot be read: Exceeds the limit"),
        ("{{ " + "(" * 5000 + "size" + ")" * 5000 + " }}", "nests expressions or loops too deeply"),
        ("{{ " + "not " * 9000 + "size }}", "nests expressions or loops too deeply"),
        ("{% for a in [1] %}" * 30 + "{{ size }}" + "{% endfor %}" * 30, "nests expressions or loops too deeply"),
        ("{{ size }}" * 6000, "more than 5000 expressions"),
    ],
)
def test_what_a_template_may_not_say(text: str, told: str) -> None:
    assert told in refuse(text, dtype="float16", size=1)


TEN = "{% for a in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9] %}"
END = "{% endfor %}"


def growing_tables(count: int) -> str:
    """Loops whose two variables hold 8 ** count equal numbers each, by name."""
    rows = [f"{{% for a{i + 1}, b{i + 1} in [([{f'a{i}, ' * 8}], [{f'b{i}, ' * 8}])] %}}" for i in range(count)]
    return "{% for a0, b0 in [([1], [1])] %}" + "".join(rows)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (TEN * 9 + "{{ a }}" + END * 9, "loops do not end in reasonable time"),
        (TEN * 3 + "x" * 50_000 + END * 3, "makes a unit of more than 1 MiB"),
        ("{% set x = 9 %}" + "{% set x = x * x %}" * 500 + "{{ x }}", "more than 64 bits"),
        (f"{{% for a in [{'0, ' * 2000}] %}}{{% for b in [{'a, ' * 2000}] %}}{END}{END}", "in reasonable time"),
        (f"{TEN}{{% for b in [{'0, ' * 90}] if {'b + ' * 30}0 %}}{END}{END}", "in reasonable time"),
        (growing_tables(12) + "{% if a12 == b12 %}{% endif %}" + END * 13, "a variable of `for`"),
    ],
    ids=["loops", "output", "squares", "wide loops", "tests of loops", "tables in tables"],
)
def test_a_template_ends(text: str, told: str) -> None:
    """Which takes hours and gigabytes for one that is not stopped."""
    assert told in refuse(text)


def test_the_steps_of_one_unit_are_not_those_of_the_next() -> None:
    template = UnitTemplate("{% for a in [" + "0, " * 4000 + "0] %}{{ a }}{{ a }}{{ a }}{% endfor %}")
    assert len({template.render({}) for _ in range(5)}) == 1


def test_names_are_compared_with_the_axes() -> None:
    template = UnitTemplate("{% set own = dtype %}{{ own }}\n{{ head_dm }} {{ head_dm }}\n{{ later }}")
    faults = [
        (fault.line, fault.message, fault.hint) for fault in template.list_faults(("causal", "dtype", "head_dim"))
    ]
    assert faults == [
        (2, "uses `head_dm`, which is no axis", "did you mean `head_dim`?"),
        (3, "uses `later`, which is no axis", "the axes are `causal`, `dtype`, `head_dim`"),
        (None, "never uses the axis `causal`: units that differ in it alone would be equal",
         "use it as `{{ causal }}`, or remove the axis"),
        (None, "never uses the axis `head_dim`: units that differ in it alone would be equal",
         "use it as `{{ head_dim }}`, or remove the axis"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"x" * (MAX_TEMPLATE_BYTES + 1), "None: is larger than 64 KiB"),
        (b"int x;\n\xff\xfe", "2: is not UTF-8 text"),
        (bytes(range(256)), "is not UTF-8 text"),
        (b"a\nb\0", "2: has a null character"),
    ],
)
def test_what_is_no_text(content: bytes, told: str) -> None:
    with pytest.raises(BadTemplateError) as caught:
        decode_template(content)
    (fault,) = caught.value.faults
    assert told in f"{fault.line}: {fault.message}"
    assert isinstance(caught.value, BadInputError)


def test_a_mark_at_the_beginning_is_no_text() -> None:
    assert decode_template(b"\xef\xbb\xbfint x;\n") == "int x;\n"
