# SPDX-License-Identifier: Apache-2.0
"""Collects samples, and turns them into ratios.

A sample is (operations, seconds, CPU seconds of the daemon). Only samples of
the same round, taken one right after another, are divided by each other; what
is reported is the median of those ratios, with the lowest and the highest.
"""

import json
import statistics


class Results:
    def __init__(self, raw_path, kinds):
        self.kinds = kinds
        self.raw = open(raw_path, "w", encoding="utf-8")
        self.samples = {}  # (group, row) -> {kind: {round: (ops, seconds, cpu_s)}}
        self.notes = []

    def add(self, group, row, kind, round_no, ops, seconds, cpu_s, **more):
        sample = dict(group=group, row=row, kind=kind, round=round_no, ops=ops,
                      seconds=seconds, cpu_s=cpu_s, **more)
        self.raw.write(json.dumps(sample) + "\n")
        self.raw.flush()
        by_kind = self.samples.setdefault((group, row), {})
        by_kind.setdefault(kind, {})[round_no] = (ops, seconds, cpu_s)

    def note(self, text):
        print(f"bench: {text}", flush=True)
        self.notes.append(text)

    def close(self):
        self.raw.close()


def ratios(ours, theirs, value):
    """value(ours) / value(theirs) of each round that has both."""
    both = sorted(set(ours) & set(theirs))
    pairs = [(value(ours[r]), value(theirs[r])) for r in both]
    return [a / b for a, b in pairs if b > 0]


def rate(sample):
    return sample[0] / sample[1]


def cpu_us(sample):
    return sample[2] * 1e6 / sample[0]


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
    """One group's rows as lists of cells, the first list being the heading."""
    base, *others = results.kinds
    head = ["row"] + [f"{k.name} op/s" for k in results.kinds]
    for kind in others:
        head += [f"speed {base.name}/{kind.name}"]
    head += [f"{k.name} CPU us/op" for k in results.kinds]
    for kind in others:
        head += [f"CPU {base.name}/{kind.name}"]
    lines = [head]
    for (in_group, row), by_kind in results.samples.items():
        if in_group != group:
            continue
        samples = {k.name: by_kind.get(k.name, {}) for k in results.kinds}

        def median_of(name, value, samples=samples):
            values = [value(s) for s in samples[name].values()]
            return compact(statistics.median(values)) if values else "-"

        line = [row] + [median_of(k.name, rate) for k in results.kinds]
        line += [spread(ratios(samples[base.name], samples[k.name], rate)) for k in others]
        line += [median_of(k.name, cpu_us) for k in results.kinds]
        line += [spread(ratios(samples[base.name], samples[k.name], cpu_us)) for k in others]
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
