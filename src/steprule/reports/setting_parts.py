"""The parts of the page of settings as given: tables with the book's figures, charts, paths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from steprule.atomic import as_file_name
from steprule.paths import Trace
from steprule.races import Race, Setting
from steprule.reports import setting_charts, themed
from steprule.reports.document import Part, spans
from steprule.reports.panels import heights, paths, stack
from steprule.reports.walked import note
from steprule.surfaces import catalogue as surfaces
from steprule.tutorial.settings import figures_of, floor_name, is_tutorial

_INSIDE = {True: "inside", False: "<b>outside</b>", None: ""}


def parts(race: Race) -> Iterator[Part]:
    """The parts in reading order, without what every race's page has."""
    for (problem, schedule), settings in race.tables.items():
        # Where there is one problem with one schedule, the title says which.
        of, name = "", ""
        if len(race.tables) > 1:
            of, name = f": {problem}, {schedule} learning rate", f"-{problem}-{schedule}"
        yield Part(f"Result{of}", _table(race, settings), _reading_the_table(race, problem))
        dots = setting_charts.spreads(race, settings)
        title = "How far one seed is from another"
        yield Part.drawn(
            f"{title}{of}",
            f"seeds{as_file_name(name)}",
            themed.svg(dots, compact=True),
            _reading_the_dots(race, settings),
        )
        if "losses" in next(iter(race.phases.values()))[0].results:
            curves, said = setting_charts.curves(race, settings), _reading_the_curves(race, problem)
            yield Part.drawn(
                f"How the loss falls{of}", f"curves{as_file_name(name)}", themed.svg(curves, compact=True), said
            )
    if walked := setting_charts.paths_of(race):
        surface = surfaces.get(setting_charts.SURFACE)
        named = {note(t, surface, walked): t for t in walked}
        svg = themed.svg(stack(paths(named), heights(named)), compact=True)
        yield Part.drawn("The path each takes", "paths", svg, _reading_the_paths(race, walked), narrow=True)


def made(race: Race) -> dict[str, str]:
    """Who trained how, for the page's last part."""
    spec = race.spec
    seeds = next(iter(race.phases.values()))[0].lanes.seed.tolist()
    settings = []
    for entrant in spec.entrants:
        fixed = ", ".join(f"{n}={v}" for n, v in entrant.fixed.items())
        settings.append(f"{entrant.label}: {fixed or 'defaults'}")
    schedules = " and ".join(spec.schedule_names)
    return {
        "Protocol": f"{schedules} learning rate, seeds {spans(seeds)}; the same batches for all",
        "Settings": "; ".join(settings),
    }


def _table(race: Race, settings: Sequence[Setting]) -> str:
    figures = [figures_of(race, s) for s in settings]
    metrics = list(settings[0].metrics)
    heads = ["", "mean ± sd", "middle 95 % of seeds", *map(escape, metrics), "s per training", "diverged"]
    lines = []
    for setting, own in zip(settings, figures, strict=True):
        cells = [
            setting.spread,
            setting.middle,
            *(f"{value:.4g}" for value in setting.metrics.values()),
            f"{setting.seconds:.3f}",
            f"{setting.diverged} of {setting.seeds}" if setting.diverged else "0",
        ]
        if any(figures):
            cells.append("; ".join(f"{f:.6f} {_INSIDE[setting.holds(f)]}".strip() for f in own) or "–")
        colour = themed.followed(setting_charts.style_of_setting(race, setting).colour)
        swatch = f'<span class="swatch" style="background:{colour}"></span>'
        lines.append(f"<tr><th>{swatch}{escape(setting.label)}</th>{''.join(f'<td>{c}</td>' for c in cells)}</tr>")
    head = "".join(f"<th>{h}</th>" for h in (*heads, *(["printed by the book"] if any(figures) else [])))
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def _reading_the_table(race: Race, problem: str) -> str:
    task = race.spec.problem(problem)
    text = "Loss on all training samples after the last step. Mean and standard deviation over the seeds that did not diverge. "
    text += "Seconds: the steps of one training, median over the seeds, without evaluation."
    if task.floor is not None:
        text += f" The {floor_name(task)} is {task.floor:.8g}."
    return text


def _reading_the_dots(race: Race, settings: Sequence[Setting]) -> str:
    inside = {s.label: [s.holds(figure) for figure in figures_of(race, s)] for s in settings}
    count = sum(map(len, inside.values()))
    if settings[0].seeds < 2:
        return "Each mark is one seed. One seed tells nothing of how far seeds lie apart."
    if not count:
        return "Each mark is one seed."
    held = sum(map(sum, inside.values()))  # type: ignore[arg-type]
    text = f"Each mark is one seed. Of the book's {count} printed figures, {held} lie among the middle 95 % of seeds"
    outside = [label for label, own in inside.items() if not all(own)]
    text += f"; outside: {escape(', '.join(outside))}." if outside else "."
    if not is_tutorial(race):
        return text
    return text + (
        " A gap between a formula and its class may be attributed only after varying one thing at a time: here they differ in"
        " the initial weights and in epsilon. <code>steprule train</code> with both on one problem takes the first away."
    )


def _reading_the_curves(race: Race, problem: str) -> str:
    task = race.spec.problem(problem)
    text = "Loss on all training samples. Line: median over the seeds. Band: the middle 95 % of them."
    if task.floor is not None:
        text += f" The axis counts from the {floor_name(task)}, {task.floor:.6g}, so that the last digits can be seen."
    return text


def _reading_the_paths(race: Race, walked: Sequence[Trace]) -> str:
    how = "each rule at its best learning rate here"
    odd = [f"{t.label or t.rule}: {', '.join(t.cautions) or 'as it is'}" for t in walked if t.cautions or not t.tuned]
    if odd:
        how = f"each rule at the best learning rate of those tried ({escape('; '.join(odd))})"
    if is_tutorial(race):
        how = (
            "at the tutorial's settings; AdaDelta and Adam, for which it draws none, with their formulas' (Adam lr 0.4)"
        )
    return f"f = x²/10 + 2y², 20 steps from (-5, -2), {how}. Contours are logarithmic."
