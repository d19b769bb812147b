"""Counts and gauges as the families that Prometheus knows. Importing it takes a tenth of a second: not at the start."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate, product

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from pillarbox.core import errors
from pillarbox.core.delivery import Purpose, State
from pillarbox.store.counts import Pile, Standing
from pillarbox.telemetry import ATTEMPTS, COUNTERS, HISTOGRAMS, OUTCOMES, TURNED_AWAY, Counter, Counts, Histogram
from pillarbox.wording import accepted_languages

_COUNTED_LETTERS = {
    State.WAITING: "Letters that wait to be sent.",
    State.HELD: "Letters of messages that are held as spam.",
    State.FAILED: "Letters that failed for good and wait for a person.",
}
_OPENMETRICS = "application/openmetrics-text"
_LETTER_LABELS = ("way", "purpose")


class Families(Collector):
    """The families of one moment."""

    def __init__(self, *families: Metric) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        """Return them."""
        return self._families


def families(counts: Counts, standing: Standing, *, ways: Iterable[str], is_up: bool, now: float) -> Families:
    """Return every figure. Ways out that only the store knows are added to those named."""
    seen = (way.name for way in standing.shut), (pile.way for pile in standing.letters)
    names = tuple(dict.fromkeys((*ways, *seen[0], *seen[1])))
    return Families(
        _store(is_up=is_up),
        *(_counter(counter, counts, names) for counter in COUNTERS),
        *(_histogram(histogram, counts, names) for histogram in HISTOGRAMS),
        *_letters(standing, names, now),
        *_trouble(standing, names),
    )


def no_store() -> Families:
    """Return all that is known while the store can't be read."""
    return Families(_store(is_up=False))


def written(found: Families, accept: str) -> tuple[bytes, str]:
    """Return the figures in the format that an Accept header prefers, and its media type: OpenMetrics 1.0 or plain."""
    known = (one.partition(";")[0].strip() for one in accepted_languages(accept))  # the same grammar: names and weights
    wanted = next((one for one in known if one in {_OPENMETRICS, "text/plain"}), "")
    # What else the header says is not handed on: the library breaks down over a version that is none.
    encode, media_type = choose_encoder(f"{_OPENMETRICS}; version=1.0.0" if wanted == _OPENMETRICS else "")
    return encode(found), media_type


def _store(*, is_up: bool) -> Metric:
    return GaugeMetricFamily("pillarbox_store_up", "1 while messages can be kept.", float(is_up))


def _counter(counter: Counter, counts: Counts, ways: Iterable[str]) -> Metric:
    family = CounterMetricFamily(counter.name, counter.meaning, labels=counter.labels)
    found = dict.fromkeys(_expected(counter, ways), 0.0)
    for (name, labels), number in counts.items():
        if name == counter.name and tuple(label for label, _ in labels) == counter.labels:
            found[tuple(value for _, value in labels)] = number
    for values, number in found.items():
        family.add_metric(values, number)
    return family


def _expected(counter: Counter, ways: Iterable[str]) -> Iterable[tuple[str, ...]]:
    """Return the label values with which a counter begins at 0: no rate shows a rise from nothing."""
    if counter is ATTEMPTS:
        return product(OUTCOMES, Purpose, ways)
    if counter is TURNED_AWAY:
        return ((code,) for code in (*errors.FIELD_SENTENCES, *_codes_of_posts()))
    return ()


def _codes_of_posts() -> Iterator[str]:
    for error in errors.PillarboxError.__subclasses__():
        if error not in {errors.InvalidFields, errors.MailFailing}:  # known by its fields' codes; says no post
            yield error.code


def _histogram(histogram: Histogram, counts: Counts, ways: Iterable[str]) -> Metric:
    family = HistogramMetricFamily(histogram.name, histogram.meaning, labels=histogram.labels)
    bounds = [*map(str, histogram.bounds), "+Inf"]
    expected: list[tuple[str, ...]] = [(way,) for way in ways] if histogram.labels else [()]
    found: dict[tuple[str, ...], dict[str, float]] = {values: dict.fromkeys(bounds, 0.0) for values in expected}
    for (name, labels), number in counts.items():
        if name == f"{histogram.name}_bucket" and tuple(label for label, _ in labels) == (*histogram.labels, "le"):
            *values, bound = (value for _, value in labels)
            # Another version's bounds stand beside ours: counted up, both stay true.
            found.setdefault(tuple(values), dict.fromkeys(bounds, 0.0))[bound] = number
    for key, buckets in found.items():
        ordered = sorted(buckets, key=float)
        summed = counts.get((f"{histogram.name}_sum", tuple(zip(histogram.labels, key, strict=True))), 0.0)
        running = accumulate(buckets[bound] for bound in ordered)
        family.add_metric(key, list(zip(ordered, running, strict=True)), summed)
    return family


def _letters(standing: Standing, ways: Iterable[str], now: float) -> Iterator[Metric]:
    piles: Mapping[tuple[str, ...], Pile] = {(pile.state, pile.way, pile.purpose): pile for pile in standing.letters}
    for state, meaning in _COUNTED_LETTERS.items():
        family = GaugeMetricFamily(f"pillarbox_letters_{state}", meaning, labels=_LETTER_LABELS)
        for way, purpose in product(ways, Purpose):
            pile = piles.get((state, way, purpose))
            family.add_metric((way, purpose), pile.number if pile else 0)
        yield family
    oldest = GaugeMetricFamily(
        "pillarbox_oldest_waiting_seconds", "The age of the oldest letter that waits.", labels=_LETTER_LABELS
    )
    for way, purpose in product(ways, Purpose):
        pile = piles.get((State.WAITING, way, purpose))
        oldest.add_metric((way, purpose), max(now - pile.oldest_at, 0.0) if pile else 0)
    yield oldest


def _trouble(standing: Standing, ways: Iterable[str]) -> Iterator[Metric]:
    shut = {way.name for way in standing.shut}
    breaker = GaugeMetricFamily("pillarbox_way_shut", "1 while a way out is shut, 0 while it is open.", labels=("way",))
    for way in ways:
        breaker.add_metric((way,), float(way in shut))
    yield breaker
    alarms = GaugeMetricFamily("pillarbox_alarms_open", "Alarms that are not over, by their kind.", labels=("kind",))
    for kind, number in standing.alarms.items():
        alarms.add_metric((kind,), number)
    yield alarms
