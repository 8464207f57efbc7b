"""The evaluation protocol from end to end: does a fine-tuned generator beat the pre-trained one?"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

from musebridge.errors import ConfigError
from musebridge.training.adversarial.scorer import DiscriminatorScorer, load_scorer, scorer_of
from musebridge.training.adversarial.trained_discriminator import TrainedDiscriminator
from musebridge.training.data.corpus import Corpus
from musebridge.training.data.tokens import Tokens
from musebridge.training.models.checkpoint import WEIGHTS, hash_of, load
from musebridge.training.models.generator import Generator
from musebridge.training.sampling.pairs import Window
from musebridge.training.study.classifiers import classifiers, shorter
from musebridge.training.study.comparison import compare, likelihoods, metrics_of
from musebridge.training.study.comparison_report import Findings, Model
from musebridge.training.study.note_transformer import TransformerTraining
from musebridge.training.study.sweep import Tried, sweep
from musebridge.training.study.systems import Music, System, real_music

PRETRAINED, FINE_TUNED = "pre-trained", "fine-tuned"
_CONTROL_SHARE = 1 / 3
"""Of the transformer's training steps, for each control."""
_FEWEST = 4

OnProgress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to compare, and how closely.

    Attributes:
        fine_tuned, pretrained: run folders, or weights.
        rivals: further weights that the fine-tuned ones must beat, by name.
        discriminator: its folder, or one that was exported and trained on one of the two generators, or None: then
            nothing is picked by it, and its metrics are not measured.
        candidates: continuations of which it picks one.
        split: of the corpus.
        windows: seeds to continue, or as many as there are.
        samplings: continuations of each.
        sweep: windows of the first round in the search for the best sampler setting; 0 for no search.
        limit: score the likelihood of about this many tokens; None for the whole split.
        window: lengths of seed and continuation.
        training: of the transformer that classifies.
    """

    fine_tuned: Path
    pretrained: Path
    rivals: dict[str, Path] = field(default_factory=dict)
    discriminator: Path | TrainedDiscriminator | None = None
    candidates: int = 8
    split: str = "validation"
    windows: int = 1024
    samplings: int = 1
    sweep: int = 0
    limit: int | None = None
    window: Window = field(default_factory=Window)
    training: TransformerTraining = field(default_factory=TransformerTraining)

    def __post_init__(self) -> None:
        if taken := {PRETRAINED, FINE_TUNED} & set(self.rivals):
            raise ConfigError(f"a rival needs another name than {sorted(taken)[0]!r}")
        if self.sweep == 1 or self.windows < _FEWEST:
            raise ConfigError(f"at least {_FEWEST} windows are needed, and 2 for a sweep")


class _Stages:
    """Tells where the work is, and notes what each stage took."""

    def __init__(self, on_stage: OnProgress) -> None:
        self._on_stage, self._stage, self._since_s = on_stage, "", time.monotonic()
        self.seconds: dict[str, float] = {}

    def __call__(self, stage: str, share: float) -> None:
        """Tell; the time since it was last told belongs to the stage of that time."""
        now_s = time.monotonic()
        if self._stage:
            self.seconds[self._stage] = self.seconds.get(self._stage, 0.0) + now_s - self._since_s
        self._stage, self._since_s = stage, now_s
        self._on_stage(stage, share)


def run(
    plan: Plan, corpus: Corpus, folder: Path, command: str, *, on_stage: OnProgress = lambda stage, share: None
) -> Findings:
    """Sample, judge and measure; what was sampled is kept in ``folder`` / samples.

    Args:
        plan: what to compare.
        corpus: packed tokens.
        folder: of the report.
        command: for the report.
        on_stage: told what is done and its share, 0..1.

    Raises:
        CheckpointError: weights or discriminator cannot be read.
        ConfigError: the windows do not fit a generator's context, or the discriminator.
        CorpusError: the split has too few pieces.
    """
    stages, window = _Stages(on_stage), plan.window
    music = real_music(corpus.splits[plan.split], window, plan.windows)
    paths = {PRETRAINED: plan.pretrained, FINE_TUNED: plan.fine_tuned, **plan.rivals}
    generators = {name: _fitting(path, window) for name, path in paths.items()}
    picker = _picker(plan, [generators[name] for name in (PRETRAINED, FINE_TUNED)])
    compared = _line_up(plan, generators, picker, music, folder / "samples", stages)
    written = _sampled(plan, compared.systems, music, folder / "samples", stages)
    stages("likelihood", 0.0)
    nll = likelihoods(generators, corpus.splits[plan.split], plan.limit, partial(stages, "likelihood"))
    metrics = None
    if picker:
        stages("the discriminator's metrics", 0.0)
        metrics = metrics_of(picker, written[compared.trained_on][0], music)
    both = [classifiers(plan.training), classifiers(shorter(plan.training, _CONTROL_SHARE))]
    comparison = compare(written, music, corpus.splits["train"], *both, on_stage=stages)
    stages("the report", 0.0)
    return Findings(
        command=command,
        corpus={"name": str(corpus.card["name"]), "split": plan.split, "sha256": corpus.sha256},
        window=asdict(window),
        models={system.name: _model(system, paths) for system in compared.systems},
        comparison=comparison,
        nll=nll,
        nll_tokens=plan.limit,
        discriminator=metrics,
        tried=compared.tried,
        rivals=compared.rivals,
        trained_on=compared.trained_on,
        picked=compared.picked,
        seconds=stages.seconds,
    )


def _sampled(plan: Plan, systems: list[System], music: Music, folder: Path, stages: _Stages) -> dict[str, list[Tokens]]:
    """Return the continuations of each system, one array for each sampling."""
    written = {}
    for system in systems:
        tell = partial(stages, f"sampling: {system.name}")
        tell(0.0)
        written[system.name] = [
            system.continuations(music.reported, plan.window, folder, seed=seed, on_progress=tell)
            for seed in range(plan.samplings)
        ]
    return written


@dataclass(slots=True, kw_only=True)
class _Field:
    """Who is compared.

    Attributes:
        systems: the first is to be improved on, the second should do so.
        rivals: names of those that the second must beat.
        trained_on: name of the one that the discriminator was trained on, and is measured against; of the first two.
        picked: name of what it picks from that one's continuations.
        tried: the sampler settings that were tried, the best first.
    """

    systems: list[System]
    rivals: list[str]
    trained_on: str = PRETRAINED
    picked: str | None = None
    tried: list[Tried] = field(default_factory=list)


def _line_up(
    plan: Plan,
    generators: dict[str, Generator],
    picker: DiscriminatorScorer | None,
    music: Music,
    samples: Path,
    told: OnProgress,
) -> _Field:
    found = _Field(systems=[System(name=name, generator=g) for name, g in generators.items()], rivals=[*plan.rivals])
    plain = found.systems[0]
    if plan.sweep:
        tell = partial(told, "searching the best sampler setting")
        tell(0.0)
        found.tried = sweep(plain, music.choosing, plan.window, samples, first=plan.sweep, on_progress=tell)
        best = found.tried[0].truncation
        found.systems.append(replace(plain, name=f"{PRETRAINED}, {best}", truncation=best))
        found.rivals.insert(0, found.systems[-1].name)
    if picker:
        knows = hash_of(picker.generator)
        trained_on = next((system for system in found.systems[:2] if hash_of(system.generator) == knows), plain)
        found.trained_on, found.picked = trained_on.name, f"{trained_on.name}, best of {plan.candidates}"
        found.systems.append(replace(trained_on, name=found.picked, n=plan.candidates, pick=picker))
    return found


def _picker(plan: Plan, generators: list[Generator]) -> DiscriminatorScorer | None:
    if isinstance(plan.discriminator, TrainedDiscriminator):
        return scorer_of(plan.discriminator, generators, plan.window)
    return load_scorer(plan.discriminator, plan.window) if plan.discriminator else None


def _fitting(path: Path, window: Window) -> Generator:
    generator = load(path)[0]
    if window.length > generator.config.context:
        raise ConfigError(
            f"{path}: seeds and continuations must fit {generator.config.context} tokens of context, "
            f"found {window.length}"
        )
    return generator


def _model(system: System, paths: dict[str, Path]) -> Model:
    path = paths.get(system.name.removesuffix(f", best of {system.n}"), paths[PRETRAINED])
    weights = path / WEIGHTS if path.is_dir() else path
    picked = f", best of {system.n} by the discriminator" if system.n > 1 else ""
    return Model(
        path=str(path),
        sha256=hashlib.sha256(weights.read_bytes()).hexdigest(),
        sampling=f"{system.truncation}{picked}",
    )
