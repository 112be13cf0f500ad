"""GPU code is read from files that anybody may have made: no bytes make the reader fail, hang or invent devices."""

from __future__ import annotations

import base64
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from kernel_builder.audit.device import DeviceCode
from kernel_builder.audit.device.fatbin import read_fatbins
from kernel_builder.audit.device.offload import read_bundles

SAMPLES = Path(__file__).parents[1] / "fixtures" / "device"
CONTENTS = [base64.b64decode(path.read_text(encoding="ascii")) for path in sorted(SAMPLES.glob("*.b64"))]
MAGICS = [bytes.fromhex("50ed55ba01001000"), b"__CLANG_OFFLOAD_BUNDLE__", b"CCOB\x02\x00\x00\x00"]


def read(data: bytes) -> tuple[DeviceCode, DeviceCode]:
    return read_fatbins(data), read_bundles(data)


@given(st.lists(st.one_of(st.sampled_from(MAGICS), st.binary(max_size=64)), max_size=8).map(b"".join))
def test_no_bytes_make_the_reader_fail(data: bytes) -> None:
    for code in read(data):
        assert all(text.strip() for text in (*code.damage, *code.unread))


@given(st.sampled_from(CONTENTS), st.data())
def test_a_spoiled_file_is_read_or_told(content: bytes, data: st.DataObject) -> None:
    spoiled = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        spoiled[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    for code in (*read(bytes(spoiled)), *read(content[:cut])):
        assert len(code.images) <= 1000
        assert all(image.arch.isprintable() for image in code.images)


@given(st.sampled_from(CONTENTS), st.binary(max_size=40))
def test_where_a_container_lies_changes_nothing(content: bytes, before: bytes) -> None:
    padded = bytes(len(before) + -len(before) % 8) + content
    assert [code.images for code in read(padded)] == [code.images for code in read(content)]
