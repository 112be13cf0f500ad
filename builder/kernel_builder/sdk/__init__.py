"""SDK slices: what a compile needs of torch and of CUDA's libraries, straight out of their wheels.

`torch_slice.obtain_torch_sdk` is the way in for everybody else. It is not imported here: with it comes an HTTP client,
and most runs fetch nothing.
"""
