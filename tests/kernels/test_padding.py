from __future__ import annotations

import importlib
from types import ModuleType

import pytest
import torch


@pytest.fixture(scope="session")
def padding(flash: ModuleType) -> ModuleType:
    return importlib.import_module(f"{flash.__name__}.bert_padding")


def test_there_and_back(padding: ModuleType) -> None:
    states, mask = torch.randn(3, 5, 2, 4), torch.tensor([[1, 1, 1, 0, 0], [0, 0, 0, 0, 0], [0, 1, 1, 1, 1]])
    for each in (mask, mask.bool()):
        packed, indices, bounds, longest, used = padding.unpad_input(states, each)
        assert torch.equal(packed, states[mask.bool()])
        assert (bounds.tolist(), longest, used.tolist()) == ([0, 3, 3, 7], 4, [3, 0, 4])
        assert (bounds.dtype, used.dtype) == (torch.int32, torch.int32)
        expected = states * mask[..., None, None]
        assert torch.equal(padding.pad_input(packed, indices, 3, 5), expected)


def test_places_that_are_kept_without_being_valid(padding: ModuleType) -> None:
    states = torch.arange(8.0).view(2, 4, 1)
    valid, unused = torch.tensor([[1, 1, 0, 0], [1, 0, 0, 0]]), torch.tensor([[0, 0, 1, 0], [0, 1, 1, 0]])
    packed, _, bounds, longest, used = padding.unpad_input(states, valid, unused)
    assert packed.flatten().tolist() == [0, 1, 2, 4, 5, 6]
    assert (bounds.tolist(), longest, used.tolist()) == ([0, 3, 6], 3, [2, 1])


def test_gradients_go_back_to_their_places(padding: ModuleType) -> None:
    states = torch.randn(2, 3, 4, requires_grad=True)
    mask = torch.tensor([[1, 0, 1], [0, 1, 0]])
    packed, indices, *_ = padding.unpad_input(states, mask)
    weights = torch.randn(2, 3, 4)
    (gradient,) = torch.autograd.grad((padding.pad_input(packed, indices, 2, 3) * weights).sum(), states)
    assert torch.equal(gradient, weights * mask[..., None])


def test_nothing_to_pack(padding: ModuleType) -> None:
    packed, indices, bounds, longest, _ = padding.unpad_input(torch.randn(0, 5, 2), torch.ones(0, 5))
    assert (packed.shape, bounds.tolist(), longest) == ((0, 2), [0], 0)
    assert padding.pad_input(packed, indices, 0, 5).shape == (0, 5, 2)
