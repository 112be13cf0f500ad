"""Build, audit and test compute kernels that any PyTorch can load, from one `build.toml`."""

__version__ = "0.1.0"
