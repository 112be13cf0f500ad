import pytest
import torch
from scaled_relu import scaled_relu


@pytest.mark.kernels_ci
@pytest.mark.parametrize("shape", [(), (0,), (3,), (4, 5)])
@pytest.mark.parametrize("scale", [1.0, -0.5])
def test_equals_torch(shape, scale):
    x = torch.randn(shape)
    torch.testing.assert_close(scaled_relu(x, scale), torch.relu(x) * scale)


def test_strided_input():
    x = torch.randn(6, 4).t()[::2]
    torch.testing.assert_close(scaled_relu(x), torch.relu(x))


def test_other_types_are_refused():
    with pytest.raises(RuntimeError, match="must be float32"):
        scaled_relu(torch.ones(2, dtype=torch.float64))


def test_compiles_whole():
    x = torch.randn(3)
    compiled = torch.compile(scaled_relu, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), torch.relu(x))
