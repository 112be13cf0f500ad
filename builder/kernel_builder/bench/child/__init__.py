"""Runs in the Python that is measured, so it imports torch and `kernels`, and nothing of ours but itself."""
