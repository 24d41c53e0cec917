"""Tables, figures and the page from the outcomes of a grid. Means are over seeds, with the standard deviation of one seed."""

import html
import math
import os
import platform
import re
import shutil
import subprocess

import chart
import grid

# Name, where it stands in an evaluation, digits after the point.
def figures_of(outcome):
    return {**outcome["eval"], "transfer": outcome["transfer"]}


def elsewhere(figure):
    """Mean over the other image sets that were there."""
    def get(e):
        values = [on[figure] for on in e["transfer"].values()]
        return mean(values) if values else None
    return get


def others(members):
    """What *the other sets* were."""
    found = sorted({name for runs in members.values() for _, _, outcome in runs for name in outcome.get("transfer", {})})
    return f"The other sets: {', '.join(found)}." if found else "There were no other sets."


COLUMNS = [
    ("k-NN", lambda e: e["knn"], 1),
    ("k-NN, projections", lambda e: e["knn_projections"], 1),
    ("linear", lambda e: e["linear"], 1),
    ("ridge", lambda e: e["ridge"], 1),
    ("10 % of labels", lambda e: (e.get("few_shot") or {}).get("0.1", {}).get("mean"), 1),
    ("prototype classifier", lambda e: e["prototype_classifier"], 1),
    ("NMI", lambda e: e["nmi"], 3),
    ("k-NN on the other sets", elsewhere("knn"), 1),
    ("ridge on the other sets", elsewhere("ridge"), 1),
    ("active %", lambda e: e["active"], 1),
    ("unique % .025", lambda e: e["unique"]["0.025"], 1),
    ("unique % .1", lambda e: e["unique"]["0.1"], 1),
    ("active and unique % .1", lambda e: e["active_unique"]["0.1"], 1),
    ("rank of features", lambda e: e["effective_rank"]["features"], 1),
]
NAMES = [name for name, _, _ in COLUMNS]
EPSILONS = ["0.025", "0.1", "0.25", "0.5"]


def mean(values):
    return sum(values) / len(values)


def deviation(values):
    m = mean(values)
    return math.sqrt(sum((v - m) ** 2 for v in values) / (len(values) - 1)) if len(values) > 1 else None


def figure(values, digits, sign=""):
    """"63.3 ± 0.2", without a spread when there is one seed."""
    values = [v for v in values if v is not None]
    if not values:
        return "–"
    spread = deviation(values)
    return f"{mean(values):{sign}.{digits}f}" + (f" ± {spread:.{digits}f}" if spread is not None else "")


def groups(outcomes):
    """{(data, K): {(objective, regime): [(cell, place, outcome)]}} in the order in which they were run."""
    found = {}
    for entry in outcomes:
        cell = entry[0]
        found.setdefault((cell.data, cell.components), {}).setdefault((cell.objective, cell.regime), []).append(entry)
    return found


def references(outcomes, data):
    for cell, _, outcome in outcomes:
        if cell.data == data and "references" in outcome["eval"]:
            return outcome["eval"]["references"]
    return {}


def quality_rows(outcomes, data, members):
    rows = [["", "seeds"] + NAMES]
    for (objective, regime), entries in members.items():
        rows.append([f"{objective}, {regime}", str(len(entries))]
                    + [figure([get(figures_of(o)) for _, _, o in entries], digits) for _, get, digits in COLUMNS])
    for name, words in (("pixels", "raw pixels"), ("random", "random encoder")):
        known = references(outcomes, data).get(name)
        if known:
            figures = {"k-NN": known["knn"], "linear": known["linear"], "ridge": known["ridge"]}
            rows.append([words, ""] + [figure([figures.get(column)], 1) for column in NAMES])
    return without_unknown(rows)


def without_unknown(rows):
    """Columns that no row has a figure for are left out."""
    kept = [i for i in range(len(rows[0])) if i < 2 or any(row[i] != "–" for row in rows[1:])]
    return [[row[i] for i in kept] for row in rows]


def pair_rows(members):
    """Decoupled minus joint, seed by seed: what the seeds share cancels."""
    rows = [["objective", "seeds"] + NAMES]
    for objective in grid.OBJECTIVES:
        sides = [{cell.seed: figures_of(o) for cell, _, o in members.get((objective, regime), [])} for regime in grid.PAIR]
        seeds = sorted(set(sides[0]) & set(sides[1]))
        if not seeds:
            continue
        row = [objective, str(len(seeds))]
        for _, get, digits in COLUMNS:
            pairs = [(get(sides[0][seed]), get(sides[1][seed])) for seed in seeds]
            row.append(figure([a - b for a, b in pairs if a is not None and b is not None], digits, "+"))
        rows.append(row)
    return without_unknown(rows)


def markdown(rows):
    return "\n".join("| " + " | ".join(row) + " |" for row in [rows[0], ["---"] * len(rows[0])] + rows[1:]) + "\n"


def table(rows):
    head = "".join(f"<th>{html.escape(x)}</th>" for x in rows[0])
    body = "".join("<tr>" + "".join(f"<{'th' if i == 0 else 'td'}>{html.escape(x)}</{'th' if i == 0 else 'td'}>"
                                    for i, x in enumerate(row)) + "</tr>" for row in rows[1:])
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def unique_chart(data, members):
    """The paper's third figure: how many prototypes differ, against how different they have to be."""
    places = {float(i): "eps " + eps for i, eps in enumerate(EPSILONS)}
    series = [(f"{objective}, {regime}", [(float(i), mean([o["eval"]["active_unique"][eps] for _, _, o in entries]))
                                          for i, eps in enumerate(EPSILONS)], "joint" in regime)
              for (objective, regime), entries in members.items() if regime in grid.PAIR]
    return chart.line_chart(f"Prototypes in use that differ, {data}", "cosine distance", "active and unique, %", series, places)


def curve_chart(data, members):
    series = []
    for (objective, regime), entries in members.items():
        if regime in grid.PAIR:
            points = [(step, unique) for step, unique, _ in entries[0][2]["history"]]
            series.append((f"{objective}, {regime}", points, "joint" in regime))
    return chart.line_chart(f"Unique at 0.1 along training, {data}, seed {min(c.seed for e in members.values() for c, _, _ in e)}",
                            "step", "unique, %", series)


def png(path):
    """Beside the SVG, where the converter is installed."""
    if shutil.which("rsvg-convert"):
        subprocess.run(["rsvg-convert", "--zoom", "2", "--output", path.with_suffix(".png"), path], check=True)


def rings(members):
    """[(caption, svg)] of one run of each side, for the first objective that has both."""
    for objective in grid.OBJECTIVES:
        found = [members.get((objective, regime)) for regime in grid.PAIR]
        if all(found):
            pictures = [(f"{objective}, {regime}", entries[0][1] / "pictures" / "ring.svg") for regime, entries in zip(grid.PAIR, found)]
            return [(caption, path.read_text()) for caption, path in pictures if path.exists()]
    return []


def machine():
    model = next((re.sub(r"\s+", " ", line.split(":", 1)[1].strip()) for line in open("/proc/cpuinfo") if line.startswith("model name")),
                 platform.machine())
    return f"{model}, {os.cpu_count()} processors, Linux"


STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#1d2126;background:#fff}
table{border-collapse:collapse;font-size:.85rem}th,td{padding:.3rem .6rem;text-align:right;border-bottom:1px solid #dde1e6}
td{white-space:nowrap}th:first-child{text-align:left;white-space:nowrap}.wide{overflow-x:auto}figure{margin:1rem 0}svg{max-width:100%;height:auto}
.rings{display:flex;flex-wrap:wrap;gap:1rem}.rings figure{flex:1 1 20rem}"""


def page(out, preset, outcomes):
    parts = [f"<h1>Joint and decoupled prototypes: preset {preset}</h1>",
             f"<p>Made by <code>examples/reproduce/reproduce --preset {preset}</code> on {html.escape(machine())}. Every figure is a mean over "
             "seeds with the standard deviation of one; both sides of a pair have the same encoder, views, steps, learning rate and terms.</p>",
             "<h2>What the regimes are</h2><ul>" + "".join(
                 f"<li><b>{html.escape(name)}</b>: {html.escape(words)}</li>" for name, (words, _, _) in grid.REGIMES.items()
                 if any(c.regime == name for c, _, _ in outcomes)) + "</ul>"]
    for (data, components), members in groups(outcomes).items():
        parts.append(f"<h2>{data}, {components} prototypes</h2>{table(quality_rows(outcomes, data, members))}")
        parts.append("<p>k-NN, linear and ridge read the backbone's features; the prototype classifier gives an image the commonest label of its "
                     "nearest prototype. On the other sets: the same encoder on images and classes that it was not trained on, mean over the sets. "
                     f"{others(members)} "
                     "<i>Unique</i> alone misleads, since prototypes that nothing uses stay distinct: read it with <i>active</i>.</p>")
        if len(pair_rows(members)) > 1:
            parts.append(f"<h3>{html.escape(grid.PAIR[0])} minus {html.escape(grid.PAIR[1])}</h3>{table(pair_rows(members))}"
                         "<p>Differences seed by seed. A mean that is smaller than its spread says nothing yet.</p>")
        parts.append(f"<figure>{(out / f'unique-{data}-{components}.svg').read_text()}<figcaption>How many prototypes are in use and differ by at "
                     "least eps from the others: a line that falls early has copies.</figcaption></figure>")
        parts.append(f"<figure>{(out / f'curve-{data}-{components}.svg').read_text()}<figcaption>When copies arise: a collapse shows in the "
                     "first checkpoints already.</figcaption></figure>")
        pictures = rings(members)
        if pictures:
            parts.append("<div class='rings'>" + "".join(f"<figure>{svg}<figcaption>{html.escape(caption)}</figcaption></figure>"
                                                         for caption, svg in pictures) + "</div><p>Prototypes on their two principal directions, "
                         "and how many lie at each angle: spikes are copies.</p>")
    return ("<!doctype html><html lang='en'><meta charset='utf-8'><meta name='viewport' content='width=device-width'><title>Joint and decoupled "
            f"prototypes</title><style>{STYLE}</style>" + "\n".join(parts) + "</html>\n")


def write(out, preset, outcomes):
    """outcomes: [(cell, directory of the run, {"eval", "history", "transfer"})]. Writes report.html, tables.md and the figures into out."""
    text = []
    for (data, components), members in groups(outcomes).items():
        text.append(f"## {data}, {components} prototypes\n\n{markdown(quality_rows(outcomes, data, members))}\n{others(members)}\n")
        if len(pair_rows(members)) > 1:
            text.append(f"{grid.PAIR[0]} minus {grid.PAIR[1]}, seed by seed:\n\n{markdown(pair_rows(members))}")
        for name, draw in (("unique", unique_chart), ("curve", curve_chart)):
            path = out / f"{name}-{data}-{components}.svg"
            path.write_text(draw(data, members))
            png(path)
    (out / "tables.md").write_text("\n".join(text))
    (out / "report.html").write_text(page(out, preset, outcomes))
