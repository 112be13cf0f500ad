"""Run a project's benchmarks against an artifact, and say what was measured: figures, tables, plots."""
