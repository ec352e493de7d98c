"""The report: one HTML file that needs nothing else, a pure function of the records."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from html import escape
from importlib import resources
from string import Template
from typing import Any

from fallline.lab import figures
from fallline.lab.curves import curves
from fallline.lab.records import Record
from fallline.lab.summary import summarise
from fallline.lab.verdict import NONE, counted, scope, shown, shown_difference, shown_median
from fallline.optim.space import space_from_json

Summary = Mapping[str, Any]
Rows = list[tuple[int, Mapping[str, Any]]]


def page(study: Mapping[str, Any], records: Iterable[Record]) -> str:
    """The whole report as HTML. Every name in it is escaped, and it loads nothing from anywhere."""
    records = list(records)
    summary = summarise(study, records)
    order = list(study["optimizers"])
    rows = figures.rows_in_order(summary, order)
    return Template(_asset("page.html")).substitute(
        eyebrow=escape(f"{counted(len(order), 'optimizer')} on {summary['problem']['name']}"),
        title=escape(f"{summary['problem']['name']}: {len(order)} optimizers compared"),
        headline=escape(summary["verdict"]["headline"]),
        text=escape(summary["verdict"]["text"]),
        facts=_facts(summary),
        table=_table(summary, rows),
        scope=escape(scope(summary)),
        forest=_forest(summary, rows),
        sensitivity=_sensitivity(summary, rows),
        notes=_notes(summary),
        protocol=_protocol(summary),
        uplot_css=_asset("uPlot.min.css"),
        page_css=_asset("page.css"),
        uplot_js=_asset("uPlot.iife.min.js"),
        uplot_license=_asset("uPlot.LICENSE"),
        page_js=_asset("page.js"),
        data=embedded(
            {
                **curves(study, records),
                "order": order,
                "ranked": [entry["name"] for _, entry in rows],
                "percent": summary["problem"]["metric"] == "accuracy",
                "metric": "val_" + summary["problem"]["metric"],
            }
        ),
    )


def results_table(study: Mapping[str, Any], records: Iterable[Record]) -> str:
    """Verdict and table alone, for a notebook."""
    summary = summarise(study, records)
    rows = figures.rows_in_order(summary, list(study["optimizers"]))
    return (
        f'<style>{_asset("page.css")}</style><div class="fallline embedded">'
        f"<h2>{escape(summary['verdict']['headline'])}</h2>"
        f"<p>{escape(summary['verdict']['text'])}</p>{_table(summary, rows)}"
        f'<p class="caption">{escape(scope(summary))}</p></div>'
    )


def embedded(data: Any) -> str:
    """JSON that can stand inside a script element: no `<`, so no `</script>` and no comment."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    for character in "<>&\N{LINE SEPARATOR}\N{PARAGRAPH SEPARATOR}":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _facts(summary: Summary) -> str:
    problem, protocol = summary["problem"], summary["protocol"]
    facts = (
        problem["name"],
        problem["model"],
        f"{problem['examples']['train']:,} training examples",
        f"{counted(problem['epochs'], 'epoch')} of batch {problem['batch_size']}",
        f"{counted(protocol['trials'], 'trial')} and {counted(protocol['seeds'], 'seed')} each",
    )
    items = "".join(f"<li>{escape(str(fact))}</li>" for fact in facts)
    date = summary["finished"][:10]
    return items + (f"<li><time>{escape(date)}</time></li>" if date else "")


def _table(summary: Summary, rows: Rows) -> str:
    axis = figures.score_axis(summary, _all_scores(summary))
    metric = escape(summary["problem"]["metric"])
    head = (
        "<th>Optimizer</th>"
        f'<th class="n main">Test {metric}<small>median</small></th>'
        '<th class="n">95% interval<small>of the median</small></th>'
        '<th class="n">Quartiles</th>'
        f'<th class="strip">{figures.score_ticks(axis, summary)}</th>'
        "<th>Tuned</th>"
        '<th class="n">Untuned<small>median</small></th>'
        '<th class="n">Tuning gained<small>paired mean</small></th>'
        '<th class="n">Diverged<small>of trials</small></th>'
        '<th class="n">Seconds<small>a run</small></th>'
    )
    body = "".join(_row(summary, index, entry, axis) for index, entry in rows)
    return f'<table class="results"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _row(summary: Summary, index: int, entry: Mapping[str, Any], axis: figures.Axis) -> str:
    tuned, default, gain, trials = (entry[k] for k in ("tuned", "default", "gain", "trials"))
    metric = summary["problem"]["metric"]
    cells = (
        (f"Test {metric}", "n main", escape(shown_median(tuned, summary))),
        ("95% interval", "n", _span(tuned["low"], tuned["high"], summary)),
        ("Quartiles", "n quartiles", _span(tuned["q1"], tuned["q3"], summary)),
        ("Seeds", "strip", figures.scores(entry, axis, summary)),
        ("Tuned", "", _hyper(entry["best"]["hyper"]) if entry["best"] else NONE),
        ("Untuned", "n", escape(shown_median(default, summary))),
        ("Tuning gained", "n", _gain(gain, summary)),
        ("Diverged", "n", _share(trials)),
        ("Seconds a run", "n", _seconds(tuned["seconds"])),
    )
    unfinished = "" if entry["complete"] else " <small>not finished</small>"
    name = f"{figures.key(index)}<span>{escape(entry['name'])}{unfinished}</span>"
    tds = "".join(
        f'<td class="{kind}" data-label="{escape(label)}">{value}</td>'
        for label, kind, value in cells
    )
    return f'<tr class="{figures.colour_class(index)}"><th scope="row">{name}</th>{tds}</tr>'


def _all_scores(summary: Summary) -> list[float | None]:
    """Of the tuned runs that came through; others may be so far off that they hide the rest."""
    return [
        score
        for entry in summary["optimizers"]
        for score, status in zip(entry["tuned"]["scores"], entry["tuned"]["status"], strict=True)
        if status == "ok"
    ]


def _span(low: float | None, high: float | None, summary: Summary) -> str:
    if low is None or high is None:
        return NONE
    a, b = shown(low, summary).rstrip("%"), shown(high, summary).rstrip("%")
    return f'<span class="quiet">{escape(a)} to {escape(b)}</span>'


def _gain(gain: Mapping[str, Any] | None, summary: Summary) -> str:
    if gain is None or gain["mean"] is None:
        return NONE
    mean = escape(shown_difference(gain["mean"], summary))
    if gain["words"] not in ("better", "worse"):
        return f'<span class="quiet">{mean} <small>{escape(gain["words"])}</small></span>'
    return f"<span>{mean} <small>{_ends(gain, summary)}</small></span>"


def _ends(difference: Mapping[str, Any], summary: Summary) -> str:
    if difference["low"] is None or difference["high"] is None:
        return "no interval"
    low, high = (shown_difference(difference[k], summary) for k in ("low", "high"))
    return escape(f"{low} to {high}")


def _hyper(hyper: Mapping[str, Any]) -> str:
    said = (f"{escape(name)}&nbsp;{escape(_number(value))}" for name, value in hyper.items())
    return " ".join(f"<code>{one}</code>" for one in said)


def _share(trials: Mapping[str, Any]) -> str:
    made, bad = trials["made"], trials["diverged"] + trials["failed"]
    return f"{bad}/{made}" if bad else f'<span class="quiet">0/{made}</span>'


def _seconds(seconds: float | None) -> str:
    return NONE if seconds is None else f"{seconds:.3g}"


def _forest(summary: Summary, rows: Rows) -> str:
    compared = [(index, entry) for index, entry in rows if entry["versus_best"]]
    if not compared:
        return ""
    axis = figures.difference_axis(summary)
    lines = []
    for index, entry in compared:
        versus = entry["versus_best"]
        mean = escape(shown_difference(versus["mean"], summary))
        lines.append(
            f'<div class="row {figures.colour_class(index)}">'
            f'<span class="who">{escape(entry["name"])}</span>'
            f'<span class="plot">{figures.difference(entry, axis, summary)}</span>'
            f'<span class="said"><b>{mean}</b> <small>{_ends(versus, summary)}</small> '
            f'<em class="{"" if versus["words"] in ("better", "worse") else "quiet"}">'
            f"{escape(versus['words'])}</em></span></div>"
        )
    points = ", in percentage points" if summary["problem"]["metric"] == "accuracy" else ""
    return (
        f"<section><h2>Against {escape(summary['best'])}</h2>"
        f'<p class="caption">Difference in test {escape(summary["problem"]["metric"])} to '
        f"{escape(summary['best'])}, paired by seed{points}: mean and 95% interval. The "
        "intervals hold jointly for all optimizers, whichever was selected as the best. Where one "
        f'crosses the line, the difference is within noise.</p><div class="forest">'
        f'{"".join(lines)}<div class="row"><span class="who"></span><span class="plot">'
        f'{figures.difference_ticks(axis, summary)}</span><span class="said"></span></div>'
        "</div></section>"
    )


def _sensitivity(summary: Summary, rows: Rows) -> str:
    rows = [(i, e) for i, e in rows if e["trials"]["points"] and e["tuned_parameters"]]
    if not rows:
        return ""
    x = figures.rate_axis(summary)
    y = figures.score_axis(
        summary,
        (
            point["validation"] if point["status"] == "ok" else point["last"]
            for _, entry in rows
            for point in entry["trials"]["points"]
        ),
    )
    panels = "".join(
        f'<figure class="{figures.colour_class(index)}"><figcaption>{figures.key(index)} '
        f"{escape(entry['name'])} <small>{escape(entry['tuned_parameters'][0])}</small>"
        "</figcaption>"
        f"{figures.sensitivity(entry, x, y, summary)}</figure>"
        for index, entry in rows
    )
    return (
        '<section><h2>How much the learning rate matters</h2><p class="caption">Each trial: its '
        f"learning rate against its validation {escape(summary['problem']['metric'])}. Ring: the "
        "trial that was chosen. Open: stopped early. Cross: diverged. Dashed: the untuned default."
        f'</p><div class="panels">{panels}</div></section>'
    )


def _notes(summary: Summary) -> str:
    if not summary["notes"]:
        return ""
    items = "".join(f"<li>{escape(note)}</li>" for note in summary["notes"])
    return f'<section><h2>Worth knowing</h2><ul class="notes">{items}</ul></section>'


def _protocol(summary: Summary) -> str:
    problem, rules, machine = summary["problem"], summary["protocol"], summary["machine"]
    examples = problem["examples"]
    trials = counted(rules["trials"], "quasi-random trial")
    seeds = ", ".join(map(str, rules["report_seeds"]))
    said = {
        "Budget": f"{rules['budget']}: {trials} each, {rules['extra']} more wherever the best lies "
        f"at an edge of what was tried, at most {rules['extensions']} times",
        "Choice": "by the final validation score alone; only the reported runs see test examples",
        "Stopping early": "on divergence; from the sixth trial on also by the median of the first "
        "five, from a third of the epochs on",
        "Seeds": f"tuning {rules['tuning_seed']}; reported {seeds}; each gives every optimizer the "
        "same initial weights and batches",
        "Intervals": rules["interval"],
        "Diverged runs": f"count with the worst {problem['metric']} there is",
        "Examples": f"{examples['train']:,} to train, {examples['validation']:,} to choose, "
        f"{examples['test']:,} to report",
        "Data": f"{problem['source'] or 'arrays'}; sha256 {problem['data_sha256'][:16]}",
        "Loss": problem["loss"],
        "Steps": f"{problem['steps']:,} a run",
        "Machine": f"{machine['processor']}, {counted(machine['cores'], 'core')}, "
        f"{machine['system']} on {machine['architecture']}",
        "Versions": ", ".join(f"{name} {number}" for name, number in summary["versions"].items()),
    }
    items = "".join(f"<dt>{escape(k)}</dt><dd>{escape(str(v))}</dd>" for k, v in said.items())
    spaces = "".join(_space_row(entry) for entry in summary["optimizers"])
    return (
        f'<dl>{items}</dl><div class="wide"><table class="spaces"><thead><tr><th>Optimizer</th>'
        "<th>Searched</th><th>Not searched in this budget</th><th>Defaults</th></tr></thead>"
        f"<tbody>{spaces}</tbody></table></div><pre>{escape(problem['network'])}</pre>"
    )


def _space_row(entry: Mapping[str, Any]) -> str:
    space = space_from_json(entry["space"])
    tuned = entry["tuned_parameters"]
    said = lambda names: "; ".join(f"{name} {space[name]}" for name in names) or NONE
    others = [name for name in space if name not in tuned]
    defaults = ", ".join(f"{name} {_number(value)}" for name, value in entry["defaults"].items())
    cells = (said(tuned), said(others), defaults)
    tds = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
    return f'<tr><th scope="row">{escape(entry["name"])}</th>{tds}</tr>'


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _asset(name: str) -> str:
    return resources.files("fallline.lab").joinpath("assets", name).read_text(encoding="utf-8")
