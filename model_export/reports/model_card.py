"""A model's card: what it is, how well it does and for what it is not, with every figure from the run's own files."""

from collections.abc import Mapping, Sequence
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
from emobeam.model_export.training.runs import read_evaluation, read_run, replacing, without_places, write_json

_CORPORA = {
    "ravdess": "RAVDESS speech (Livingstone & Russo 2018)",
    "ravdess_song": "RAVDESS song (the same actors, singing)",
    "crema_d": "CREMA-D (Cao et al. 2014)",
}

_NON_COMMERCIAL = (
    "Weights that learned from RAVDESS are non-commercial and pass their terms on to what is made of them."
)

_OPEN = (
    "The ODbL allows use of the corpus for any purpose, commercial ones too, if its source is named, and asks that "
    "databases derived from it be shared alike. Whether weights are such a database no court has said: where it "
    "matters to you, take them as such."
)


def write_card(run_folder: Path, exported: Exported, *, results: Path | None = None) -> Path:
    """Write the card of an exported model beside it (``.md``), and the run and its figures as ``.json``.

    Parameters
    ----------
    run_folder : Path
    exported : Exported
    results : Path or None
        Folder of protocols' results (`trials`): what networks of the same recipe are worth, for a run that held
        nobody out.

    Returns
    -------
    Path
        The card.

    Raises
    ------
    RunError
        If the run has not been evaluated, or held nobody out and `results` lacks its protocol: a card without
        figures says nothing.
    """
    trained = read_run(run_folder)
    run = trained.to_json()
    told: dict[str, Any] = {"run": run}
    if run["split"]["test"]:
        evaluation = read_evaluation(run_folder, trained)
        if evaluation is None:
            raise RunError(
                f"{run_folder} has not been evaluated, and a card states figures; run emobeam evaluate first"
            )
        told["evaluation"] = evaluation
        lines = card(run, exported, _evaluated(run, evaluation), evaluation["corpora"])
    else:
        if results is None:
            raise RunError(
                f"every actor trained {run_folder}, so only protocols can tell what it is worth; give their --results"
            )
        run["temperature"], protocols = protocol_temperature(run, results), read_protocols(run, results)
        told["protocols"] = protocols
        headline = protocols[next(iter(protocols))]
        lines = card(run, exported, _shown(run, protocols), {"headline": headline})
    path = exported.path.with_suffix(".md")
    with replacing(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    write_json(exported.path.with_suffix(".json"), told | {"run": without_places(run)})
    return path


def card(
    run: Mapping[str, Any],
    exported: Exported,
    evidence: Sequence[str],
    measured: Mapping[str, Mapping[str, Any]],
) -> list[str]:
    """Return a card as lines of Markdown.

    Parameters
    ----------
    run : mapping
        What ``run.json`` says.
    exported : Exported
    evidence : sequence of str
        Lines of Markdown: who trained it and what that is worth.
    measured : mapping
        Figures (`evaluation.figures`) by the corpus they are of: the emotions missed most are told from them.
    """
    options, network = run["options"], run["network"]
    clips = {corpus: number for stage in _stages(run) for corpus, number in stage["clips"].items()}
    return [
        f"# {exported.name}",
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
        *markdown_table(
            ["corpus", "clips read", "terms"], ([_CORPORA[c], str(n), LICENCES[c]] for c, n in clips.items())
        ),
        "",
        *evidence,
        *_use(run, measured),
        *_commands(run, exported),
    ]


def _evaluated(run: Mapping[str, Any], evaluation: Mapping[str, Any]) -> list[str]:
    """Return what a run says of itself whose own weights were measured on actors that it held out."""
    options = run["options"]
    lines = [
        f"The test actors of EmoBox's RAVDESS fold {options['fold']} ({_actors(run['split']['test'])}) are in no part "
        f"of training, neither their speech nor their songs. {_actors(run['split']['validation'])} validated: by them "
        "alone the temperature was fitted; the weights are those of the last epoch. The other "
        f"{len(run['split']['train'])} actors trained it. {_training(run)} These are the weights measured: nothing was "
        "trained on afterwards.",
    ]
    for corpus, figures in evaluation["corpora"].items():
        told = (
            f"{figures['clips']} clips of {len(figures['actors'])} actors whom the model never heard "
            f"({_actors(figures['actors'])}), answered as scoring answers. Intervals: 95 %, bootstrap over the actors; "
            "they are few, so the intervals are wide and themselves uncertain."
        )
        lines += ["", f"## Held-out actors: {_CORPORA[corpus]}", "", told, "", *_figures(figures)]
    lines += ["", "## Gender on whole corpora", "", "Most of these actors trained it.", ""]
    for corpus, figures in evaluation["all_actors"].items():
        lines.append(f"- {_CORPORA[corpus]}: right in {figures['gender_accuracy']:.4f} of {figures['clips']} clips")
    return [
        *lines,
        "",
        "## Calibration",
        "",
        f"The emotion logits are divided by a temperature of {run['temperature']:.3f}, inside the graph. The expected "
        "calibration error above is over 15 bins; on so few clips even a perfect model would show several hundredths.",
    ]


def _shown(run: Mapping[str, Any], protocols: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return what a run says of itself that every actor trained: others of its recipe show what it is worth."""
    network = run["options"]["network"]
    trained = {actor for stage in _stages(run) for actor in stage["split"]["train"]}
    lines = [
        f"All {len(trained)} actors of these corpora trained it, so "
        "none of them can tell what it is worth. The figures below are of networks of the same recipe that were "
        f"trained without the actors who test them. {_training(run)}",
    ]
    for name, result in protocols.items():
        seeds = ", ".join(map(str, result["seeds"]))
        told = (
            f"`emobeam evaluate --protocol {name}`: {result['clips']} clips of {len(result['actors'])} actors, "
            f"{len(result['folds'])} of {result['of_folds']} folds, seeds {seeds}. "
            "Intervals: 95 %, bootstrap over the actors."
        )
        lines += ["", f"## {name}: {result['title']}", "", told, "", *_figures(result)]
        lines += [*fairness_table(network, result["fairness"]), *risk_coverage_table(network, result["risk_coverage"])]
        if result["robustness"]:
            lines += robustness_lines(network, result["robustness"])
    headline = protocols[next(iter(protocols))]
    return [
        *lines,
        "",
        "## Calibration",
        "",
        f"The emotion logits are divided by a temperature of {run['temperature']:.3f}, inside the graph: the geometric "
        f"mean of those that the validation actors of {next(iter(protocols))} gave. Its networks' expected calibration "
        f"error is {headline['ece']['mean']:.3f} with it and {headline['before_temperature']['ece']['mean']:.3f} "
        "without; a perfectly calibrated one would show "
        f"{headline['ece_noise_floor']['mean']:.3f} on as many clips.",
    ]


def _training(run: Mapping[str, Any]) -> str:
    minutes = sum(row["seconds"] for stage in _stages(run) for row in stage["history"]) / 60
    shares = shares_among(run["clips"], run["options"].get("head_shares", {}))
    heads = (
        " Each of the two has an emotion head of its own, since their actors do not mean the same by the same word; "
        f"the answer is the mean of both heads' probabilities, weighted by {_weights(shares)}."
        if shares
        else ""
    )
    return (
        f"Seed {run['options']['seed']}; {minutes:.0f} minutes of training on the machine that made it. A corpus that "
        "never asked for an emotion (CREMA-D has no calm and no surprised) is no evidence against it: the loss leaves "
        f"that emotion's logit alone.{heads}"
    )


def _weights(shares: Mapping[str, float]) -> str:
    return " and ".join(f"{share:g} ({_CORPORA[name].split()[0]})" for name, share in shares.items())


def _stages(run: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the runs that led to this one, each begun with the weights of the one before, and this one."""
    return [*(_stages(run["init_from"]) if run.get("init_from") else []), run]


def _actors(names: list[str]) -> str:
    return ", ".join(names) if names else "none"


def _figures(figures: Mapping[str, Any]) -> list[str]:
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
        rows.append([title, mean, span])
    occurring = {emotion: recall for emotion, recall in figures["recall"].items() if recall is not None}
    return [
        *markdown_table(["figure", "value", "interval"], rows),
        "",
        *markdown_table(["recall", *occurring], [["", *(f"{recall:.2f}" for recall in occurring.values())]]),
    ]


def _weakest(measured: Mapping[str, Mapping[str, Any]], *, count: int = 3) -> list[str]:
    """Return sentences on the emotions that are missed most in each corpus, and what they are taken for."""
    lines = []
    for corpus, figures in measured.items():
        recalls = {emotion: recall for emotion, recall in figures["recall"].items() if recall is not None}
        told = []
        for emotion in sorted(recalls, key=recalls.__getitem__)[:count]:
            row = dict(zip(figures["emotions"], figures["confusion"][figures["emotions"].index(emotion)], strict=True))
            said, wrong = sum(row.values()), max((e for e in row if e != emotion), key=row.__getitem__)
            told.append(f"{emotion} is heard in {row[emotion]} of {said} clips, and taken for {wrong} in {row[wrong]}")
        of = _CORPORA.get(corpus, f"{figures.get('protocol')}, all seeds")
        lines.append(f"{of}: {'; '.join(told)}. The confusion matrix is in the `.json` beside this card.")
    return lines


def _use(run: Mapping[str, Any], measured: Mapping[str, Mapping[str, Any]]) -> list[str]:
    corpora = [corpus for stage in reversed(_stages(run)) for corpus in stage["options"]["corpora"]]
    ravdess = any(corpus.startswith("ravdess") for corpus in corpora)
    terms = "; ".join(dict.fromkeys(LICENCES[corpus] for corpus in corpora))
    return [
        "",
        "## Licence of the weights",
        "",
        f"{terms}. The code around the weights is Apache-2.0.",
        "",
        _NON_COMMERCIAL if ravdess else _OPEN,
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
        "and microphones; children, other languages and spontaneous speech it has never heard.",
        *(f"- {line}" for line in _weakest(measured)),
        *(["- Calm and surprised were learned from RAVDESS's actors alone."] if ravdess else []),
        "- Few actors: another choice of them moves UA by several points.",
        "- It answers whatever it hears, music and machines too, as long as there is sound.",
    ]


def _commands(run: Mapping[str, Any], exported: Exported) -> list[str]:
    stages = _stages(run)
    folders = [f"RUN_{number}" for number in range(1, len(stages))] + ["RUN"]
    trains = []
    for number, (stage, folder) in enumerate(zip(stages, folders, strict=True)):
        options = stage["options"]
        corpora = " ".join(f"--corpus {corpus}={corpus.upper()}_DIR" for corpus in options["corpora"])
        held_out = f"--fold {options['fold']}" if stage["split"]["test"] else "--no-holdout"
        begin = f" --init-from {folders[number - 1]} --learning-rate {options['learning_rate']}" if number else ""
        trains.append(
            f"emobeam train {corpora} --out {folder} --network {options['network']} {held_out} "
            f"--epochs {options['epochs']} --seed {options['seed']}{begin}"
        )
    results = "" if run["split"]["test"] else " --results docs/results"
    int8, eight_bits = "", ""
    if exported.int8_difference is not None:
        int8 = " --int8"
        eight_bits = (
            "Its convolutions are in 8 bits: on the windows of these clips no probability moved by more than "
            f"{exported.int8_difference:.2f} from that in floats; what this costs in right answers is in "
            "docs/model.md. "
        )
    return [
        "",
        "## Made by",
        "",
        "```sh",
        *trains,
        *(["emobeam evaluate RUN"] if run["split"]["test"] else []),
        f"emobeam export RUN --out {exported.path.name} --name {exported.name}{int8} --card{results}",
        "```",
        "",
        f"The export ran Keras and ONNX Runtime on {exported.clips} clips: no probability differed by more than "
        f"{exported.difference:.1e}. {eight_bits}Every option, version and epoch is in the `.json` beside this card. "
        f"Versions: {', '.join(f'{package} {version}' for package, version in run['versions'].items())}.",
    ]
