# SPDX-License-Identifier: Apache-2.0
"""Makes the generated parts of docs/performance.md, and its pictures, from the raw data in
docs/performance/. What stands between these two lines is replaced, all else is by hand:

    <!-- generated: SUITE -->
    <!-- end -->

SUITE is the name of a raw file, or `summary`. The same data makes the same bytes.
"""

import os
import re
import statistics

from . import svg, syscalls
from .raw import REPO, Data
from .result import (as_markdown, by_row, cpu_each, curve_table, duel_table, rate, ratios, spread,
                     table)

PAGE = os.path.join(REPO, "docs", "performance.md")
FOLDER = os.path.join(REPO, "docs", "performance")
SECTION = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.S)
# The percentiles that the load generator tells, for the picture of a distribution.
PERCENTILES = (("p50", 50), ("p90", 90), ("p99", 99), ("p99.9", 99.9))
# Rows whose distributions are drawn, where a suite has them.
DRAWN = ("lookup d1", "rand read 4k d1", "rand read 4k d32", "rand write 4k d32")


def suites():
    """{name: Data} of what there is."""
    found = {}
    for name in sorted(os.listdir(FOLDER)) if os.path.isdir(FOLDER) else []:
        if name.endswith(".jsonl.xz"):
            found[name.removesuffix(".jsonl.xz")] = Data(os.path.join(FOLDER, name))
    return found


def capital(sentence):
    return sentence[0].upper() + sentence[1:]


def about(data):
    """What was run, on what, and how busy that was."""
    head, end = data.header, data.end
    load = f"{head['load']:.1f} before"
    if end:
        load += f", {end['load']:.1f} after {end['seconds'] / 60:.0f} minutes"
    lines = [
        f"`{head['command']}`, {head['date']}, commit {head['commit']}. Linux {head['kernel']}, "
        f"{head['processors']} processors ({head['processor']}), {head['memory_gib']} GiB; load "
        f"average {load}" + (f"; nice {head['nice']}" if head["nice"] else "") + ".", "",
        f"{head['rounds']} rounds of each row, interleaved; of ratios the median of the rounds, "
        "[lowest..highest]"
        + ("; behind a rate its range, in parts of the median." if "curves" in head else ".")]
    if not end:
        lines.append("**This run was broken off.**")
    lines += [""] + [f"- {kind['name']}: {kind['label']}, {kind['version']}"
                     for kind in head["kinds"]]
    return "\n".join(lines + [f"- Note: {' '.join(note.split())}" for note in data.notes] + [""])


def slug(words):
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")


def picture(suite, name, drawing, pictures):
    path = f"{suite}-{slug(name)}.svg"
    pictures[path] = drawing
    return f"![{name}](performance/{path})\n"


def distribution(samples, title):
    """Latency against percentile, the medians of the rounds; the axis is that of 1 - p."""
    series = {}
    for kind, rounds in by_row(samples).popitem()[1].items():
        curve = []
        for name, percent in PERCENTILES:
            found = [s["latency_us"][name] for s in rounds.values()
                     if name in s.get("latency_us", {})]
            if found:
                curve.append((100 / (100 - percent), statistics.median(found)))
        if curve:
            series[kind] = curve
    ticks = [(100 / (100 - percent), name) for name, percent in PERCENTILES]
    if not series:
        return None
    return svg.lines(title, "percentile", "latency, us", series, x_log=True, y_log=True,
                     x_ticks=ticks)


def curve_picture(samples, kinds, curve):
    series = {}
    in_bytes = any("ops" not in s for s in samples)
    for kind in kinds:
        points = {}
        for sample in samples:
            if sample["kind"] == kind and rate(sample):
                points.setdefault(sample["x"], []).append(rate(sample))
        if points:
            scale = 1 << 20 if in_bytes else 1
            series[kind] = [(x, statistics.median(points[x]) / scale) for x in sorted(points)]
    ticks = {s["x"]: s["row"] for s in samples}
    return svg.lines(curve["title"], curve["x"], "MiB/s" if in_bytes else "operations a second",
                     series, x_log=curve.get("x_log", False), x_ticks=sorted(ticks.items()))


def memory_picture(samples, kinds, title):
    """The daemon's memory over the time of the first round that has it."""
    series = {}
    for kind in kinds:
        for sample in samples:
            if sample["kind"] == kind and sample.get("memory_mib"):
                series.setdefault(kind, [tuple(point) for point in sample["memory_mib"]])
    return svg.lines(title, "seconds", "MiB", series)


def figure(value):
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def plain_table(samples, head):
    """Rows that are no comparison of kinds: the median of each column, with its range."""
    lines = [head["columns"]]
    for row in dict.fromkeys(s["row"] for s in samples):
        of_row = [s for s in samples if s["row"] == row]
        line = [row]
        for column in head["columns"][1:]:
            values = [s["values"][column] for s in of_row if s["values"].get(column) is not None]
            if values and all(isinstance(value, str) for value in values):
                line.append(values[-1])
            elif values:
                line.append(figure(statistics.median(values)) + (
                    "" if len(set(values)) == 1
                    else f" [{figure(min(values))}..{figure(max(values))}]"))
            else:
                line.append("-")
        lines.append(line)
    return lines


def group_parts(suite, data, group, pictures):
    samples = data.of(group)
    kinds = [kind["name"] for kind in data.header["kinds"]]
    parts = [f"#### {capital(group)}", ""]
    curve = data.header.get("curves", {}).get(group)
    plain = data.header.get("plain", {}).get(group)
    duels = data.header.get("duels", {}).get(group)
    if "calls" in samples[0]:
        return parts + [as_markdown(syscalls.table(samples)), ""]
    if duels:
        return parts + [as_markdown(duel_table(samples, duels)), ""]
    if plain:
        parts += [as_markdown(plain_table(samples, plain)), ""]
        if any(s.get("memory_mib") for s in samples):
            drawing = memory_picture(samples, kinds, capital(group))
            parts.append(picture(suite, group, drawing, pictures))
        return parts
    if curve:
        parts += [as_markdown(curve_table(samples, kinds, curve["x"])), ""]
        return parts + [picture(suite, group, curve_picture(samples, kinds, curve), pictures)]
    parts += [as_markdown(table(samples, kinds)), ""]
    for row in DRAWN:
        drawing = distribution([s for s in samples if s["row"] == row] or [], f"{row}, {group}") \
            if any(s["row"] == row for s in samples) else None
        if drawing:
            parts.append(picture(suite, f"{group} {row}", drawing, pictures))
    return parts


def section(suite, data, pictures):
    parts = [about(data)]
    for group in data.groups():
        parts += group_parts(suite, data, group, pictures)
    return "\n".join(parts)


def verdict(values):
    """Of ratios that should be above 1."""
    if min(values) > 1:
        return "ahead"
    return "behind" if max(values) < 1 else "level"


# What a row is judged by: (name, value, whether more is better).
JUDGED = (("speed", rate, True), ("CPU", cpu_each, False))


def compared(found):
    """(what, group, row, peer's label, ratios ovfs/peer, their verdict) of all rows with a peer."""
    for data in found.values():
        base, *others = data.header["kinds"]
        for group in data.groups():
            samples = data.of(group)
            if "calls" in samples[0] or "values" in samples[0]:
                continue
            duels = data.header.get("duels", {}).get(group, {})
            for row, kinds in by_row(samples).items():
                ours = kinds.get(duels.get(row, {}).get("base", base["name"]), {})
                for kind in others:
                    theirs = kinds.get(kind["name"], {})
                    for what, value, more in JUDGED if not kind.get("limit") else ():
                        values = ratios(ours, theirs, value)
                        if values and ours is not theirs:
                            good = values if more else [1 / v for v in values]
                            yield what, group, row, kind["label"], values, verdict(good)


def summary(found):
    """How many rows are won, and every one that is not: nothing is chosen by hand."""
    counts, lost = {}, {"speed": [], "CPU": []}
    for what, group, row, label, values, result in compared(found):
        count = counts.setdefault((what, label), {})
        count[result] = count.get(result, 0) + 1
        median = statistics.median(values)
        if result != "ahead" and (median < 1 if what == "speed" else median > 1):
            lost[what].append([f"{group}: {row}", label, spread(values)])
    lines = [["", "compared with", "ahead in every round", "level: the range spans 1",
              "behind in every round"]]
    for (what, label), count in sorted(counts.items(), reverse=True):
        lines.append([what, label] + [str(count.get(c, 0)) for c in ("ahead", "level", "behind")])
    minutes = {name: data.seconds() / 60 for name, data in found.items()}
    took = ", ".join(f"{name} {each:.1f}" for name, each in minutes.items())
    text = [f"Measured in {sum(minutes.values()):.0f} minutes: {took}.", "",
            "Rows of all tables with a peer, by the ratios of speed and of processor time for each "
            "operation:", "", as_markdown(lines), ""]
    for what, rows in lost.items():
        worse = "below" if what == "speed" else "above"
        text += [f"Rows whose median ratio of {what} is {worse} 1: {len(rows) or 'none'}.", ""]
        if rows:
            text += [as_markdown([["row", "peer", f"{what}, ovfs/peer"]] + rows), ""]
    return "\n".join(text)


def render():
    """(text of the page, {file name: picture}, complaints)"""
    found = suites()
    pictures, complaints = {}, []
    with open(PAGE, encoding="utf-8") as page:
        text = page.read()
    shown = [match[2] for match in SECTION.finditer(text)]
    for name in found:
        if name not in shown:
            complaints.append(f"docs/performance/{name}.jsonl.xz is not shown: the page has no "
                              f"line <!-- generated: {name} -->")

    def replace(match):
        name = match[2]
        if name == "summary":
            body = summary(found)
        elif name in found:
            body = section(name, found[name], pictures)
        else:
            body = "Not measured yet.\n"
        return f"{match[1]}\n{body}\n{match[3]}"

    return SECTION.sub(replace, text), pictures, complaints


def write():
    text, pictures, complaints = render()
    with open(PAGE, "w", encoding="utf-8") as page:
        page.write(text)
    for name in os.listdir(FOLDER):
        if name.endswith(".svg") and name not in pictures:
            os.unlink(os.path.join(FOLDER, name))
    for name, drawing in pictures.items():
        with open(os.path.join(FOLDER, name), "w", encoding="utf-8") as out:
            out.write(drawing)
    return complaints


def differences():
    """What the committed page and pictures have that the data does not make, or lack."""
    text, pictures, found = render()
    with open(PAGE, encoding="utf-8") as page:
        if page.read() != text:
            found.append("docs/performance.md is not what its data makes")
    names = {name for name in os.listdir(FOLDER) if name.endswith(".svg")}
    found += [f"docs/performance/{name}: no data makes it"
              for name in sorted(names - set(pictures))]
    for name, drawing in pictures.items():
        path = os.path.join(FOLDER, name)
        if not os.path.exists(path):
            found.append(f"docs/performance/{name} is missing")
            continue
        with open(path, encoding="utf-8") as file:
            if file.read() != drawing:
                found.append(f"docs/performance/{name} is not what its data makes")
    return found
