"""A report as an SVG: how much faster the kernel is than each reference. Equal reports give equal bytes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree as ET

from kernel_builder.bench.spread import Spread

_WIDTH = 960
_LEFT = 340
_RIGHT = 90
_TOP = 64
_ROW = 18
_MOST_LETTERS = 48  # of a name left of the bars; longer ones are squeezed
_GAP = 8
_COLORS = (
    *("#2a6f97", "#e07a2c", "#4b8b3b", "#9b4f96", "#b8860b"),
    *("#7a7a7a", "#c0392b", "#5dade2", "#1f3a5f", "#8fbc5a"),
)
_INK = "#333333"
_GRID = "#d5d5d5"
_TICKS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 1000.0)


@dataclass(frozen=True, slots=True)
class _Bar:
    workload: str
    label: str
    ratio: Spread


@dataclass(frozen=True, slots=True)
class _Axis:
    """The logarithmic scale, from the lowest to the highest ratio."""

    low: float
    high: float

    def place(self, ratio: float) -> float:
        """Where a ratio stands, in units of the picture."""
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * math.log(ratio / self.low) / math.log(self.high / self.low)


def render_plot(report: Mapping[str, Any]) -> str | None:
    """The speed-ups over the references on a logarithmic scale; None when no workload has a reference."""
    bars = list(_list_bars(report))
    if not bars:
        return None
    labels = list(dict.fromkeys(bar.label for bar in bars))
    colors = {label: _COLORS[position % len(_COLORS)] for position, label in enumerate(labels)}
    groups = len({bar.workload for bar in bars})
    height = _TOP + len(bars) * _ROW + groups * _GAP + 60
    axis = _Axis(min(0.8, *(bar.ratio.low for bar in bars)) / 1.05, max(1.25, *(bar.ratio.high for bar in bars)) * 1.05)
    svg = ET.Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "viewBox": f"0 0 {_WIDTH} {height}",
            "width": str(_WIDTH),
            "height": str(height),
            "font-family": "sans-serif",
            "font-size": "12",
        },
    )
    ET.SubElement(svg, "rect", {"width": "100%", "height": "100%", "fill": "white"})
    machine = report["machine"]
    _write(svg, 16, 24, f"{report['kernel']}: times faster than each reference", size=15)
    _write(svg, 16, 42, f"{machine['accelerator'] or machine['cpu']}, torch {machine['torch']}, {report['date'][:10]}")
    _draw_grid(svg, axis, height)
    y = _TOP + _GAP
    previous = None
    for bar in bars:
        if bar.workload != previous:
            y += _GAP if previous is not None else 0
            _write(svg, _LEFT - 8, y + 13, bar.workload, anchor="end")
            previous = bar.workload
        _draw_bar(svg, bar, axis, y, colors[bar.label])
        y += _ROW
    for position, label in enumerate(labels):
        x = 16 + position * ((_WIDTH - 32) // max(len(labels), 4))
        ET.SubElement(
            svg, "rect", {"x": str(x), "y": str(height - 22), "width": "12", "height": "12", "fill": colors[label]}
        )
        _write(svg, x + 18, height - 12, label)
    ET.indent(svg, " ")
    return ET.tostring(svg, encoding="unicode") + "\n"


def _list_bars(report: Mapping[str, Any]) -> Iterator[_Bar]:
    several = len(report["runs"]) > 1
    for run in report["runs"]:
        suffix = f", {run['threads']} thr" if several else ""
        for workload in run["workloads"]:
            for label, reference in workload["references"].items():
                yield _Bar(workload["name"] + suffix, label, Spread.from_json(reference["ratio"]))


def _draw_grid(svg: ET.Element, axis: _Axis, height: int) -> None:
    for tick in _TICKS:
        if axis.low <= tick <= axis.high:
            x = axis.place(tick)
            _draw_line(svg, (x, _TOP), (x, height - 48), _INK if tick == 1 else _GRID)
            _write(svg, x, height - 34, f"{tick:g}x", anchor="middle")


def _draw_bar(svg: ET.Element, bar: _Bar, axis: _Axis, y: int, color: str) -> None:
    one, end = axis.place(1.0), axis.place(bar.ratio.median)
    low, high = axis.place(bar.ratio.low), axis.place(bar.ratio.high)
    shape = {
        "x": f"{min(one, end):.1f}",
        "y": str(y + 2),
        "width": f"{abs(end - one):.1f}",
        "height": str(_ROW - 4),
        "fill": color,
    }
    ET.SubElement(svg, "rect", shape)
    _draw_line(svg, (low, y + _ROW / 2), (high, y + _ROW / 2), _INK)
    _write(svg, max(one, high) + 6, y + 13, f"{bar.ratio.median:.2f}x")


def _draw_line(svg: ET.Element, start: tuple[float, float], end: tuple[float, float], color: str) -> None:
    places = {"x1": f"{start[0]:.1f}", "y1": f"{start[1]:.1f}", "x2": f"{end[0]:.1f}", "y2": f"{end[1]:.1f}"}
    ET.SubElement(svg, "line", {**places, "stroke": color, "stroke-width": "1"})


def _write(svg: ET.Element, x: float, y: float, text: str, *, anchor: str = "start", size: int = 12) -> None:
    place = {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor, "font-size": str(size), "fill": _INK}
    if anchor == "end" and len(text) > _MOST_LETTERS:
        place |= {"textLength": str(_LEFT - 16), "lengthAdjust": "spacingAndGlyphs"}
    ET.SubElement(svg, "text", place).text = "".join(letter if letter.isprintable() else "?" for letter in text)
