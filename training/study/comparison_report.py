"""The report of a comparison: what was claimed, what was measured, and whether that is enough.

Claims and thresholds are fixed here, before anything is measured.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from musebridge.report import report_in, table
from musebridge.training.metrics.bootstrap import Estimate
from musebridge.training.metrics.classification import ClassificationMetrics
from musebridge.training.study.comparison import FRECHET, MMD, OVERLAP, Comparison, Standing
from musebridge.training.study.plots import axes_of
from musebridge.training.study.sweep import Tried

NLL_RISE, WITHIN = 0.05, 0.05
_LEVELS = ("pass", "good", "outstanding")


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """Where a system's weights are from, and how they are sampled."""

    path: str
    sha256: str
    sampling: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """All that the report tells.

    Attributes:
        command: that made it.
        corpus: name, sha256 and split.
        window: lengths of seed and continuation.
        models: of each system.
        comparison: what was measured.
        nll: nats per token of each set of weights, by the first system that has them.
        nll_tokens: how many were scored.
        discriminator: its skill against the system ``trained_on``, or None.
        tried: of the sweep, the best first.
        rivals: systems that the second one must beat as well, beside the first.
        trained_on: which of the first two the discriminator was trained on.
        picked: the system whose continuations it picked among that one's, or None.
        seconds: what each stage took.
    """

    command: str
    corpus: dict[str, str]
    window: dict[str, int]
    models: dict[str, Model]
    comparison: Comparison
    nll: dict[str, float]
    nll_tokens: int | None
    discriminator: ClassificationMetrics | None
    tried: list[Tried]
    rivals: list[str]
    trained_on: str
    picked: str | None
    seconds: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A line of the protocol; ``verdict`` is ``fail``, a level, or ``not measured``."""

    claim: str
    wanted: str
    measured: str
    verdict: str


def claims(findings: Findings) -> list[Claim]:
    """Return every line of the protocol, measured or not."""
    comparison = findings.comparison
    first, second = [*comparison.standings.values()][:2]
    return [
        *_discriminator_claims(findings),
        *(_gain_claim(f"judged by {name}", second.gains[name]) for name in comparison.judges),
        *(_distance_claim(what, first, second) for what in (FRECHET, MMD)),
        _overlap_claim(second.gains[OVERLAP]),
        *_picked_claims(findings),
        *_rival_claims(findings),
        *_conservation_claims(findings, first, second),
        _copy_claim(comparison, second),
        *_control_claims(comparison),
    ]


def _text(what: str, found: Estimate) -> str:
    """Return a figure with its interval; MMD is small."""
    return f"{found.value:.4f} [{found.low:.4f}, {found.high:.4f}]" if what == MMD else str(found)


def _level(value: float, thresholds: Sequence[float], *, holds: bool = True) -> str:
    reached = sum(value >= threshold for threshold in thresholds)
    return _LEVELS[reached - 1] if holds and reached else "fail"


def _discriminator_claims(findings: Findings) -> list[Claim]:
    metrics = findings.discriminator
    rows = (
        ("AUROC", "auroc", (0.75, 0.85, 0.95)),
        ("macro-F1", "macro_f1", (0.68, 0.77, 0.9)),
        ("MCC", "mcc", (0.35, 0.55, 0.8)),
    )
    made = []
    for name, field, levels in rows:
        found: Estimate | None = getattr(metrics, field) if metrics else None
        made.append(
            Claim(
                claim=f"the discriminator against {findings.trained_on}, {name}",
                wanted=f"≥ {levels[0]}",
                measured=str(found) if found else "",
                verdict=_level(found.value, levels) if found else "not measured",
            )
        )
    return made


def _gain_claim(claim: str, gain: Estimate, levels: Sequence[float] = (0.03, 0.06, 0.1)) -> Claim:
    return Claim(
        claim=f"{claim}: fall of AUROC",
        wanted=f"≥ {levels[0]}, interval above 0" if levels[0] else "interval above 0",
        measured=str(gain),
        verdict=_level(gain.value, levels, holds=gain.low > 0),
    )


def _distance_claim(what: str, first: Standing, second: Standing) -> Claim:
    gain, before = second.gains[what], first.figures[what].value
    share = gain.value / before if before > 0 else float("nan")
    return Claim(
        claim=f"{what} falls",
        wanted="interval above 0",
        measured=f"{_text(what, gain)} ({-share:+.0%})",
        verdict=_level(share, (0.0, 0.2, 0.5), holds=gain.low > 0),
    )


def _overlap_claim(gain: Estimate) -> Claim:
    return Claim(
        claim="mean overlapping area of 8 features is not lower",
        wanted="≥ 0",
        measured=str(gain),
        verdict=_level(gain.value, (0.0, 0.02)),
    )


def _picked_claims(findings: Findings) -> list[Claim]:
    if findings.picked is None:
        return [Claim(claim="best of n by the discriminator", wanted="≥ 0.03", measured="", verdict="not measured")]
    picked, first = findings.comparison.standings[findings.picked], next(iter(findings.comparison.standings))
    gains = picked.gains if findings.trained_on == first else {what: -lead for what, lead in picked.lead.items()}
    return [_gain_claim(f"{findings.picked}: {name}", gains[name], (0.03, 0.06)) for name in findings.comparison.judges]


def _rival_claims(findings: Findings) -> list[Claim]:
    standings = findings.comparison.standings
    made = [
        _gain_claim(f"it beats {rival}: {judge}", standings[rival].lead[judge], (0.0,))
        for rival in findings.rivals
        for judge in findings.comparison.judges
    ]
    missing = [] if findings.tried else ["it beats the best sampler setting of the first system"]
    if len(findings.rivals) <= bool(findings.tried):
        missing.append("it beats as much more training by cross-entropy")
    return made + [Claim(claim=c, wanted="interval above 0", measured="", verdict="not measured") for c in missing]


def _conservation_claims(findings: Findings, first: Standing, second: Standing) -> list[Claim]:
    before, after = [*findings.nll.values()][:2]
    made = [
        Claim(
            claim="rise of NLL, nats per token",
            wanted=f"≤ {NLL_RISE}",
            measured=f"{after - before:+.4f} (from {before:.4f})",
            verdict="pass" if after - before <= NLL_RISE else "fail",
        )
    ]
    for name, field in (("distinct-4", "distinct4"), ("self-BLEU", "self_bleu")):
        old, new = getattr(first, field), getattr(second, field)
        made.append(
            Claim(
                claim=f"{name} stays",
                wanted=f"within {WITHIN:.0%}",
                measured=f"{new / old - 1:+.1%} (from {old:.3f})" if old else f"{new:.3f} (from 0)",
                verdict="pass" if abs(new - old) <= WITHIN * old else "fail",
            )
        )
    return made


def _copy_claim(comparison: Comparison, second: Standing) -> Claim:
    limit = comparison.real["copied_p99"]
    return Claim(
        claim="longest run copied from train, 99th percentile",
        wanted=f"≤ {limit:.0f}, as of real music",
        measured=f"{second.copied_p99:.0f}",
        verdict="pass" if second.copied_p99 <= limit else "fail",
    )


def _control_claims(comparison: Comparison) -> list[Claim]:
    tests: dict[str, tuple[str, Callable[[Estimate], bool]]] = {
        "real against real": ("0.48–0.52", lambda found: 0.48 <= found.value <= 0.52),
        "shuffled labels": ("interval holds 0.5", lambda found: found.low <= 0.5 <= found.high),
        "±20 ms of jitter": ("≥ 0.95", lambda found: found.value >= 0.95),
    }
    return [
        Claim(
            claim=f"control, {name}: {judge}, AUROC",
            wanted=tests[name][0],
            measured=str(found),
            verdict="pass" if tests[name][1](found) else "fail",
        )
        for name, of_judges in comparison.controls.items()
        for judge, found in of_judges.items()
    ]


def write_report(findings: Findings, folder: Path) -> Path:
    """Write ``comparison.md``, its pictures, and ``comparison.json`` with every number.

    Raises:
        ReportError: the folder cannot be written.
    """
    page = folder / "comparison.md"
    made = claims(findings)
    numbers = {"claims": [asdict(claim) for claim in made], **asdict(findings)}
    with report_in(folder):
        (folder / "comparison.json").write_text(json.dumps(numbers, indent=2) + "\n", "utf-8")
        _draw_figures(
            findings.comparison, findings.comparison.judges, "AUROC (0.5: cannot tell)", folder / "judges.png"
        )
        _draw_figures(findings.comparison, [FRECHET], FRECHET, folder / "frechet.png")
        page.write_text(_page(findings, made), "utf-8")
    return page


def _page(findings: Findings, made: list[Claim]) -> str:
    c = findings.comparison
    first, second = [*c.standings][:2]
    count = {verdict: sum(claim.verdict == verdict for claim in made) for verdict in ("fail", "not measured")}
    return "\n".join(
        [
            f"# {second} beside {first}",
            "",
            f"`{findings.command}`",
            "",
            "Corpus {name}, {split} split, sha256 `{sha256}`.".format(**findings.corpus),
            f"All systems continue the same {c.windows:,} seeds of {c.pieces} pieces, which chose nothing, "
            f"{f'{c.samplings} times' if c.samplings > 1 else 'once'}: "
            f"{findings.window['seed_length']} tokens, then {findings.window['continuation_length']}.",
            "Intervals hold 95 % of a bootstrap over pieces; gains are paired, and positive is better. Each system has",
            "classifiers of its own, trained to tell it from real music. They score pieces that they were not trained",
            "on, and took no part in any training or choice.",
            "",
            f"**{len(made) - sum(count.values())} of {len(made)} lines of the protocol hold, {count['fail']} fail, "
            f"{count['not measured']} were not measured.**",
            "",
            *table(
                ("claim", "wanted", "measured", "verdict"), [(x.claim, x.wanted, x.measured, x.verdict) for x in made]
            ),
            "",
            "## Systems",
            "",
            *table(
                ("system", "weights", "sha256", "sampling"),
                [(n, m.path, f"`{m.sha256[:16]}…`", m.sampling) for n, m in findings.models.items()],
            ),
            "",
            *_figure_tables(c),
            "",
            *_side_table(findings),
            *_sweep_lines(findings.tried),
            "",
            "![AUROC of the judges](judges.png)",
            "",
            "![Fréchet distance](frechet.png)",
            "",
            "Seconds: " + ", ".join(f"{stage} {seconds:.0f}" for stage, seconds in findings.seconds.items()) + ".",
            "",
        ]
    )


def _figure_tables(c: Comparison) -> list[str]:
    whats = [*c.judges, FRECHET, MMD, OVERLAP]
    names = [f"AUROC, {what}" if what in c.judges else what for what in whats]
    first, second = [*c.standings][:2]
    rows = [(name, *(_text(what, s.figures[what]) for what in whats)) for name, s in c.standings.items()]
    gains = [(n, *(_text(what, s.gains[what]) for what in whats)) for n, s in c.standings.items() if n != first]
    leads = [(n, *(_text(what, s.lead[what]) for what in whats)) for n, s in c.standings.items() if n != second]
    samplings = [
        (name, *(", ".join(f"{value:.3f}" for value in s.aurocs[judge]) for judge in c.judges))
        for name, s in c.standings.items()
    ]
    lines = [*table(("system", *names), rows), "", *table((f"gain over {first}", *names), gains), ""]
    lines += table((f"lead of {second} over", *names), leads)
    if c.samplings > 1:
        lines += ["", *table(("each sampling", *c.judges), samplings)]
    return lines


def _side_table(findings: Findings) -> list[str]:
    c = findings.comparison
    rows: list[tuple[str, ...]] = [
        (
            name,
            f"{findings.nll[name]:.4f}" if name in findings.nll else "–",
            f"{s.distinct4:.3f}",
            f"{s.self_bleu:.3f}",
            f"{s.copied_p99:.0f}",
        )
        for name, s in c.standings.items()
    ]
    rows.append(("real", "–", *(f"{c.real[k]:.3f}" for k in ("distinct4", "self_bleu")), f"{c.real['copied_p99']:.0f}"))
    scored = f"{findings.nll_tokens:,} tokens" if findings.nll_tokens else "the whole split"
    return table(("system", f"NLL on {scored}", "distinct-4", f"self-BLEU of {c.bleu_of}", "copied run, p99"), rows)


def _sweep_lines(tried: list[Tried]) -> list[str]:
    if not tried:
        return []
    rows = [(str(t.truncation), str(t.windows), f"{t.auroc:.3f}") for t in tried]
    return [
        "",
        "## Sampler settings of the first system",
        "",
        "Chosen on other pieces than all above, by a logistic regression on the generator's own surprise.",
        "",
        *table(("setting", "windows", "AUROC"), rows),
    ]


def _draw_figures(comparison: Comparison, whats: list[str], label: str, path: Path) -> None:
    drawing, axes = axes_of(label, "")
    names = [*comparison.standings]
    for i, what in enumerate(whats):
        found = [comparison.standings[name].figures[what] for name in names]
        value = np.array([f.value for f in found])
        reach = np.abs(np.array([[f.low, f.high] for f in found]).T - value)
        place = np.arange(len(names)) + (i - (len(whats) - 1) / 2) * 0.2
        axes.errorbar(value, place, xerr=reach, fmt="o", capsize=4, label=what)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    if len(whats) > 1:
        axes.legend()
    drawing.savefig(path)
