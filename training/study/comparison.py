"""Is one generator's music harder to tell from real music than another's?

Every system continues the same seeds, of pieces that chose nothing
(``musebridge.training.study.systems``). Each system has classifiers of two kinds, trained to tell its
continuations from real ones; they score pieces that they were not trained on
(``musebridge.training.study.classifiers``). Intervals come from a bootstrap over pieces
whose draws all systems share (``musebridge.training.metrics.bootstrap``), so gains are
paired. Controls show what the classifiers say where there is no difference, and
where there is one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from musebridge.training.adversarial.scorer import DiscriminatorScorer
from musebridge.training.data.tokens import Tokens
from musebridge.training.metrics.bootstrap import Array, ClusterBootstrap, Estimate, estimate
from musebridge.training.metrics.classification import (
    ClassificationMetrics,
    aurocs,
    best_threshold,
    classification_metrics,
)
from musebridge.training.metrics.distances import frechet, mean_overlapping_area, mmd, standardise
from musebridge.training.metrics.diversity import distinct, self_bleu
from musebridge.training.metrics.features import notes_of, vector
from musebridge.training.metrics.likelihood import nll
from musebridge.training.metrics.memorisation import longest_runs
from musebridge.training.models.generator import Generator
from musebridge.training.study.classifiers import Classifier, Features
from musebridge.training.study.noise import jittered
from musebridge.training.study.systems import Music, WindowSet

JITTER_STEPS = 2
"""Of the control that every classifier should detect: ±20 ms."""
FRECHET, MMD, OVERLAP = "Fréchet distance", "MMD", "overlapping area"
_BLEU_OF = 256

OnProgress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What one system's music is like, beside real continuations of the same seeds.

    Attributes:
        figures: AUROC of each classifier (.5 where it cannot tell), distances of features, and their overlap.
        gains: how much better these are than those of the first system; positive is better.
        lead: how much better the second system's are than these.
        aurocs: of each classifier for each sampling.
        distinct4, self_bleu: how varied, see ``musebridge.training.metrics.diversity``; means of the samplings.
        copied_p99: 99th percentile of the longest run that a continuation shares with the training data.
    """

    figures: dict[str, Estimate]
    gains: dict[str, Estimate]
    lead: dict[str, Estimate]
    aurocs: dict[str, list[float]]
    distinct4: float
    self_bleu: float
    copied_p99: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Systems side by side: the first is to be improved on, the second should do so.

    Attributes:
        standings: of each system, by name.
        real: of the real continuations; only ``distinct4``, ``self_bleu`` and ``copied_p99`` say something.
        controls: AUROC of each classifier in each control.
        judges: the classifiers' names.
        windows, pieces, samplings: how many were compared.
        bleu_of: continuations of which self-BLEU is taken.
    """

    standings: dict[str, Standing]
    real: dict[str, float]
    controls: dict[str, dict[str, Estimate]]
    judges: list[str]
    windows: int
    pieces: int
    samplings: int
    bleu_of: int


def compare(
    written: dict[str, list[Tokens]],
    music: Music,
    train: npt.NDArray[np.uint16],
    classifiers: list[Classifier],
    control_classifiers: list[Classifier],
    *,
    resamples: int = 500,
    on_stage: OnProgress = lambda stage, share: None,
) -> Comparison:
    """Compare systems by what they wrote.

    Args:
        written: for each system its continuations of ``music.reported``, one array (N, T) for each sampling.
        music: the real music.
        train: the packed split that the generators were trained on.
        classifiers: of each kind one.
        control_classifiers: the same, perhaps trained more briefly, for the controls.
        resamples: of the bootstrap.
        on_stage: told what is done and its share, 0..1.
    """
    bootstrap = ClusterBootstrap(music.reported.piece_N, resamples=resamples)
    on_stage("measuring features", 0.0)
    value_R = _feature_distances(written, music, bootstrap, partial(on_stage, "measuring features"))
    controls: dict[str, dict[str, Estimate]] = {}
    auroc: dict[str, dict[str, list[float]]] = {name: {} for name in written}
    for classifier, control_classifier in zip(classifiers, control_classifiers, strict=True):
        test = ClassifierTwoSampleTest(classifier, control_classifier, written, music, bootstrap, on_stage)
        for name, samplings in test.aurocs().items():
            auroc[name][classifier.name] = [float(sampling_R[0]) for sampling_R in samplings]
            value_R[name] = {classifier.name: np.mean(samplings, axis=0), **value_R[name]}
        for name, found in test.controls().items():
            controls.setdefault(name, {})[classifier.name] = found
    copied = _copied(written, music, train, partial(on_stage, "looking for copies"))
    on_stage("measuring variety", 0.0)
    real_NT = music.reported.window_NT[:, music.window.seed_length :]
    return Comparison(
        standings=_standings(written, value_R, auroc, copied),
        real={"distinct4": distinct(real_NT, 4), "self_bleu": self_bleu(real_NT[:_BLEU_OF]), "copied_p99": copied[""]},
        controls=controls,
        judges=[classifier.name for classifier in classifiers],
        windows=bootstrap.windows,
        pieces=bootstrap.pieces,
        samplings=len(next(iter(written.values()))),
        bleu_of=min(_BLEU_OF, bootstrap.windows),
    )


def _standings(
    written: dict[str, list[Tokens]],
    value_R: dict[str, dict[str, Array]],
    auroc: dict[str, dict[str, list[float]]],
    copied: dict[str, float],
) -> dict[str, Standing]:
    """Set each system beside the first two."""
    first, second = [*value_R.values()][:2]
    return {
        name: Standing(
            figures={what: estimate(values) for what, values in own.items()},
            gains=_gains(own, first),
            lead=_gains(second, own),
            aurocs=auroc[name],
            distinct4=float(np.mean([distinct(fake_NT, 4) for fake_NT in written[name]])),
            self_bleu=float(np.mean([self_bleu(fake_NT[:_BLEU_OF]) for fake_NT in written[name]])),
            copied_p99=copied[name],
        )
        for name, own in value_R.items()
    }


def _gains(of: dict[str, Array], over: dict[str, Array]) -> dict[str, Estimate]:
    """Return how much better one system's figures are than another's; less is better, but of the overlap."""
    sign = {what: 1 if what == OVERLAP else -1 for what in of}
    return {what: estimate(sign[what] * (of[what] - over[what])) for what in of}


def _feature_distances(
    written: dict[str, list[Tokens]], music: Music, bootstrap: ClusterBootstrap, on_progress: Callable[[float], None]
) -> dict[str, dict[str, Array]]:
    """Return distances and overlap of each system's features, means of its samplings."""

    def vectors(part_NT: Tokens) -> Array:
        return np.stack([vector(notes_of(part_T)) for part_T in part_NT])

    real_NF = vectors(music.reported.window_NT[:, music.window.seed_length :])
    found = {}
    for i, (name, samplings) in enumerate(written.items()):
        rows: dict[str, list[Array]] = {FRECHET: [], MMD: [], OVERLAP: []}
        for plain_NF in map(vectors, samplings):
            real, fake = standardise(real_NF, plain_NF)
            rows[FRECHET].append(frechet(real, fake, bootstrap))
            rows[MMD].append(mmd(real, fake, bootstrap))
            rows[OVERLAP].append(mean_overlapping_area(real_NF, plain_NF, bootstrap))
        found[name] = {what: np.mean(values, axis=0) for what, values in rows.items()}
        on_progress((i + 1) / len(written))
    return found


class ClassifierTwoSampleTest:
    """One kind of classifier, trained to tell each system from real music (Lopez-Paz and Oquab 2017)."""

    def __init__(
        self,
        classifier: Classifier,
        control_classifier: Classifier,
        written: dict[str, list[Tokens]],
        music: Music,
        bootstrap: ClusterBootstrap,
        on_stage: OnProgress,
    ) -> None:
        self._classifier, self._control_classifier, self._bootstrap, self._on_stage = (
            classifier,
            control_classifier,
            bootstrap,
            on_stage,
        )
        self._music, self._reported = music, music.reported
        self._real, self._more = (self._featurize(part.window_NT) for part in (music.reported, music.more))
        self._fakes = {name: [self._featurize(self._behind(x)) for x in parts] for name, parts in written.items()}

    def aurocs(self) -> dict[str, list[Array]]:
        """Return for each system and sampling the AUROC in each draw.

        Each system has a classifier of its own (Lopez-Paz and Oquab 2017, "Revisiting Classifier Two-Sample Tests").
        One for all would detect best what most of them have in common; what it says of one depends on the others.
        """
        return {name: self._told_from_real(name, samplings) for name, samplings in self._fakes.items()}

    def _told_from_real(self, name: str, samplings: list[Features]) -> list[Array]:
        piece_N, more_M = self._reported.piece_N, self._music.more.piece_N
        judged = len(piece_N) * (1 + len(samplings))
        score_M = self._classifier.cross_fitted(
            np.concatenate([self._real, *samplings, self._more]),
            np.r_[_flags(len(piece_N), judged), np.ones(len(more_M), np.bool_)],
            np.concatenate([np.tile(piece_N, 1 + len(samplings)), more_M]),
            asked_M=_flags(judged, judged + len(more_M)),
            on_progress=partial(self._on_stage, f"training the {self._classifier.name}: {name}"),
        )
        real_N, *fakes = np.split(score_M, 1 + len(samplings))
        return [aurocs(real_N, fake_N, self._bootstrap) for fake_N in fakes]

    def controls(self) -> dict[str, Estimate]:
        """Return the AUROC where there is no difference, twice, and where there is one."""
        rng = np.random.default_rng(0)
        first, piece_N = next(iter(self._fakes.values()))[0], self._reported.piece_N
        swapped_N1 = (rng.random(len(piece_N)) < 0.5).reshape(-1, *[1] * (first.ndim - 1))
        one, other = (np.where(swapped_N1, *pair) for pair in ((self._real, first), (first, self._real)))
        moved, more_moved = (self._featurize(self._jittered(part, rng)) for part in (self._reported, self._music.more))
        every = np.concatenate([self._real, self._more])
        piece_M = np.concatenate([piece_N, self._music.more.piece_N])
        order = np.argsort(piece_M, kind="stable")[: 2 * (len(piece_M) // 2)]
        halves = order[::2], order[1::2]  # neighbours: mostly of the same piece
        return {
            "real against real": self._control(every[halves[0]], every[halves[1]], piece_M[halves[0]]),
            "shuffled labels": self._control(one, other, piece_N),
            "±20 ms of jitter": self._control(every, np.concatenate([moved, more_moved]), piece_M, asked=len(piece_N)),
        }

    def _control(self, one: Features, other: Features, piece_N: Tokens, *, asked: int | None = None) -> Estimate:
        """Return the AUROC of a classifier that is trained to tell one from other; of the first ``asked`` of each."""
        asked_N = _flags(len(piece_N) if asked is None else asked, len(piece_N))
        score_M = self._control_classifier.cross_fitted(
            np.concatenate([one, other]),
            _flags(len(one), 2 * len(one)),
            np.tile(piece_N, 2),
            asked_M=np.tile(asked_N, 2),
            on_progress=partial(self._on_stage, f"controls of the {self._classifier.name}"),
        )
        real_N, fake_N = np.split(score_M, 2)
        return estimate(aurocs(real_N, fake_N, ClusterBootstrap(piece_N[asked_N])), most=1)

    def _jittered(self, part: WindowSet, rng: np.random.Generator) -> Iterable[Tokens]:
        """Give windows whose continuations begin and end their notes a little earlier or later, and are as long."""
        seed_length, length = self._music.window.seed_length, self._music.window.length
        for window_T in part.window_NT:
            yield np.concatenate([window_T[:seed_length], jittered(window_T[seed_length:], JITTER_STEPS, rng)])[:length]

    def _behind(self, fake_NT: Tokens) -> Tokens:
        """Return windows that end in these continuations."""
        return np.concatenate([self._reported.window_NT[:, : self._music.window.seed_length], fake_NT], 1)

    def _featurize(self, windows: Iterable[Tokens]) -> Features:
        self._on_stage(f"reading for the {self._classifier.name}", 0.0)
        return np.stack([self._classifier.featurize(window_T, self._music.window.seed_length) for window_T in windows])


def _flags(count: int, of: int) -> npt.NDArray[np.bool_]:
    """Return ``count`` times True, then False."""
    return np.arange(of) < count


def _copied(
    written: dict[str, list[Tokens]],
    music: Music,
    train: npt.NDArray[np.uint16],
    on_progress: Callable[[float], None],
) -> dict[str, float]:
    """Return the 99th percentile of the longest run that a continuation shares with the training data; "" is real."""
    on_progress(0.0)
    sets = {"": [music.reported.window_NT[:, music.window.seed_length :]], **written}
    runs = iter(longest_runs(train, [part_T for parts in sets.values() for part_NT in parts for part_T in part_NT]))
    return {
        name: float(np.percentile([next(runs) for part_NT in parts for _ in part_NT], 99))
        for name, parts in sets.items()
    }


def likelihoods(
    generators: dict[str, Generator],
    tokens: npt.NDArray[np.uint16],
    limit: int | None,
    on_progress: Callable[[float], None] = lambda _: None,
) -> dict[str, float]:
    """Return the nats per token of each generator, with half its context warm."""
    found = {}
    for i, (name, generator) in enumerate(generators.items()):
        found[name] = nll(generator, tokens, warm=generator.config.context // 2, limit=limit)
        on_progress((i + 1) / len(generators))
    return found


def metrics_of(discriminator: DiscriminatorScorer, fake_NT: Tokens, music: Music) -> ClassificationMetrics:
    """Return how well a discriminator does; each half of the pieces sets the other's threshold."""
    part, seed_length = music.reported, music.window.seed_length
    seed_NT, real_NT = (torch.from_numpy(x) for x in np.split(part.window_NT, [seed_length], 1))
    real_N, fake_N = (discriminator(seed_NT, x).double().numpy() for x in (real_NT, torch.from_numpy(fake_NT)))
    half_N = np.unique(part.piece_N, return_inverse=True)[1] % 2 == 0
    threshold_N = np.where(
        half_N, best_threshold(real_N[~half_N], fake_N[~half_N]), best_threshold(real_N[half_N], fake_N[half_N])
    )
    return classification_metrics(real_N - threshold_N, fake_N - threshold_N, part.piece_N)
