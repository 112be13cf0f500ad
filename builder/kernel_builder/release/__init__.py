"""Stage 7: artifacts -> a release that others load: planned, held to its contract, then made visible in one step."""
