# SPDX-License-Identifier: Apache-2.0
"""Collects samples, and turns them into ratios.

A sample is (operations, seconds, CPU seconds of the daemon, median latency in us or
None). Only samples of
the same round, taken one right after another, are divided by each other; what
is reported is the median of those ratios, with the lowest and the highest.
"""

import json
import statistics


class Results:
    def __init__(self, raw_path, kinds):
        self.kinds = kinds
        self.raw = open(raw_path, "w", encoding="utf-8")
        self.samples = {}  # (group, row) -> {kind: {round: (ops, seconds, cpu_s, p50)}}
        self.notes = []

    def add(self, group, row, kind, round_no, ops, seconds, cpu_s, **more):
        sample = dict(group=group, row=row, kind=kind, round=round_no, ops=ops,
                      seconds=seconds, cpu_s=cpu_s, **more)
        self.raw.write(json.dumps(sample) + "\n")
        self.raw.flush()
        # The middle one of the operations' latencies, where the tool knows it.
        by_kind = self.samples.setdefault((group, row), {})
        p50 = more.get("latency_us", {}).get("p50")
        by_kind.setdefault(kind, {})[round_no] = (ops, seconds, cpu_s, p50)

    def note(self, text):
        print(f"bench: {text}", flush=True)
        self.notes.append(text)

    def close(self):
        self.raw.close()


def ratios(ours, theirs, value):
    """value(ours) / value(theirs) of each round that has both."""
    both = sorted(set(ours) & set(theirs))
    pairs = [(value(ours[r]), value(theirs[r])) for r in both]
    return [a / b for a, b in pairs if a is not None and b]


def rate(sample):
    return sample[0] / sample[1]


def cpu_us(sample):
    return sample[2] * 1e6 / sample[0]


def latency_us(sample):
    return sample[3]


# What is shown: (heading, unit, value).
VALUES = [
    ("speed", "op/s", rate),
    ("latency", "p50 us", latency_us),
    ("CPU", "us/op", cpu_us),
]


def spread(values):
    if not values:
        return "-"
    return f"{statistics.median(values):.2f} [{min(values):.2f}..{max(values):.2f}]"


def compact(value):
    if value >= 100000:
        return f"{value / 1000:.0f}k"
    if value >= 1000:
        return f"{value / 1000:.1f}k"
    return f"{value:.1f}"


def table(results, group):
    """One group's rows as lists of cells, the first list being the heading: the first
    daemon's own medians, and its ratios to the others'."""
    base, *others = results.kinds
    rows = {row: kinds for (of, row), kinds in results.samples.items() if of == group}
    samples = [s for kinds in rows.values() for k in kinds.values() for s in k.values()]
    values = [v for v in VALUES if v[2] is not latency_us or any(s[3] for s in samples)]
    head = ["row"] + [f"{base.name} {unit}" for _, unit, _ in values]
    head += [f"{what} {base.name}/{k.name}" for k in others for what, _, _ in values]
    lines = [head]
    for row, by_kind in rows.items():
        ours = by_kind.get(base.name, {})
        line = [row]
        for _, _, value in values:
            own = [value(s) for s in ours.values() if value(s) is not None]
            line.append(compact(statistics.median(own)) if own else "-")
        for kind in others:
            theirs = by_kind.get(kind.name, {})
            line += [spread(ratios(ours, theirs, value)) for _, _, value in values]
        lines.append(line)
    return lines


def is_text(lines, column):
    """Whether no cell of the column below its heading begins with a digit."""
    return not any(line[column][:1].isdigit() for line in lines[1:])


def as_text(lines):
    columns = range(len(lines[0]))
    widths = [max(len(line[i]) for line in lines) for i in columns]
    left = [i == 0 or is_text(lines, i) for i in columns]
    padded = (
        [c.ljust(w) if is_left else c.rjust(w) for c, w, is_left in zip(line, widths, left)]
        for line in lines
    )
    return "\n".join("  ".join(cells).rstrip() for cells in padded)


def as_markdown(lines):
    rule = ["---" if i == 0 or is_text(lines, i) else "---:" for i in range(len(lines[0]))]
    return "\n".join("| " + " | ".join(line) + " |" for line in [lines[0], rule] + lines[1:])
