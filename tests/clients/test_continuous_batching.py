"""Continuous batching: requests of different lengths share one row, and their keys one paged cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kernels
import pytest
import torch
from transformers import ContinuousBatchingConfig, GenerationConfig
from transformers.modeling_flash_attention_utils import _flash_attention_forward, lazy_import_flash_attention

from tests.clients.repositories import FLASH, FLASH_3, SINKS, local_kernels
from tests.clients.tiny_models import build_model, draw_tokens, eager_model

LENGTHS = (12, 1, 20, 5, 9)
NEW_TOKENS = 12


def _prompts() -> list[list[int]]:
    return [draw_tokens(1, length, seed=length)[0].tolist() for length in LENGTHS]


def _settings(**changes: Any) -> GenerationConfig:
    return GenerationConfig(
        max_new_tokens=NEW_TOKENS, do_sample=False, eos_token_id=-1, pad_token_id=0, bos_token_id=1, **changes
    )


def _generate_batch(model: Any, **settings: Any) -> list[list[int]]:
    results = model.generate_batch(
        inputs=_prompts(),
        generation_config=_settings(),
        continuous_batching_config=ContinuousBatchingConfig(**{"num_blocks": 64, "max_batch_tokens": 48, **settings}),
        progress_bar=False,
    )
    answers = sorted(results.values(), key=lambda result: LENGTHS.index(len(result.prompt_ids)))
    assert [answer.error for answer in answers] == [None] * len(LENGTHS)
    return [answer.generated_tokens for answer in answers]


def _expected(family: str) -> list[list[int]]:
    model = eager_model(family)
    return [
        model.generate(torch.tensor([prompt]), generation_config=_settings())[0, len(prompt) :].tolist()
        for prompt in _prompts()
    ]


@pytest.mark.parametrize(
    ("family", "name"), [*((family, FLASH) for family in ("llama", "mistral", "gemma2", "qwen3")), ("gpt_oss", FLASH_3)]
)
def test_tokens_equal_one_request_at_a_time(family: str, name: str) -> None:
    model = build_model(family, name)
    assert _generate_batch(model) == _expected(family)


@pytest.mark.parametrize(("family", "name"), [("mistral", FLASH), ("gpt_oss", FLASH_3)])
def test_a_prompt_cut_over_several_batches(family: str, name: str) -> None:
    """With room for few tokens in a batch, a prompt meets its own beginning again as cached keys."""
    assert _generate_batch(build_model(family, name), page_size=16, max_batch_tokens=8) == _expected(family)


@pytest.mark.parametrize("family", ["llama", "gpt_oss"])
def test_a_name_without_flash_is_switched(family: str) -> None:
    """By itself transformers then asks for `flash_attention_3`, and LOCAL_KERNELS leads that to the kernel."""
    model = build_model(family, SINKS)
    names = []
    model.register_forward_pre_hook(lambda *_: names.append(model.config._attn_implementation))
    assert _generate_batch(model) == _expected(family)
    assert set(names) == {FLASH_3}


def test_a_name_without_flash_is_refused_when_it_may_not_be_switched() -> None:
    with pytest.raises(ValueError, match=f"Implementation {SINKS} is not supported for continuous batching"):
        _generate_batch(build_model("llama", SINKS), auto_switch_to_flash=False)


def test_the_sinks_kernel_itself_reads_the_paged_cache(
    flash_repository: Path, sinks_repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where LOCAL_KERNELS leads the default of GPT-OSS to `attn-sinks`, that kernel is handed the cache."""
    build_model("llama", FLASH)  # another kernel takes the one place in the process, so that the name is looked up anew
    monkeypatch.setenv("LOCAL_KERNELS", f"{FLASH_3}={sinks_repository}")
    model = build_model("gpt_oss", FLASH_3)
    assert _generate_batch(model, page_size=16, max_batch_tokens=8) == _expected("gpt_oss")
    monkeypatch.setenv("LOCAL_KERNELS", local_kernels(flash_repository, sinks_repository))
    build_model("llama", FLASH)


@torch.no_grad()
def test_the_decode_step_that_writes_the_paged_cache() -> None:
    """Transformers takes this path on GPUs only; its own code for it runs anywhere."""
    past, page, heads, heads_kv, dim = (5, 300, 0), 256, 4, 2, 16
    q, k, v = (torch.randn(1, len(past), each, dim) for each in (heads, heads_kv, heads_kv))
    pages = torch.tensor([[4, 0], [2, 5], [1, 0]], dtype=torch.int32)
    k_cache, v_cache = torch.randn(2, 6, page, heads_kv, dim)
    before = [k_cache.clone(), v_cache.clone()]
    ends = torch.tensor([0, *(length + 1 for length in past)]).cumsum(0).to(torch.int32)
    sinks = torch.randn(heads)
    lazy_import_flash_attention(FLASH)
    out = _flash_attention_forward(
        q,
        k,
        v,
        attention_mask=None,
        query_length=len(past),
        is_causal=True,
        s_aux=sinks,
        attn_implementation=FLASH,
        cu_seq_lens_q=torch.arange(len(past) + 1, dtype=torch.int32),
        cu_seq_lens_k=ends,
        max_length_q=1,
        max_length_k=page,
        block_table=pages,
        k_cache=k_cache,
        v_cache=v_cache,
    )
    attend = kernels.get_kernel(FLASH, version=1).flash_attn_func
    for row, length in enumerate(past):
        keys, values = (
            torch.cat([cache[pages[row].long()].flatten(0, 1)[:length], new[0, row : row + 1]])[None]
            for cache, new in zip(before, (k, v), strict=True)
        )
        torch.testing.assert_close(out[0, row], attend(q[:, row : row + 1], keys, values, s_aux=sinks)[0, 0])
        torch.testing.assert_close(k_cache[pages[row].long()].flatten(0, 1)[length], k[0, row])
