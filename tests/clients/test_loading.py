"""How transformers comes to a kernel: by which names and calls, and what it says when it cannot.

The messages asserted here are the client's own. `docs/clients.md` tells the way around each of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, KernelConfig
from transformers.models.gpt_oss.modeling_gpt_oss import GptOssPreTrainedModel

from tests.clients.repositories import FLASH, FLASH_2, FLASH_3, NAMELESS, SINKS, local_kernels
from tests.clients.tiny_models import build_model, draw_tokens, eager_model, relative_error, tiny_config

TOLERANCE = 1e-5


def _error(model: torch.nn.Module, family: str = "llama") -> float:
    tokens = draw_tokens(2, 24)
    with torch.no_grad():
        return relative_error(model(tokens).logits, eager_model(family)(tokens).logits)


@pytest.fixture
def saved_llama(tmp_path: Path) -> Path:
    eager_model("llama").save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", [FLASH, SINKS, "flash_attention_2", "flash_attention_3"])
def test_from_pretrained(saved_llama: Path, name: str) -> None:
    model = AutoModelForCausalLM.from_pretrained(saved_llama, attn_implementation=name)
    assert _error(model) < TOLERANCE


def test_from_pretrained_with_every_kernel_allowed(saved_llama: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(saved_llama, attn_implementation=FLASH, allow_all_kernels=True)
    assert _error(model) < TOLERANCE


def test_the_saved_model_does_not_name_the_kernel(tmp_path: Path) -> None:
    build_model("llama", FLASH).save_pretrained(tmp_path)
    assert FLASH not in (tmp_path / "config.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("family", ["llama", "gpt_oss"])
def test_set_attn_implementation_to_and_fro(family: str) -> None:
    model = build_model(family, "eager")
    for name in (SINKS, FLASH_3, NAMELESS, "eager", SINKS):
        model.set_attn_implementation(name)
        assert model.config._attn_implementation == name
        assert _error(model, family) < TOLERANCE


def test_models_with_different_kernels_take_turns() -> None:
    """There is one place for FlashAttention functions in the process; each model fetches its own ones back."""
    models = [build_model("mistral", name) for name in (FLASH, SINKS, FLASH_2)]
    models.append(build_model("gpt_oss", FLASH_3))
    for _ in range(2):
        for model in models:
            assert _error(model, model.config.model_type) < TOLERANCE


@pytest.mark.parametrize("suffix", ["@v1", "@main", ":flash_attention", "@v1:flash_attention"])
@pytest.mark.parametrize("name", [FLASH, SINKS])
def test_revisions_and_function_names_change_nothing_locally(name: str, suffix: str) -> None:
    """A revision is a matter of the Hub, and a function's name is not looked at when the usual ones are there."""
    assert _error(build_model("llama", name + suffix)) < TOLERANCE


def test_gpt_oss_is_sent_from_a_flash_name_to_its_default() -> None:
    model = build_model("gpt_oss", FLASH)
    assert model.config._attn_implementation == FLASH_3
    assert _error(model, "gpt_oss") < TOLERANCE


def test_gpt_oss_default_led_to_the_sinks_kernel(
    flash_repository: Path, sinks_repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_model("llama", FLASH)  # another kernel takes the one place in the process, so that the name is looked up anew
    monkeypatch.setenv("LOCAL_KERNELS", f"{FLASH_3}={sinks_repository}")
    assert _error(build_model("gpt_oss", "flash_attention_3"), "gpt_oss") < TOLERANCE
    monkeypatch.setenv("LOCAL_KERNELS", local_kernels(flash_repository, sinks_repository))
    build_model("llama", FLASH)


def test_gpt_oss_takes_a_flash_name_that_its_class_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = [*GptOssPreTrainedModel._compatible_flash_implementations, FLASH]
    monkeypatch.setattr(GptOssPreTrainedModel, "_compatible_flash_implementations", listed)
    model = build_model("gpt_oss", FLASH)
    assert model.config._attn_implementation == FLASH
    assert _error(model, "gpt_oss") < TOLERANCE


@pytest.fixture
def only_flash(flash_repository: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Name one kernel alone, and afterwards free the place that a failed request keeps in the process."""
    monkeypatch.setenv("LOCAL_KERNELS", f"{FLASH}={flash_repository}")
    yield
    build_model("llama", FLASH)


@pytest.mark.usefixtures("only_flash")
def test_gpt_oss_on_a_flash_name_fails_without_its_default() -> None:
    with pytest.raises(ValueError, match=f"'{FLASH_3}' is not available in the local cache"):
        build_model("gpt_oss", FLASH)


@pytest.mark.usefixtures("only_flash")
def test_flash_attention_2_fails_without_its_default() -> None:
    with pytest.raises(ImportError, match="the package for FlashAttention2 doesn't seem to be installed"):
        build_model("llama", "flash_attention_2")


@pytest.mark.usefixtures("only_flash")
def test_a_request_that_failed_once_fails_later_the_second_time() -> None:
    """The failed name stays in the one place: building works, and the forward pass knows nothing of it."""
    name = "acme/missing-flash-attn"
    with pytest.raises(ValueError, match=f"'{name}' is not available in the local cache"):
        build_model("llama", name)
    model = build_model("llama", name)
    with pytest.raises(KeyError, match=f"`{name}` is not a valid attention implementation"):
        model(draw_tokens(1, 4))


def test_a_path_is_no_name(flash_repository: Path) -> None:
    with pytest.raises(ValueError, match=r"is not supported\. The only possible arguments are"):
        build_model("llama", str(flash_repository))


def test_from_config_cannot_allow_kernels() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'allow_all_kernels'"):
        AutoModelForCausalLM.from_config(tiny_config("llama"), attn_implementation=FLASH, allow_all_kernels=True)


def test_the_old_prefix_of_continuous_batching() -> None:
    with pytest.warns(FutureWarning, match="The `paged|` prefix is no longer needed"):
        model = build_model("llama", f"paged|{FLASH}")
    assert model.config._attn_implementation == FLASH


def test_a_kernel_config_is_refused_on_cpu() -> None:
    config = KernelConfig(kernel_mapping={"RMSNorm": "acme/norms:RMSNorm"})
    with pytest.raises(ValueError, match=r"Only devices in .* are supported, got: cpu"):
        build_model("llama", FLASH).set_use_kernels(True, config)  # noqa: FBT003 - its own name for a bool


def test_attention_is_no_layer_of_a_kernel_config() -> None:
    config = KernelConfig(kernel_mapping={"LlamaAttention": f"{FLASH}:LlamaAttention"})
    with pytest.raises(ValueError, match="Layer LlamaAttention is not registered in the model"):
        build_model("llama", "eager").set_use_kernels(True, config)  # noqa: FBT003 - its own name for a bool


@pytest.mark.parametrize("name", [FLASH, SINKS])
def test_use_kernels_and_the_attention_kernel_get_along(name: str) -> None:
    model = build_model("llama", name)
    model.set_use_kernels(True)
    assert _error(model) < TOLERANCE
