"""Stage 1, `build.toml` -> BuildSpec: `reader.load_spec` is the way in, `model` is what comes out."""
