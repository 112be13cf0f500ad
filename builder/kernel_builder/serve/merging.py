"""Changes between trees, and putting two lines of changes together. Pure."""

from __future__ import annotations

from kernel_builder.serve.objects import Entry, Tree

Changes = dict[str, Entry | None]
"""Path -> what it became; `None` for a file that went."""


def diff_trees(old: Tree, new: Tree) -> Changes:
    """What has to be done to the old tree to get the new one, in order of path."""
    paths = sorted(old.entries.keys() | new.entries.keys())
    return {path: new.entries.get(path) for path in paths if old.entries.get(path) != new.entries.get(path)}


def find_conflicts(start: Tree, ours: Tree, theirs: Tree) -> list[str]:
    """Paths that both sides changed since the start, each in its own way, in order."""
    here, there = diff_trees(start, ours), diff_trees(start, theirs)
    return [path for path in here if path in there and here[path] != there[path]]


def merge_trees(start: Tree, ours: Tree, theirs: Tree) -> Tree:
    """Our tree with their changes since the start. There must be no conflicts."""
    entries = dict(ours.entries)
    for path, entry in diff_trees(start, theirs).items():
        if entry is None:
            entries.pop(path, None)
        else:
            entries[path] = entry
    return Tree(entries.values())


def show_diff(start: Tree, theirs: Tree) -> str:
    """The changes for people: one line for each file, as contents are mostly binaries."""
    lines = []
    for path, entry in diff_trees(start, theirs).items():
        mark = "D" if entry is None else "M" if path in start.entries else "A"
        lines.append(f"{mark} {path}" + ("" if entry is None else f" ({entry.size} bytes)"))
    return "\n".join(lines)
