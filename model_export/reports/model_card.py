"""Model cards: a model's data, accuracy, limits and terms, with figures from the run's own files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emobeam.model_export.errors import RunError
from emobeam.model_export.export.export import LICENCES, Exported
from emobeam.model_export.networks.heads import shares_among
from emobeam.model_export.reports.result_tables import (
    fairness_table,
    markdown_table,
    protocol_temperature,
    read_protocols,
    risk_coverage_table,
    robustness_lines,
)
from emobeam.model_export.reports.templating import render
from emobeam.model_export.training.runs import read_evaluation, read_run, replacing, without_places, write_json

_CORPORA = {
    "ravdess": "RAVDESS speech (Livingstone & Russo 2018)",
    "ravdess_song": "RAVDESS song (the same actors, singing)",
    "crema_d": "CREMA-D (Cao et al. 2014)",
}

_FIGURES = {
    "ua": "unweighted average recall (UA)",
    "wa": "accuracy (WA)",
    "macro_f1": "macro F1",
    "gender_accuracy": "gender accuracy",
    "ece": "expected calibration error",
    "nll": "log loss, nats",
}


def write_card(run_folder: Path, exported: Exported, *, results: Path | None = None) -> Path:
    """Write the card of an exported model beside it (``.md``), and the run and its figures as ``.json``.

    Parameters
    ----------
    run_folder : Path
    exported : Exported
    results : Path or None
        Folder of protocols' results (`trials`) with networks of the same recipe, for a run without holdout.

    Returns
    -------
    Path
        The card.

    Raises
    ------
    RunError
        If the run has not been evaluated, or has no holdout and `results` lacks its protocol.
    """
    trained = read_run(run_folder)
    run = trained.to_json()
    if run["split"]["test"]:
        evaluation = read_evaluation(run_folder, trained)
        if evaluation is None:
            raise RunError(
                f"{run_folder} has not been evaluated, and a card states figures; run emobeam evaluate first"
            )
        evidence: dict[str, Any] = {"evaluation": evaluation}
    else:
        if results is None:
            raise RunError(f"every actor trained {run_folder}, so only protocols can measure it; give their --results")
        run["temperature"] = protocol_temperature(run, results)
        evidence = {"protocols": read_protocols(run, results)}
    path = exported.path.with_suffix(".md")
    with replacing(path) as temporary:
        temporary.write_text(card(run, exported, **evidence), encoding="utf-8")
    write_json(exported.path.with_suffix(".json"), {"run": without_places(run), **evidence})
    return path


def card(
    run: Mapping[str, Any],
    exported: Exported,
    *,
    evaluation: Mapping[str, Any] | None = None,
    protocols: Mapping[str, Mapping[str, Any]] | None = None,
) -> str:
    """Return a card as Markdown.

    Parameters
    ----------
    run : mapping
        The content of ``run.json``.
    exported : Exported
    evaluation : mapping or None
        Content of ``evaluation.json``, for a run that held actors out.
    protocols : mapping of name to results, or None
        Results of protocols (`result_tables.read_protocols`), for a run without holdout; the headline first.
    """
    stages = _stages(run)
    clips = {corpus: number for stage in stages for corpus, number in stage["clips"].items()}
    trained_on = list(dict.fromkeys(corpus for stage in reversed(stages) for corpus in stage["options"]["corpora"]))
    headline = next(iter(protocols.values())) if protocols else {}
    measured = evaluation["corpora"] if evaluation else {f"{headline.get('protocol')}, all seeds": headline}
    return render(
        "model_card.md.j2",
        run=run,
        exported=exported,
        evaluation=evaluation,
        protocols=protocols,
        headline=headline,
        stages=stages,
        corpora=_CORPORA,
        minutes=sum(row["seconds"] for stage in stages for row in stage["history"]) / 60,
        head_shares=shares_among(run["clips"], run["options"].get("head_shares", {})),
        trained_actors=len({actor for stage in stages for actor in stage["split"]["train"]}),
        licences=list(dict.fromkeys(LICENCES[corpus] for corpus in trained_on)),
        ravdess=any(corpus.startswith("ravdess") for corpus in trained_on),
        weakest=weakest_emotions(measured),
        tables=_tables(clips, run["options"]["network"], evaluation["corpora"] if evaluation else {}, protocols or {}),
    )


def _tables(
    clips: Mapping[str, int],
    network: str,
    evaluated: Mapping[str, Mapping[str, Any]],
    protocols: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    terms = [[_CORPORA[corpus], str(number), LICENCES[corpus]] for corpus, number in clips.items()]
    return {
        "corpora": "\n".join(markdown_table(["corpus", "clips read", "terms"], terms)),
        "figures": {name: "\n".join(_figures(figures)) for name, figures in {**evaluated, **protocols}.items()},
        "groups": {name: "\n".join(_groups(network, result)) for name, result in protocols.items()},
    }


def _stages(run: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the runs that led to this one, each started from the weights of the one before, and this one."""
    return [*(_stages(run["init_from"]) if run.get("init_from") else []), run]


def _figures(figures: Mapping[str, Any]) -> list[str]:
    rows = []
    for key, title in _FIGURES.items():
        figure = figures[key]
        mean = f"**{figure['mean']:.3f}**" if key == "ua" else f"{figure['mean']:.3f}"
        span = "" if figure["low"] is None else f"{figure['low']:.3f} to {figure['high']:.3f}"
        rows.append([title, mean, span])
    occurring = {emotion: recall for emotion, recall in figures["recall"].items() if recall is not None}
    return [
        *markdown_table(["figure", "value", "interval"], rows),
        "",
        *markdown_table(["recall", *occurring], [["", *(f"{recall:.2f}" for recall in occurring.values())]]),
    ]


def _groups(network: str, result: Mapping[str, Any]) -> list[str]:
    degraded = robustness_lines(network, result["robustness"]) if result["robustness"] else []
    return [
        *fairness_table(network, result["fairness"]),
        *risk_coverage_table(network, result["risk_coverage"]),
        *degraded,
    ]


def weakest_emotions(measured: Mapping[str, Mapping[str, Any]], *, count: int = 3) -> list[str]:
    """Return a sentence for each corpus on the emotions with the lowest recall, and how they are misclassified.

    Parameters
    ----------
    measured : mapping
        Figures (`evaluation.figures`) by the corpus they are of.
    count : int
        Emotions to name.
    """
    sentences = []
    for corpus, figures in measured.items():
        recalls = {emotion: recall for emotion, recall in figures["recall"].items() if recall is not None}
        misses = []
        for emotion in sorted(recalls, key=recalls.__getitem__)[:count]:
            row = dict(zip(figures["emotions"], figures["confusion"][figures["emotions"].index(emotion)], strict=True))
            clips, wrong = sum(row.values()), max((e for e in row if e != emotion), key=row.__getitem__)
            misses.append(
                f"{emotion} is correct in {row[emotion]} of {clips} clips, and classified as {wrong} in {row[wrong]}"
            )
        title = _CORPORA.get(corpus, corpus)
        listed = ";\n  ".join(misses)
        sentences.append(f"{title}:\n  {listed}.\n  The confusion matrix is in the `.json` beside this card.")
    return sentences
