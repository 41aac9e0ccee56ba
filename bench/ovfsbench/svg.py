# SPDX-License-Identifier: Apache-2.0
"""Curves as an SVG picture: text, so that a repository can hold it and a test compare it."""

import math
from html import escape

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 72, 150, 34, 46
# Told apart by people who see colours differently, too; the markers help.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999")


class Scale:
    """From values to picture coordinates."""

    def __init__(self, values, low, high, log):
        self.log = log
        self.first, self.last = min(values), max(values)
        if log:
            self.first, self.last = max(self.first, 1e-9), max(self.last, 1e-9)
        else:
            self.first = min(self.first, 0)
        if self.first == self.last:
            self.last = self.first * 2 or 1
        self.low, self.high = low, high

    def at(self, value):
        if self.log:
            part = math.log(max(value, self.first) / self.first) / math.log(self.last / self.first)
        else:
            part = (value - self.first) / (self.last - self.first)
        return round(self.low + part * (self.high - self.low), 1)

    def ticks(self):
        if self.log:
            low = math.floor(math.log10(self.first))
            high = math.ceil(math.log10(self.last))
            steps = (1, 2, 5) if high - low < 4 else (1,)
            found = [10 ** e * s for e in range(low, high + 1) for s in steps]
        else:
            raw = (self.last - self.first) / 5
            size = 10 ** math.floor(math.log10(raw))
            step = next(size * s for s in (1, 2, 5, 10) if size * s >= raw)
            found = [step * i for i in range(int(self.last / step) + 1)]
        return [t for t in found if self.first * 0.999 <= t <= self.last * 1.001]


def number(value):
    for unit, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:.3g}{suffix}"
    return f"{value:.3g}"


def text(x, y, content, anchor="middle", size=12, more=""):
    return (f'<text x="{x}" y="{y}" font-size="{size}" text-anchor="{anchor}"{more}>'
            f"{escape(content)}</text>")


def axes(x, y, x_ticks, labels):
    title, x_label, y_label = labels
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = [text((LEFT + right) / 2, 20, title, size=14)]
    for value in y.ticks():
        at = y.at(value)
        parts.append(f'<path d="M{LEFT} {at}H{right}" stroke="#ddd"/>')
        parts.append(text(LEFT - 6, at + 4, number(value), "end"))
    for value, name in x_ticks:
        at = x.at(value)
        parts.append(f'<path d="M{at} {bottom}v5" stroke="#444"/>')
        parts.append(text(at, bottom + 19, name))
    parts.append(f'<path d="M{LEFT} {TOP}V{bottom}H{right}" fill="none" stroke="#444"/>')
    parts.append(text((LEFT + right) / 2, HEIGHT - 8, x_label))
    middle = (TOP + bottom) / 2
    parts.append(text(16, middle, y_label, more=f' transform="rotate(-90 16 {middle})"'))
    return parts


def lines(title, x_label, y_label, series, x_log=False, y_log=False, x_ticks=None):
    """The picture. `series`: {name: [(x, y), ...]}; `x_ticks`: [(x, name)], or round ones."""
    points = [point for curve in series.values() for point in curve]
    x = Scale([p[0] for p in points], LEFT, WIDTH - RIGHT, x_log)
    y = Scale([p[1] for p in points] + ([] if y_log else [0]), HEIGHT - BOTTOM, TOP, y_log)
    x_ticks = x_ticks or [(value, number(value)) for value in x.ticks()]
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
             f'width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif">',
             '<rect width="100%" height="100%" fill="#fff"/>']
    parts += axes(x, y, x_ticks, (title, x_label, y_label))
    for i, (name, curve) in enumerate(series.items()):
        colour = COLOURS[i % len(COLOURS)]
        at = [(x.at(a), y.at(b)) for a, b in curve]
        path = "L".join(f"{a} {b}" for a, b in at)
        parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        if len(at) <= 20:
            parts += [f'<circle cx="{a}" cy="{b}" r="3" fill="{colour}"/>' for a, b in at]
        row = TOP + 14 + 20 * i
        parts.append(f'<path d="M{WIDTH - RIGHT + 10} {row}h18" stroke="{colour}" '
                     'stroke-width="3"/>')
        parts.append(text(WIDTH - RIGHT + 33, row + 4, name, "start"))
    return "\n".join(parts + ["</svg>", ""])
