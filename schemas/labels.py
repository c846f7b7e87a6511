"""Emotions, genders, their joint classes, and the codes that corpora use for them.

The order of every tuple here is the order of model outputs and of table columns: append, never reorder.
"""

EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
GENDERS = ("female", "male")
JOINT_CLASSES = tuple(f"{gender}_{emotion}" for gender in GENDERS for emotion in EMOTIONS)

#: Third field of a RAVDESS file name (Livingstone & Russo 2018, doi:10.1371/journal.pone.0196391).
RAVDESS_EMOTIONS = {f"{number:02d}": emotion for number, emotion in enumerate(EMOTIONS, start=1)}
RAVDESS_INTENSITIES = {"01": "normal", "02": "strong"}
RAVDESS_CHANNELS = {"01": "speech", "02": "song"}

#: Third field of a CREMA-D file name (Cao et al. 2014, doi:10.1109/TAFFC.2014.2336244).
CREMA_D_EMOTIONS = {
    "ANG": "angry",
    "DIS": "disgust",
    "FEA": "fearful",
    "HAP": "happy",
    "NEU": "neutral",
    "SAD": "sad",
}
CREMA_D_INTENSITIES = {"LO": "low", "MD": "medium", "HI": "high", "XX": "unspecified"}

#: Second field of a nEMO file name (Christop 2024, arXiv:2404.06292).
NEMO_EMOTIONS = {
    "anger": "angry",
    "fear": "fearful",
    "happiness": "happy",
    "neutral": "neutral",
    "sadness": "sad",
    "surprised": "surprised",
}

#: First field of an EMOVO file name (Costantini et al. 2014).
EMOVO_EMOTIONS = {
    "dis": "disgust",
    "gio": "happy",
    "neu": "neutral",
    "pau": "fearful",
    "rab": "angry",
    "sor": "surprised",
    "tri": "sad",
}
