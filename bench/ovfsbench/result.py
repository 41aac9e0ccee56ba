# SPDX-License-Identifier: Apache-2.0
"""Turns samples into tables.

Only samples of the same round, taken one right after another, are divided by each other; what is
reported is the median of those ratios, with the lowest and the highest.
"""

import statistics


def rate(sample):
    """Operations a second; bytes, where it is bytes that were moved."""
    amount = sample.get("ops") or sample.get("bytes")
    return amount / sample["seconds"] if amount and sample["seconds"] else None


def cpu_each(sample):
    """Microseconds of the processors for each operation, or for each MiB."""
    amount = sample.get("ops") or sample.get("bytes", 0) / (1 << 20)
    cpu_s = sample.get("cpu_s")
    return cpu_s * 1e6 / amount if amount and cpu_s else None


def latency_us(sample):
    return sample.get("latency_us", {}).get("p50")


# What is shown: (heading, unit, value).
VALUES = [
    ("speed", "rate", rate),
    ("latency", "p50 us", latency_us),
    ("CPU", "CPU us", cpu_each),
]


def by_row(samples):
    """{row: {kind: {round: sample}}}"""
    rows = {}
    for sample in samples:
        kinds = rows.setdefault(sample["row"], {})
        kinds.setdefault(sample["kind"], {})[sample["round"]] = sample
    return rows


def ratios(ours, theirs, value):
    """value(ours) / value(theirs) of each round that has both."""
    both = sorted(set(ours) & set(theirs))
    pairs = [(value(ours[r]), value(theirs[r])) for r in both]
    return [a / b for a, b in pairs if a is not None and b]


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


def shown_rate(value, is_bytes):
    if not is_bytes:
        return f"{compact(value)}/s"
    mib = value / (1 << 20)
    return f"{mib:.0f} MiB/s" if mib >= 100 else f"{mib:.2g} MiB/s"


def median_of(samples, value):
    found = [v for v in map(value, samples) if v is not None]
    return statistics.median(found) if found else None


def is_in_bytes(kinds):
    return any("ops" not in s and "bytes" in s for rounds in kinds.values()
               for s in rounds.values())


def own_cells(ours, values, is_bytes):
    cells = []
    for what, _, value in values:
        own = median_of(ours.values(), value)
        if own is None:
            cells.append("-")
        else:
            cells.append(shown_rate(own, is_bytes) if what == "speed" else compact(own))
    return cells


def table(samples, kinds):
    """A group's rows as lists of cells, the first list being the heading: the first kind's own
    medians, and its ratios to the others'. `kinds`: names, in order."""
    base, *others = kinds
    present = {sample["kind"] for sample in samples}
    others = [kind for kind in others if kind in present]
    values = [v for v in VALUES if any(v[2](s) is not None for s in samples)]
    head = ["row"] + [f"{base} {unit}" for _, unit, _ in values]
    columns = [(kind, what, value) for kind in others for what, _, value in values
               if any(value(s) is not None for s in samples if s["kind"] == kind)]
    head += [f"{what} {base}/{kind}" for kind, what, _ in columns]
    lines = [head]
    for row, found in by_row(samples).items():
        ours = found.get(base, {})
        line = [row] + own_cells(ours, values, is_in_bytes(found))
        line += [spread(ratios(ours, found.get(kind, {}), value)) for kind, _, value in columns]
        lines.append(line)
    return lines


def curve_table(samples, kinds, x_label):
    """As table(), of rows that are points of a curve: what each kind reached."""
    present = [kind for kind in kinds if any(s["kind"] == kind for s in samples)]
    base = present[0]
    lines = [[x_label] + present + [f"{base}/{kind}" for kind in present[1:]]]
    for row, found in by_row(samples).items():
        in_bytes = is_in_bytes(found)
        line = [row]
        for kind in present:
            values = [rate(s) for s in found.get(kind, {}).values()]
            line.append("-" if not values else
                        f"{shown_rate(statistics.median(values), in_bytes)} "
                        f"[{min(values) / statistics.median(values):.2f}.."
                        f"{max(values) / statistics.median(values):.2f}]")
        line += [spread(ratios(found.get(base, {}), found.get(kind, {}), rate))
                 for kind in present[1:]]
        lines.append(line)
    return lines


def duel_table(samples, duels):
    """Rows that each have somebody else to be compared with, and a goal. `duels`: {row: {"base":
    kind, "goal": what the ratio of speeds should be}}."""
    lines = [["row", "the other", "its rate", "ovfs", "speed", "goal", "CPU us", "CPU, ratio",
              "memory"]]
    for row, found in by_row(samples).items():
        base = duels[row]["base"]
        ours = found.get(base, {})
        for kind, theirs in found.items():
            if kind == base:
                continue
            in_bytes = is_in_bytes(found)
            rates = [median_of(side.values(), rate) for side in (theirs, ours)]
            own = median_of(ours.values(), cpu_each)
            memory = [s["memory_kib"] / 1024 for s in ours.values() if s.get("memory_kib")]
            lines.append([row, kind] + [shown_rate(r, in_bytes) if r else "-" for r in rates] + [
                spread(ratios(ours, theirs, rate)), str(duels[row].get("goal") or "-"),
                compact(own) if own else "-", spread(ratios(ours, theirs, cpu_each)),
                f"{max(memory):.0f} MiB" if memory else "-"])
    # Columns that nothing is in.
    kept = [i for i in range(len(lines[0])) if i < 5 or any(l[i] != "-" for l in lines[1:])]
    return [[line[i] for i in kept] for line in lines]


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
