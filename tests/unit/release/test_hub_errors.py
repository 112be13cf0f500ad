from __future__ import annotations

import pytest

from kernel_builder.release.hub_errors import explain, is_transient, redact


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("HF_TOKEN", "secret-of-an-unusual-form")
    return "secret-of-an-unusual-form"


@pytest.mark.parametrize(
    "text",
    [
        "401 for secret-of-an-unusual-form",
        "Authorization: Bearer abcdef.ghi",
        "http://user:secret-of-an-unusual-form@host/path",
        "https://storage/x?X-Amz-Signature=secret-of-an-unusual-form&a=1",
        "token hf_AbCdEfGhIjKlMnOp",
    ],
)
def test_no_secret_is_told(text: str) -> None:
    told = redact(text)
    for secret in ("secret-of-an-unusual-form", "abcdef.ghi", "AbCdEfGhIjKlMnOp"):
        assert secret not in told
    assert "***" in told


def test_what_is_harmless_stays() -> None:
    text = "PUT https://hub.example/kernels/acme/relu?part=1 answered 500"
    assert redact(text) == text


def test_the_network_may_come_back_and_a_mistake_does_not_go_away() -> None:
    assert is_transient(ConnectionResetError())
    assert is_transient(TimeoutError())
    assert not is_transient(ValueError("no"))
    assert not is_transient(FileNotFoundError())
    outer = RuntimeError("while uploading")
    outer.__cause__ = ConnectionResetError()
    assert is_transient(outer)


def test_an_explanation_is_one_line(token: str) -> None:
    assert explain(ValueError(f"first {token}\nsecond")) == "first ***"
    assert explain(ValueError()) == "ValueError"
