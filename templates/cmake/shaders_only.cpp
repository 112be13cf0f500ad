// A component whose sources are shaders has no C++ of its own; this file stands in for it.
