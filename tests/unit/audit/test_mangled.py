from __future__ import annotations

import pytest

from kernel_builder.audit.mangled import qualified_name, readable_name


@pytest.mark.parametrize(
    ("symbol", "names"),
    [
        ("_ZN3c106detail14torchCheckFailEPKc", ("c10", "detail", "torchCheckFail")),
        ("_ZNK3c1010TensorImpl4sizeEv", ("c10", "TensorImpl", "size")),
        ("_ZNKR2at6Tensor3fooEv", ("at", "Tensor", "foo")),
        ("_ZTIN3c105ErrorE", ("c10", "Error")),
        ("_ZTVN5torch8autograd4NodeE", ("torch", "autograd", "Node")),
        ("_ZGVN2at1xE", ("at", "x")),
        ("_ZThn16_N5torch1fEv", ("torch", "f")),
        ("_Z3fooi", ("foo",)),
        ("_ZN2atplERKNS_6TensorE", ("at",)),
        ("_ZNSt6vectorIN2at6TensorEE4sizeEv", ("std", "vector")),
        ("_ZSt8to_charsPcS_d", ("std", "to_chars")),
        ("_ZNSs6appendEPKc", ()),
        ("_ZN99999at", ()),
        ("memcpy", ()),
        ("_Z", ()),
        ("", ()),
    ],
)
def test_leading_names(symbol: str, names: tuple[str, ...]) -> None:
    assert qualified_name(symbol) == names


def test_a_name_is_shown_as_cxx_spells_it() -> None:
    assert readable_name("_ZSt8to_charsPcS_d") == "std::to_chars"
    assert readable_name("pthread_create") == "pthread_create"
