"""The results of all protocols and networks as one Markdown page of tables, made from the ``.json`` files beside it."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from emobeam.model_export.errors import RunError
from emobeam.model_export.evaluation.metrics import in_words
from emobeam.model_export.evaluation.protocols import PROTOCOLS
from emobeam.model_export.training.runs import replacing
from emobeam.schemas.labels import EMOTIONS

TABLES_FILE = "protocols.md"
_FIGURES = {
    "ua": "UA",
    "wa": "WA",
    "macro_f1": "macro F1",
    "gender_accuracy": "gender",
    "accuracy_16": "16 classes",
    "ece": "ECE",
    "nll": "log loss",
}
#: Columns of the tables whose heads are abbreviations.
_MEANINGS = {
    "UA": "mean recall of the emotions",
    "WA": "accuracy of the emotion",
    "gender": "accuracy of the gender",
    "16 classes": "share of clips with emotion and gender both correct",
    "ECE": "expected calibration error, 15 bins, after the temperature that the validation part gave",
    "ECE before": "the same before the temperature",
    "ECE of chance": "what a perfectly calibrated model would show on as many clips",
    "log loss": "in nats, after the temperature",
    "ONNX": "UA of the exported graph on ONNX Runtime",
}

#: The protocol by which networks are compared, and the one over clips with repetitions together.
_SPEAKERS, _GROUPED_CLIPS = "emobox", "grouped-clips"
#: Splits of RAVDESS's speech, from the most optimistic to the strictest.
_FROM_LEAK = ("leaky", "random-clips", _GROUPED_CLIPS, _SPEAKERS)

_MINUTES = "minutes to train a fold"

#: The protocols that measure a recipe, by whether RAVDESS is among its corpora; the first is the headline.
_MEASURING = {True: (_SPEAKERS, "cross-corpus"), False: ("crema-speakers", "cross-corpus")}


def write_tables(results: Path) -> Path:
    """Write the page over every ``PROTOCOL-NETWORK.json`` in a folder, and return it."""
    networks = {
        path.stem.removeprefix(f"{protocol}-")
        for protocol in PROTOCOLS
        for path in results.glob(f"{protocol}-*.json")
        if not path.stem.endswith(("-runs", "-robustness"))
    }
    made = {network: read_results_of(results, network) for network in sorted(networks)}
    by_protocol = {name: {network: of[name] for network, of in made.items() if name in of} for name in PROTOCOLS}
    lines = [
        "# Protocols",
        "",
        "`emobeam evaluate --protocol` writes this page from the `.json` files beside it. The `.parquet` files, where",
        "they are kept, hold the answers clip by clip. Brackets hold 95 % intervals from a bootstrap over actors.",
        "",
        *markdown_table(["figure", "meaning"], _MEANINGS.items()),
        "",
        "A bootstrap repeats clips, which adds to a calibration error. So the interval of an ECE can be above",
        "the figure.",
    ]
    lines += networks_table(made) + leak_table(made.get("cnn", {}))
    for protocol, of_networks in by_protocol.items():
        if of_networks:
            lines += ["", f"## {protocol}: {PROTOCOLS[protocol].title}", "", *_protocol(of_networks)]
    path = results / TABLES_FILE
    with replacing(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return a table as lines of Markdown."""
    return [_row(heads), "|" + "---|" * len(heads), *map(_row, rows)]


def networks_table(made: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return a table of the networks as lines of Markdown: their accuracy and their cost.

    Parameters
    ----------
    made : mapping of network to mapping of protocol to results
        As `read_results_of` gives them. Networks without the headline's are left out.
    """
    rows = {network: of for network, of in made.items() if _SPEAKERS in of}
    if len(rows) < 2:  # nothing to compare
        return []
    cells = []
    for network, of in sorted(rows.items(), key=lambda item: -item[1][_SPEAKERS]["ua"]["mean"]):
        result = of[_SPEAKERS]
        grouped = in_words(of[_GROUPED_CLIPS]["accuracy_16"]) if _GROUPED_CLIPS in of else "-"
        cells.append(
            [network, in_words(result["ua"]), in_words(result["gender_accuracy"]), grouped, *_cost_cells(result)]
        )
    measures = [f"{_SPEAKERS}: UA", f"{_SPEAKERS}: gender", f"{_GROUPED_CLIPS}: 16 classes"]
    heads = ["network", *measures, "parameters", "ms a window", _MINUTES]
    return ["", "## The networks", "", *markdown_table(heads, cells)]


def leak_table(of_protocols: Mapping[str, Any]) -> list[str]:
    """Return one network's figures on splits from the leak to disjoint speakers, as lines of Markdown."""
    rows = {name: of_protocols[name] for name in _FROM_LEAK if name in of_protocols}
    if len(rows) < 2:  # nothing to compare
        return []
    figures = ("accuracy_16", "ua", "gender_accuracy")
    cells = [
        [f"{name}: {PROTOCOLS[name].title}", *(in_words(result[key]) for key in figures)]
        for name, result in rows.items()
    ]
    heads = ["split", *(_FIGURES[key] for key in figures)]
    return ["", "## One network, from a leak to disjoint speakers", "", *markdown_table(heads, cells)]


def read_results_of(results: Path, network: str) -> dict[str, dict[str, Any]]:
    """Return a network's results by protocol; under ``robustness`` those on degraded clips, None without."""
    by_protocol = {}
    for name in PROTOCOLS:
        path, degraded = results / f"{name}-{network}.json", results / f"{name}-{network}-robustness.json"
        if path.is_file():
            by_protocol[name] = json.loads(path.read_text(encoding="utf-8")) | {
                "robustness": json.loads(degraded.read_text(encoding="utf-8")) if degraded.is_file() else None
            }
    return by_protocol


def read_protocols(run: Mapping[str, Any], results: Path) -> dict[str, dict[str, Any]]:
    """Return the results of the protocols that measure a run's recipe: the headline first, then those that exist.

    Raises
    ------
    RunError
        If the headline is missing.
    """
    network = run["options"]["network"]
    names = _MEASURING[any(corpus.startswith("ravdess") for corpus in run["options"]["corpora"])]
    by_protocol = read_results_of(results, network)
    if names[0] not in by_protocol:
        raise RunError(
            f"{results} has no {names[0]}-{network}.json; make it with emobeam evaluate --protocol {names[0]}"
        )
    return {name: by_protocol[name] for name in names if name in by_protocol}


def protocol_temperature(run: Mapping[str, Any], results: Path) -> float:
    """Return the geometric mean of the temperatures that the headline protocol's trainings were given.

    Raises
    ------
    RunError
        If it has no results.
    """
    headline = next(iter(read_protocols(run, results)))
    path = results / f"{headline}-{run['options']['network']}-runs.json"
    made = json.loads(path.read_text(encoding="utf-8"))
    return float(np.exp(np.mean([np.log(one["temperature"]) for one in made.values()])))


def _protocol(networks: Mapping[str, Mapping[str, Any]]) -> list[str]:
    best_first = sorted(networks.items(), key=lambda item: -item[1]["ua"]["mean"])
    cells = []
    for name, result in best_first:
        before, chance = result["before_temperature"]["ece"]["mean"], result["ece_noise_floor"]["mean"]
        onnx = f"{result['onnx']['ua']['mean']:.3f}" if "onnx" in result else "-"
        size = [str(len(result["seeds"])), f"{len(result['folds'])} of {result['of_folds']}", str(result["clips"])]
        figures = [in_words(result[key]) for key in _FIGURES]
        cells.append([name, *size, *figures, f"{before:.3f}", f"{chance:.3f}", onnx])
    heads = ["network", "seeds", "folds", "clips", *_FIGURES.values(), "ECE before", "ECE of chance", "ONNX"]
    lines = [*markdown_table(heads, cells), ""]
    heads = ["network", "parameters", "M multiply-adds", "ms a window", _MINUTES]
    lines += markdown_table(heads, [[name, *_cost_cells(result, adds=True)] for name, result in best_first])
    for name, result in best_first:
        if len(result["folds"]) > 1:
            folds = result["by_fold"]
            cells = [
                [_FIGURES[key], *(f"{fold[key]['mean']:.3f}" for fold in folds.values())]
                for key in ("ua", "gender_accuracy", "accuracy_16")
            ]
            lines += ["", f"{name}, by fold:", "", *markdown_table(["fold", *folds], cells)]
    for name, result in best_first:
        if name == "cnn":
            lines += [*fairness_table(name, result["fairness"]), *risk_coverage_table(name, result["risk_coverage"])]
            lines += robustness_lines(name, result["robustness"]) if result["robustness"] else []
    return lines


def fairness_table(name: str, fairness: Mapping[str, Any]) -> list[str]:
    """Return the groups of `fairness.fairness` for a network as lines of Markdown."""
    cells = []
    for corpus, kinds in fairness.items():
        for groups in kinds.values():
            for group, measured in groups.items():
                size = [str(measured.get("actors", "")), str(measured.get("clips", ""))]
                figures = [in_words(measured["ua"]), in_words(measured["gender_accuracy"])]
                recalls = [_short(measured["recall"][emotion]) for emotion in EMOTIONS]
                cells.append([corpus, group, *size, *figures, *recalls])
    heads = ["corpus", "group", "actors", "clips", "UA", "gender", *EMOTIONS]
    return ["", f"{name}, by group of speakers (difference: women minus men):", "", *markdown_table(heads, cells)]


def risk_coverage_table(name: str, curve: Mapping[str, Sequence[float]]) -> list[str]:
    """Return a `metrics.risk_coverage` curve as lines of Markdown, every tenth part of the clips."""
    points = [point for point in zip(*curve.values(), strict=True) if round(100 * point[0]) % 10 == 0]
    heads = ["clips answered, the most confident first", *(f"{share:.0%}" for share, _, _ in points)]
    cells = [
        ["accuracy among them", *(f"{accuracy:.3f}" for _, accuracy, _ in points)],
        ["least confidence", *(f"{confidence:.2f}" for _, _, confidence in points)],
    ]
    return ["", f"{name}, when only the most confident clips are answered:", "", *markdown_table(heads, cells)]


def robustness_lines(name: str, degraded: Mapping[str, Any]) -> list[str]:
    """Return the results of `robustness.evaluate_trials_robustness` as lines of Markdown."""
    title = (
        f"{name}, seed {degraded['seed']}, on degraded test clips ({degraded['clips']} clips, "
        f"{degraded['folds']} folds; `emobeam evaluate --protocol --robustness`):"
    )
    cells = []
    for row in degraded["conditions"]:
        change = row["ua_change"]
        span = "" if change["low"] is None else f" ({change['low']:+.3f} to {change['high']:+.3f})"
        shares = [f"{row[key]['mean']:.3f}" for key in ("gender_accuracy", "unchanged")]
        cells.append([row["title"], in_words(row["ua"]), f"{change['mean']:+.3f}{span}", *shares, str(row["silent"])])
    heads = ["condition", "UA", "change", "gender", "same emotion as clean", "without an answer"]
    return ["", title, "", *markdown_table(heads, cells)]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cost_cells(result: Mapping[str, Any], *, adds: bool = False) -> list[str]:
    cells = [f"{result['parameters']:,}" if "parameters" in result else "-"]
    if adds:
        cells.append(f"{result['multiply_adds'] / 1e6:.1f}" if "multiply_adds" in result else "-")
    cells.append("-" if result["ms_per_window"] is None else f"{result['ms_per_window']:.2f}")
    # Minutes on a GPU are not comparable with those of a core.
    elsewhere = [name for name in result.get("backends", ()) if name != "tensorflow"]
    return [*cells, f"{result['train_seconds'] / 60:.1f}" + (f" (some on {', '.join(elsewhere)})" if elsewhere else "")]


def _short(figure: Mapping[str, Any] | None) -> str:
    return "-" if figure is None else f"{figure['mean']:.2f}"
