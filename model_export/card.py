"""A model's card: what it is, how well it does and for what it is not, with every figure from the run's own files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model_export.errors import RunError
from model_export.export import LICENCES, Exported
from model_export.runs import read_evaluation, read_run, replacing, write_json

_CORPORA = {
    "ravdess": "RAVDESS speech (Livingstone & Russo 2018)",
    "ravdess_song": "RAVDESS song (the same actors, singing)",
    "crema_d": "CREMA-D (Cao et al. 2014)",
}

_NON_COMMERCIAL = (
    "Weights that learned from RAVDESS are non-commercial and pass their terms on to what is made of them."
)


def write_card(run_folder: Path, exported: Exported) -> Path:
    """Write the card of an exported model beside it (``.md``), and the run and its evaluation as ``.json``.

    Returns
    -------
    Path
        The card.

    Raises
    ------
    RunError
        If the run has not been evaluated: a card without figures says nothing.
    """
    run = read_run(run_folder)
    evaluation = read_evaluation(run_folder, run)
    if evaluation is None:
        raise RunError(f"{run_folder} has not been evaluated, and a card states figures; run emobeam evaluate first")
    text = "\n".join(card(run, evaluation, exported)) + "\n"
    path = exported.path.with_suffix(".md")
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    write_json(exported.path.with_suffix(".json"), {"run": run, "evaluation": evaluation})
    return path


def card(run: Mapping[str, Any], evaluation: Mapping[str, Any], exported: Exported) -> list[str]:
    """Return a card as lines of Markdown."""
    options, network = run["options"], run["network"]
    name = exported.name
    minutes = sum(row["seconds"] for stage in _stages(run) for row in stage["history"]) / 60
    lines = [
        f"# {name}",
        "",
        "Hears the emotion that an utterance is spoken with, one of "
        f"{len(run['emotions'])} ({', '.join(run['emotions'])}), and the speaker's gender (female or male).",
        "",
        f"A 2D CNN ({options['network']}) over log-mel windows of {options['front_end']['window_frames']} frames: "
        f"{network['parameters']:,} parameters, {network['multiply_adds'] / 1e6:.0f} million multiply-adds a window, "
        f"{exported.size_bytes / 1e6:.2f} MB, {exported.window_ms:.1f} ms a window on one thread of the machine that "
        "exported it. The front end, the labels and these figures stand in the file's own contract.",
        "",
        "## Data and protocol",
        "",
        "| corpus | clips read | terms |",
        "|---|---|---|",
        *(f"| {_CORPORA[c]} | {n} | {LICENCES[c]} |" for c, n in run["clips"].items()),
        "",
        f"The test actors of EmoBox's RAVDESS fold {options['fold']} ({_actors(run['split']['test'])}) are in no part "
        f"of training, neither their speech nor their songs. {_actors(run['split']['validation'])} validated: by them "
        "alone the temperature was fitted; the weights are those of the last epoch. The other "
        f"{len(run['split']['train'])} actors trained it. Seed {options['seed']}; {minutes:.0f} minutes of training on "
        "the machine that made it. A corpus that never asked for an emotion (CREMA-D has no calm and no surprised) is "
        "no evidence against it: the loss leaves that emotion's logit alone. These are the weights measured: "
        "nothing was trained on afterwards.",
    ]
    for corpus, figures in evaluation["corpora"].items():
        lines += ["", *_figures(corpus, figures)]
    lines += ["", "## Gender on whole corpora", "", "Most of these actors trained it.", ""]
    for corpus, figures in evaluation["all_actors"].items():
        lines.append(f"- {_CORPORA[corpus]}: right in {figures['gender_accuracy']:.4f} of {figures['clips']} clips")
    lines += [
        "",
        "## Calibration",
        "",
        f"The emotion logits are divided by a temperature of {run['temperature']:.3f}, inside the graph. The expected "
        "calibration error above is over 15 bins; on so few clips even a perfect model would show several hundredths.",
        *_use(run, evaluation),
        *_commands(run, name, exported),
    ]
    return lines


def _stages(run: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the runs that led to this one, each begun with the weights of the one before, and this one."""
    return [*(_stages(run["start"]) if run.get("start") else []), run]


def _actors(names: list[str]) -> str:
    return ", ".join(names) if names else "none"


def _figures(corpus: str, figures: Mapping[str, Any]) -> list[str]:
    titles = {
        "ua": "unweighted average recall (UA)",
        "wa": "accuracy (WA)",
        "macro_f1": "macro F1",
        "gender_accuracy": "gender accuracy",
        "ece": "expected calibration error",
        "nll": "log loss, nats",
    }
    rows = []
    for key, title in titles.items():
        figure = figures[key]
        mean = f"**{figure['mean']:.3f}**" if key == "ua" else f"{figure['mean']:.3f}"
        span = "" if figure["low"] is None else f"{figure['low']:.3f} to {figure['high']:.3f}"
        rows.append(f"| {title} | {mean} | {span} |")
    occurring = {emotion: recall for emotion, recall in figures["recall"].items() if recall is not None}
    return [
        f"## Held-out actors: {_CORPORA[corpus]}",
        "",
        f"{figures['clips']} clips of {len(figures['actors'])} actors whom the model never heard "
        f"({_actors(figures['actors'])}), answered as scoring answers. Intervals: 95 %, bootstrap over the actors; "
        "they are few, so the intervals are wide and themselves uncertain.",
        "",
        "| figure | value | interval |",
        "|---|---|---|",
        *rows,
        "",
        f"| recall | {' | '.join(occurring)} |",
        f"|---|{'---|' * len(occurring)}",
        f"| | {' | '.join(f'{recall:.2f}' for recall in occurring.values())} |",
    ]


def _weakest(evaluation: Mapping[str, Any], *, count: int = 3) -> list[str]:
    """Return sentences on the emotions that are missed most in each corpus, and what they are taken for."""
    lines = []
    for corpus, figures in evaluation["corpora"].items():
        recalls = {emotion: recall for emotion, recall in figures["recall"].items() if recall is not None}
        told = []
        for emotion in sorted(recalls, key=recalls.__getitem__)[:count]:
            row = dict(zip(figures["emotions"], figures["confusion"][figures["emotions"].index(emotion)], strict=True))
            said, wrong = sum(row.values()), max((e for e in row if e != emotion), key=row.__getitem__)
            told.append(f"{emotion} is heard in {row[emotion]} of {said} clips, and taken for {wrong} in {row[wrong]}")
        lines.append(f"{_CORPORA[corpus]}: {'; '.join(told)}. The confusion matrix is in the `.json` beside this card.")
    return lines


def _use(run: Mapping[str, Any], evaluation: Mapping[str, Any]) -> list[str]:
    ravdess = any(corpus.startswith("ravdess") for corpus in run["options"]["corpora"])
    terms = "; ".join(dict.fromkeys(LICENCES[corpus] for corpus in run["options"]["corpora"]))
    return [
        "",
        "## Licence of the weights",
        "",
        f"{terms}. The code around the weights is Apache-2.0.",
        *(["", _NON_COMMERCIAL] if ravdess else []),
        "",
        "## Intended use",
        "",
        "Research and teaching; trying out the pipeline; sorting recordings of acted or consented speech for people "
        "to listen to.",
        "",
        "## Not for",
        "",
        "- Decisions about people: hiring, firing, grading, credit, insurance, policing, health.",
        "- Emotion recognition at work or in schools, which the EU's AI Act forbids with narrow exceptions.",
        "- Telling what somebody feels. It learned how actors perform emotions in a studio, in English, in sentences "
        "that they were given. A caller's tone is not that, and a tone is not a feeling.",
        "- Telling who somebody is. Gender here is the sound of a voice as two corpora label their actors: female or "
        "male, adult, and nothing between or beside.",
        "",
        "## Known limits",
        "",
        "- On recordings unlike its corpora (other languages, spontaneous speech, telephones, noise, children) expect "
        "clearly less than the figures above, and answers that are too sure. Training saw simulated telephones, noise "
        "and microphones; how far that carries has not been measured for this model.",
        *(f"- {line}" for line in _weakest(evaluation)),
        *(["- Calm and surprised were learned from RAVDESS's actors alone."] if ravdess else []),
        "- One seed and one fold: another choice of actors moves UA by several points.",
        "- It answers whatever it hears, music and machines too, as long as there is sound.",
    ]


def _commands(run: Mapping[str, Any], name: str, exported: Exported) -> list[str]:
    stages = _stages(run)
    folders = [f"RUN_{number}" for number in range(1, len(stages))] + ["RUN"]
    corpora = " ".join(f"--corpus {corpus}={corpus.upper()}_DIR" for corpus in run["options"]["corpora"])
    trains = []
    for number, (stage, folder) in enumerate(zip(stages, folders, strict=True)):
        options = stage["options"]
        begin = f" --start {folders[number - 1]} --learning-rate {options['learning_rate']}" if number else ""
        trains.append(
            f"emobeam train {corpora} --out {folder} --network {options['network']} --fold {options['fold']} "
            f"--epochs {options['epochs']} --seed {options['seed']}{begin}"
        )
    return [
        "",
        "## Made by",
        "",
        "```sh",
        *trains,
        "emobeam evaluate RUN",
        f"emobeam export RUN --out {exported.path.name} --name {name} --card",
        "```",
        "",
        f"The export ran Keras and ONNX Runtime on {exported.clips} clips: no probability differed by more than "
        f"{exported.difference:.1e}. Every option, version and epoch is in the `.json` beside this card. "
        f"Versions: {', '.join(f'{package} {version}' for package, version in run['versions'].items())}.",
    ]
