"""The commands: rules, show, trace, play, train, sweep, race, check, which, bench. Each parses, calls one function, and prints."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from steprule import rules as catalogue

app = typer.Typer(
    name="steprule",
    help="An optimizer is one function: see a rule, walk it over a surface, train with it, race it.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _rule_names(incomplete: str) -> list[str]:
    return [name for name in catalogue.names() if name.startswith(incomplete)]


def _surface_names(incomplete: str) -> list[str]:
    from steprule.problems import surfaces

    return [name for name in surfaces.names() if name.startswith(incomplete)]


def _story_names(incomplete: str) -> list[str]:
    from steprule.play import stories

    return [story.name for story in stories.STORIES if story.name.startswith(incomplete)]


def _schedule_names(incomplete: str) -> list[str]:
    from steprule import schedules

    return [name for name in schedules.names() if name.startswith(incomplete)]


FORMS = ("text", "latex", "python", "javascript", "numba", "triton")
RULE_HELP = "A catalogue name, file.py:name or package.module:name."
RuleArgument = Annotated[str, typer.Argument(metavar="RULE", help=RULE_HELP, autocompletion=_rule_names)]
RuleArguments = Annotated[list[str], typer.Argument(metavar="RULE...", help=RULE_HELP, autocompletion=_rule_names)]
TrainsArgument = Annotated[
    str, typer.Argument(metavar="RULE", help=f"{RULE_HELP} Or torch.optim.Adam.", autocompletion=_rule_names)
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="A hyperparameter; RULE.NAME=VALUE for one rule."),
]


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"expected a whole number, got {text!r}") from None


SCHEDULE_HELP = (
    'Of the learning rate: constant, linear, cosine, one_cycle, step, inverse_root; "step(every=0.25,by=0.5)"; '
    '"warmup(0.1)+cosine"; or file.py:name.'
)
ScheduleOption = Annotated[str, typer.Option(metavar="SCHEDULE", help=SCHEDULE_HELP, autocompletion=_schedule_names)]
EpochsOption = Annotated[
    int | None, typer.Option(help="Passes over the data; the problem's own if not given.", parser=_whole, metavar="N")
]
BatchOption = Annotated[
    int | None, typer.Option(help="Samples a step; the problem's own if not given.", parser=_whole, metavar="N")
]


def _json(context: typer.Context, value: bool) -> bool:
    """With --json, what a file of the user's prints goes to stderr."""
    if value:
        from steprule.cli import output

        context.with_resource(output.json_alone())
    return value


DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Only say what it takes: trainings, steps, time and memory, by a few steps.")
]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask before what takes hours.")]


JsonOption = Annotated[bool, typer.Option("--json", help="JSON on stdout.", callback=_json)]


@app.callback(invoke_without_command=True)
def _alone(
    context: typer.Context, version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False
) -> None:
    if context.invoked_subcommand is None and not version:
        sys.stdout.write(context.get_help() + "\n")
    if version:
        from importlib.metadata import version as installed

        sys.stdout.write(f"steprule {installed('steprule')}\n")
        raise typer.Exit


@app.command()
def rules(json: JsonOption = False) -> None:
    """List the rules: their hyperparameters, states and papers."""
    from steprule.cli import output

    found = catalogue.CATALOGUE.values()
    if json:
        output.as_json([_rule_record(r) for r in found])
        return
    rows = [(r.name, ", ".join(s.name for s in r.slots) or "-", _defaults(r), _paper(r)) for r in found]
    output.table("", ("rule", "states", "hyperparameters", "paper"), rows, left=(0, 1, 2, 3), wrap=True)


@app.command()
def show(
    rule: RuleArgument,
    form: Annotated[
        str, typer.Option("--as", metavar="FORM", help="text, latex, python, javascript, numba, triton.")
    ] = "",
    settings: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Print a rule: formula, hyperparameters, states, paper. --set chooses the variant (--set amsgrad=true)."""
    from steprule.cli import options, output
    from steprule.compiler import formula
    from steprule.compiler.variant import variant_of
    from steprule.errors import unknown_name
    from steprule.rules.parts import composed

    if form not in ("", *FORMS):
        raise unknown_name("form", form, FORMS, where=" for --as")
    found = composed(catalogue.resolve(rule))
    bound = found.bind(options.settings_for([options.taker_of(found, rule)], settings or [])[0])
    graph = variant_of(found, bound).graph()
    text, latex = formula.text(graph), formula.latex(graph)
    if json:
        output.as_json({**_rule_record(found), "formula": {"text": text, "latex": latex}})
        return
    if form:
        from steprule.compiler import javascript

        printed = {"text": text, "latex": "\n".join(latex), "python": formula.python(graph)}
        printed["javascript"] = javascript.source(graph)
        output.say(printed[form] if form in printed else _kernel_source(graph, form))
        return
    output.say(f"{found.name}: {found.summary}\n")
    output.say("\n".join(f"    {line}" for line in text.splitlines()))
    output.say()
    output.say("\n".join(f"    {line}" for line in latex))
    letters = {name: letter for letter, name, _ in formula.where(graph)}
    output.say()
    shown = [(h.name, letters.get(h.name, ""), repr(h.default), h.range, h.meaning) for h in found.hypers]
    output.table("", ("hyperparameter", "letter", "default", "values", "meaning"), shown, left=(0, 1, 3, 4))
    if found.slots:
        output.say()
        held = [
            (s.name, letters.get(s.name, ""), s.starts, "tensor" if s.per_tensor else "element") for s in found.slots
        ]
        output.table("", ("state", "letter", "starts at", "one per"), held, left=(0, 1, 2, 3))
    if found.paper:
        output.say(f"\n{found.paper}")


def _kernel_source(graph: Any, form: str) -> str:
    """The kernel for float32, Numba's parallel one, as it stands in the cache folder."""
    from steprule.compiler.split import split
    from steprule.errors import InputError
    from steprule.optim.backends import compiler_of

    try:
        compiler = compiler_of("triton" if form == "triton" else "numba")
    except ImportError as error:
        raise InputError(
            f"show --as {form}", expected=f"{form} installed", got=str(error), hint=f"pip install {form}"
        ) from error
    program = split(graph)
    return compiler.source_of(program, ["float32"] * len(program.columns), "float32")


@app.command()
def trace(
    rules: RuleArguments,
    surface: Annotated[
        str, typer.Option(help="A surface's name, or a formula in x and y.", autocompletion=_surface_names)
    ] = "quadratic",
    start: Annotated[
        str | None, typer.Option(metavar="X,Y", help="Where to begin; the surface's own if not given.")
    ] = None,
    steps: Annotated[int, typer.Option(help="How many steps.", parser=_whole, metavar="N")] = 20,
    settings: SetOption = None,
    defaults: Annotated[
        bool, typer.Option("--defaults", help="The rules' own learning rates, not the best ones.")
    ] = False,
    seed: Annotated[
        int, typer.Option(help="Of the gradient noise, where there is any.", parser=_whole, metavar="N")
    ] = 0,
    noise: Annotated[
        float | None, typer.Option(help="Standard deviation of noise on the gradient; the surface's own if not given.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A picture or the points: .png, .svg, .gif, .html, .json.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Walk one rule or many over a surface, each at its best learning rate unless --set lr or --defaults says otherwise.

    The best of 141 rates from 0.0001 to 1000. Where it is the lowest or the highest of them, the table says so.
    """
    from steprule import paths
    from steprule.cli import options, output
    from steprule.rules.parts import composed

    found = [composed(catalogue.resolve(r)) for r in rules]
    takers = [options.taker_of(r, typed) for r, typed in zip(found, rules, strict=True)]
    hypers = options.settings_for(takers, settings or [])
    begin = options.point(start)
    walked, hopeless = [], []
    for rule, own in zip(found, hypers, strict=True):
        tune = not defaults and "lr" not in own
        walk = paths.tuned_trace if tune else paths.trace
        walked.append(walk(rule, surface, begin, steps, seed=seed, noise=noise, **own))
        hopeless.append(tune and "lr" in rule.defaults and not walked[-1].tuned)
    if out is not None:
        from steprule.reports import paths as pictures

        pictures.save(walked, out)
    if json:
        output.as_json([t.to_dict() for t in walked])
        return
    rows = []
    for t, none in zip(walked, hopeless, strict=True):
        said = [*t.cautions, *(["so at every lr tried"] if none else [])]
        rate = f"{t.hypers['lr']:.4g}" + (" best" if t.tuned and not t.rose else "") if "lr" in t.hypers else "-"
        rows.append((t.rule, rate, *(_decimals(v) for v in t.points[-1]), f"{t.values[-1]:.6g}", "; ".join(said)))
    title = f"{walked[0].surface}, {steps} steps from ({walked[0].points[0, 0]:g}, {walked[0].points[0, 1]:g})"
    output.say(title)
    output.table("", ("rule", "lr", "x", "y", "value", ""), rows, left=(0, 5))
    if out is not None:
        output.say(f"\nWritten: {out}")


def _decimals(value: float) -> str:
    """Six decimals, as the tutorial prints points; what has no place there in six digits."""
    return f"{value:.6f}" if abs(value) < 1e6 else f"{value:.6g}"


@app.command()
def play(
    page: Annotated[
        str, typer.Argument(metavar="[PAGE]", help="surfaces; luck, 200 seeds beside the book's figures; or network.")
    ] = "surfaces",
    rule: Annotated[
        list[str] | None, typer.Option("--rule", metavar="RULE", help=f"Of your own, beside the others. {RULE_HELP}")
    ] = None,
    story: Annotated[
        str | None, typer.Option(metavar="NAME", help="Open with this story.", autocompletion=_story_names)
    ] = None,
    embed: Annotated[
        bool, typer.Option("--embed", help="The picture and its story alone, as a slide shows them.")
    ] = False,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the page there, and open nothing.")] = None,
    json: JsonOption = False,
) -> None:
    """See every rule walk, step by step, in the browser; or watch 200 seeds or a network train. Each is one offline page."""
    from steprule import play as playground
    from steprule.cli import output
    from steprule.compiler import cache
    from steprule.play import pages, stories

    other = pages.writer_of(page, {"rule": rule, "story": story, "embed": embed})
    found = [(spec, catalogue.resolve(spec)) for spec in rule or []]
    where = out or cache.folder() / ("play.html" if other is None else f"{page}.html")
    own = [(spec, r) for spec, r in found if r not in catalogue.CATALOGUE.values()]
    told = f"story={stories.named(story).name}" if story else ""
    if other is None:
        playground.write(where, own, opening=told, embed=embed)
    else:
        other(where)
    if json:
        output.as_json({"page": str(where)})
        return
    if out is None:
        import webbrowser

        webbrowser.open(where.absolute().as_uri())
    output.say(f"Written: {where}")


@app.command()
def train(
    rule: TrainsArgument,
    on: Annotated[str, typer.Option("--on", metavar="PROBLEM", help="What to train.")] = "airfoil",
    seed: Annotated[
        int, typer.Option(help="Of the initial weights and the order of samples.", parser=_whole, metavar="N")
    ] = 0,
    epochs: EpochsOption = None,
    batch_size: BatchOption = None,
    init: Annotated[str, typer.Option(help="same: one start for all; tutorial: nn.Linear's own for classes.")] = "same",
    device: Annotated[str, typer.Option(help="Where, as torch names it.")] = "cpu",
    schedule: ScheduleOption = "constant",
    log: Annotated[
        str | None, typer.Option(metavar="file.py:NAME", help="A function (step, numbers), called behind each step.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A picture of the loss against the samples: .png or .svg.")
    ] = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    settings: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Train a problem with one rule, or with a torch.optim class."""
    from steprule import training
    from steprule.cli import cost, options, output
    from steprule.problems import problem as problems
    from steprule.problems import scoring
    from steprule.sweeps import cost as costs

    if out is not None:
        from steprule.reports import training_charts

        training_charts.check_ending(out)

    found = training.resolve(rule)
    (hypers,) = options.settings_for([options.taker_of(found, rule, trains=True)], settings or [])
    task = problems.get(on)
    with cost.known_first("train", dry_run=dry_run, yes=yes, json=json) as told:
        told(costs.of_training(task, found, hypers, epochs, batch_size, device, measure=dry_run))
    run = training.train(
        found, task, seed, epochs, batch_size, init=init, schedule=schedule, device=device,  # type: ignore[arg-type]
        log=options.log_of(log), **hypers,
    )  # fmt: skip
    if out is not None:
        training_charts.save(training_charts.of_run(run), out)
    if json:
        output.as_json(run.to_dict())
        return
    output.say(
        f"{run.optimizer} on {run.problem}: loss {run.losses[0]:#.6g} -> {run.final_loss:#.6g}{_fate(run.diverged)}"
    )
    how = f"{run.epochs} epochs, batch {run.batch_size}, seed {seed}, init {init}" + run.scheduled
    output.say(f"{how}; {run.seconds:.3f} s of training steps")
    if run.metrics:
        output.say(scoring.in_words(run.metrics))
    if out is not None:
        output.say(f"Written: {out}")


@app.command()
def sweep(
    rule: TrainsArgument,
    on: Annotated[str, typer.Option("--on", metavar="PROBLEM", help="What to train.")] = "airfoil",
    vary: Annotated[
        list[str] | None, typer.Option(metavar="NAME[=LOW..HIGH]", help="What to draw; lr if not given. Repeatable.")
    ] = None,
    points: Annotated[int, typer.Option(help="How many hyperparameter points.", parser=_whole, metavar="N")] = 64,
    seeds: Annotated[int, typer.Option(help="How many seeds each.", parser=_whole, metavar="N")] = 1,
    schedule: ScheduleOption = "constant",
    epochs: EpochsOption = None,
    batch_size: BatchOption = None,
    compiled: Annotated[
        bool | None,
        typer.Option("--compile/--no-compile", help="Compile the model, or not; if not given, when it pays."),
    ] = None,
    device: Annotated[str, typer.Option(help="Where, as torch names it.")] = "cpu",
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Every lane, .parquet or .json; or a picture, .png or .svg.")
    ] = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    settings: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Train thousands of hyperparameter points at once: Sobol points over ranges, every one with every seed."""
    from steprule import sweeps, training
    from steprule.cli import cost, options, output
    from steprule.hyper import said

    if out is not None:
        from steprule.reports import training_charts

        training_charts.check_ending(out, (".parquet", ".json"))
    taker = options.taker_of(training.resolve(rule), rule, trains=True)
    found, of = taker.what, taker.hypers
    (fixed,) = options.settings_for([taker], settings or [])
    drawn = sweeps.sobol({n: s for n, s in options.ranges_for(taker, vary or []).items() if n not in fixed}, points)
    drawn = {n: v.round() if n in of and of[n].is_whole else v for n, v in drawn.items()}
    how: dict[str, Any] = {
        "schedule": schedule, "epochs": epochs, "batch_size": batch_size, "compile": "auto" if compiled is None else compiled,
        "device": device,
    }  # fmt: skip
    known = cost.known_first("sweep", dry_run=dry_run, yes=yes, json=json)
    with known as told, output.progress("sweep") as advance:
        result = sweeps.sweep(found, on, {**fixed, **drawn}, seeds, progress=advance, told=told, measure=dry_run, **how)
    if out is not None and out.suffix.lower() in training_charts.PICTURES:
        training_charts.save(training_charts.of_sweep(result), out)
    elif out is not None:
        sweeps.save(result, out)
    if json:
        output.as_json(result.to_dict())
        return
    order = result.order[:10]
    rows = [
        (
            *(said(result.hypers[n][k].item(), 4, of.get(n)) for n in drawn),
            *(f"{v[k].mean():#.5g}" for v in result.measured.values()),
        )
        for k in order
    ]
    best = f"the best {len(order)} of {points} points" if points > 1 else "one point"
    title = f"{result.optimizer} on {result.problem}: {best} by the {result.chosen_by}"
    title += f", means of {seeds} seeds" if seeds > 1 else ""
    if len(order):
        output.say(title)
        output.table("", (*drawn, *result.measured), rows, left=())
        if scores := result.scores_of(int(order[0])):
            output.say(f"\nThe best: {scores}")
    else:
        output.say(f"{result.optimizer} on {result.problem}: no best, every point diverged with some seed.")
    for caution in result.cautions:
        output.say(f"\n{caution}")
    dead = int(result.diverged.sum())
    pays = sweeps.pays_after(found, on, result)
    pace = f"{result.lanes:,} lane{'s' if result.lanes > 1 else ''} in {result.seconds:.2f} s, {result.lanes_per_second:,.0f} a second"
    built = f", {result.compile_seconds:.2f} s of it to build the kernel" if result.compile_seconds else ""
    output.say(f"\n{pace}{built}; {result.engine}; {dead:,} of {result.lanes:,} diverged.")
    if pays is not None:
        output.say(f"Without a kernel it would have caught up after {pays:.2g} s: compiling pays beyond that.")
    if out is not None:
        output.say(f"Written: {out}")


@app.command()
def race(
    rules: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RULE...]",
            help=f"{RULE_HELP} None: the catalogue. merge DIR...: shards.",
            autocompletion=_rule_names,
        ),
    ] = None,
    on: Annotated[list[str] | None, typer.Option("--on", metavar="PROBLEM", help="What to train; repeatable.")] = None,
    trials: Annotated[
        int, typer.Option(help="Trainings a study; 0: settings as given, not tuned.", parser=_whole, metavar="N")
    ] = 64,
    seeds: Annotated[
        int | None,
        typer.Option(help="Studies, each tuned anew (5); with --trials 0 seeds (20).", parser=_whole, metavar="N"),
    ] = None,
    fresh: Annotated[int, typer.Option(help="Seeds on which winners are compared.", parser=_whole, metavar="N")] = 30,
    schedule: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SCHEDULE",
            help=f"{SCHEDULE_HELP} Repeatable; constant and linear if not given.",
            autocompletion=_schedule_names,
        ),
    ] = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[=LOW..HIGH]",
            help="Search this too, or in this range: weight_decay, clip_norm; RULE.NAME for one. Repeatable.",
        ),
    ] = None,
    matters: Annotated[
        float, typer.Option(help="The smallest difference that matters, as a share of the loss.")
    ] = 0.01,
    epochs: EpochsOption = None,
    batch_size: BatchOption = None,
    engine: Annotated[str, typer.Option(metavar="local|ray", help="Where blocks are trained.")] = "local",
    address: Annotated[str | None, typer.Option(help="Of the Ray cluster; one is started here if not given.")] = None,
    workers: Annotated[
        int | None,
        typer.Option(help="Processes of the local engine; all cores if not given.", parser=_whole, metavar="N"),
    ] = None,
    shard: Annotated[str | None, typer.Option(metavar="I/N", help="Only the I-th of N parts, from 1.")] = None,
    device: Annotated[str, typer.Option(help="Where, as torch names it.")] = "cpu",
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where results go; a folder in runs/ if not given.")
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="30m, say: the largest race, no larger than asked for, that takes about so long."
        ),
    ] = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    settings: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Tune everyone alike, confirm on fresh seeds, say which differences are real. Interrupted, it goes on where it was."""
    from steprule.cli import racing

    asked = {
        "rules": rules, "on": on, "trials": trials, "seeds": seeds, "fresh": fresh, "schedule": schedule,
        "epochs": epochs, "batch_size": batch_size, "device": device, "settings": settings, "vary": vary,
        "budget": budget,
    }  # fmt: skip
    how = {"engine": engine, "address": address, "workers": workers}
    given = {k: v for k, v in asked.items() if v is not None}
    racing.race(given, matters, how, shard, out, _typed(), json=json, dry_run=dry_run, yes=yes)


@app.command()
def check(
    rule: Annotated[
        str, typer.Argument(metavar="RULE", help=f"{RULE_HELP} Or a folder to mark.", autocompletion=_rule_names)
    ],
    against: Annotated[str | None, typer.Option(metavar="RULE", help="Find where the two part.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Of a folder: write sheet.html here.")] = None,
    seconds: Annotated[float, typer.Option(metavar="S", help="Of a folder: the time that each file has.")] = 30.0,
    json: JsonOption = False,
) -> None:
    """Judge a rule: contract, forms, dtypes, zero and huge gradients, nan, checkpoints; and which known rule it is.

    A folder with --against gives a class sheet: which files pass, where each parts, and the likely slip.

    Exit code: 0 passed (warnings too), 1 something failed or parts from --against, 2 bad input.
    """
    from steprule.checking import check as battery
    from steprule.cli import output

    if Path(rule).is_dir():
        _mark(Path(rule), against, out, seconds, json=json)
        return
    if out is not None:
        raise typer.BadParameter("--out is for a folder of files, with --against")
    report = battery(rule, against)
    if json:
        output.as_json(report.to_dict())
    else:
        output.say(str(report))
    if not report.passed:
        raise typer.Exit(1)


@app.command()
def which(
    thing: Annotated[
        str,
        typer.Argument(
            metavar="THING",
            help=f"{RULE_HELP} Or an optimizer: torch.optim:Adam, file.py:make_optimizer.",
            autocompletion=_rule_names,
        ),
    ],
    json: JsonOption = False,
) -> None:
    """Say which known rule something is, by its steps: a rule, an optimizer class, or a factory params -> optimizer."""
    from steprule.checking import which as asked
    from steprule.cli import output

    found = asked(thing)
    if json:
        output.as_json(found.to_dict())
    else:
        output.say(str(found))


@app.command()
def bench(
    optimizers: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RULE...]", help=f"{RULE_HELP} None: all that torch has.", autocompletion=_rule_names),
    ] = None,
    on: Annotated[
        str | None, typer.Option("--on", metavar="PROBLEM", help="Your own training: what a swap saves of it.")
    ] = None,
    peer: Annotated[
        str | None, typer.Option(metavar="CLASS", help="With --on: in whose place; torch's of that name, or AdamW.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Two small workloads and nothing else; some seconds.")] = False,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Also torch.compile of torch's step; minutes to compile.")
    ] = False,
    device: Annotated[str, typer.Option(metavar="cpu|cuda", help="Where the tensors lie.")] = "cpu",
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write bench.json, bench.svg, bench.png here.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Time whole steps against every form that torch has, in turn, and what they are worth in a training iteration."""
    from steprule import benching
    from steprule.cli import bench_tables, output

    if on is not None:
        _swaps(optimizers, on, peer, json=json, others=quick or compiled or device != "cpu" or out is not None)
        return
    if peer is not None:
        raise typer.BadParameter("--peer is for --on PROBLEM")
    with output.progress("bench") as advance:
        found = benching.report(
            optimizers, quick=quick, compiled=compiled, device=device, progress=lambda text: advance(0, 1, text)
        )
    if out is not None:
        from steprule.reports import speed

        speed.save(found, out)
    if json:
        output.as_json(found)
    else:
        bench_tables.show(found)


def _swaps(optimizers: list[str] | None, on: str, peer: str | None, *, json: bool, others: bool) -> None:
    """`steprule bench --on`"""
    from steprule import benching
    from steprule.cli import output

    if others:
        raise typer.BadParameter("--on takes neither --quick, --compile, --device nor --out")
    with output.progress("bench") as advance:
        whom: list[str | None] = [*(optimizers or [])] or [None]
        found = [benching.swap(one, on, peer=peer, progress=lambda text: advance(0, 1, text)) for one in whom]
    if json:
        output.as_json([swap.to_dict() for swap in found])
    else:
        output.say("\n\n".join(map(str, found)))


def _mark(folder: Path, against: str | None, out: Path | None, seconds: float, *, json: bool) -> None:
    """The class sheet of a folder."""
    from steprule.checking import mark, sheet
    from steprule.cli import output

    if against is None:
        raise typer.BadParameter(f"{folder} is a folder, to be marked: expected --against RULE")
    with output.progress("marking") as advance:
        marked = mark(folder, against, seconds=seconds, progress=advance)
    page = out / "sheet.html" if out is not None else None
    if page is not None:
        sheet.write(marked, page)
    if json:
        output.as_json(marked.to_dict())
    else:
        rows = [(m.file, m.verdict, "\n".join(text for text in (m.why, m.where) if text)) for m in marked.marks]
        output.table(f"marked against {marked.against}", ("file", "verdict", "why, and where"), rows, left=(0, 1, 2))
        output.say(f"\n{marked.verdict}" + (f"\nWritten: {page}" if page is not None else ""))
    if marked.passed < len(marked.marks):
        raise typer.Exit(1)


def _rule_record(rule: Any) -> dict[str, Any]:
    return {
        "name": rule.name,
        "summary": rule.summary,
        "hyperparameters": [
            {"name": h.name, "default": h.default, "values": h.range, "meaning": h.meaning, "letter": h.letter}
            for h in rule.hypers
        ],
        "states": [{"name": s.name, "starts": s.starts, "per_tensor": s.per_tensor} for s in rule.slots],
        "takes_step_number": rule.takes_t,
        "paper": str(rule.paper) if rule.paper else None,
    }


def _defaults(rule: Any) -> str:
    from steprule.hyper import said

    return ", ".join(f"{name}={said(value)}" for name, value in rule.defaults.items())


def _paper(rule: Any) -> str:
    return f"{rule.paper.authors.split(',')[0]} {rule.paper.year}" if rule.paper else "-"


def _fate(diverged: bool) -> str:
    return "  (diverged: no lower than at the start)" if diverged else ""


def _typed() -> list[str]:
    """The command as it was typed, for the page that repeats it."""
    return sys.argv[1:]
