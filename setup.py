"""The package: what pip installs, and what Beam ships to its workers (``--setup_file``)."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

PACKAGES = find_packages(include=["emobeam", "emobeam.*"])

TRAIN = [
    "audiomentations>=0.43,<1",
    "jinja2>=3.1,<4",
    "keras>=3.10,<4",
    "librosa>=0.11,<1",
    "matplotlib>=3.9,<4",
    "onnx>=1.17,<2",
    "pandas>=2.2,<4",
    "pooch>=1.8,<2",
    "scikit-learn>=1.6,<2",
    "tensorflow-cpu>=2.20,<3; platform_system != 'Darwin'",
    "tensorflow>=2.20,<3; platform_system == 'Darwin'",
    "tf2onnx>=1.17,<2",
]
BENCH = ["audinterface>=1.3,<2", "audonnx>=1,<2", *TRAIN]
TEST = [
    "build>=1.2,<2",
    "coverage>=7.10,<8",
    "duckdb>=1.2,<3",
    "hypothesis>=6.100,<7",
    "import-linter>=2.1,<3",
    "kubernetes-validate>=1.31,<2",
    "mypy>=1.15,<3",
    "pandas-stubs>=2.2,<4",
    "pytest>=8.3,<10",
    "pytest-cov>=7,<8",
    "pytest-timeout>=2.3,<3",
    "pytest-xdist>=3.6,<4",
    "pyyaml>=6,<7",
    "ruff>=0.15,<1",
    "setuptools>=77,<85",
    *TRAIN,
]

VERSION = re.search(r'^__version__ = "(.+)"$', (HERE / "emobeam" / "__init__.py").read_text(), re.MULTILINE)
assert VERSION is not None, "emobeam/__init__.py has no __version__"

REPOSITORY = "https://github.com/emobeam/emobeam"

setup(
    name="emobeam",
    version=VERSION[1],
    description="Scores archives of speech recordings for emotion and gender: Apache Beam, ONNX, Parquet",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    url=REPOSITORY,
    project_urls={
        "Documentation": f"{REPOSITORY}/tree/main/docs",
        "Changelog": f"{REPOSITORY}/blob/main/CHANGELOG.md",
        "Issues": f"{REPOSITORY}/issues",
        "Source": REPOSITORY,
    },
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: MacOS",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Multimedia :: Sound/Audio :: Analysis",
        "Topic :: Multimedia :: Sound/Audio :: Speech",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    keywords=["speech", "emotion recognition", "gender", "apache beam", "onnx", "parquet", "audio"],
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11,<3.14",
    packages=PACKAGES,
    package_data={
        "emobeam": ["py.typed"],
        "emobeam.models": ["*.onnx", "*.md"],
        "emobeam.model_export.corpora": ["*.json", "*.txt.gz"],
        "emobeam.model_export.reports": ["templates/*.j2"],
    },
    entry_points={"console_scripts": ["emobeam=emobeam.cli.main:run"]},
    install_requires=[
        "apache-beam>=2.70,<3",
        "av>=14,<19",
        "numpy>=2,<3",
        "obstore>=0.8,<1",
        "onnxruntime>=1.20,<2",
        "pebble>=5.1,<6",
        "prometheus-client>=0.21,<1",
        "psutil>=6,<8",
        "pyarrow>=18,<27",
        "scipy>=1.14,<2",
        "soundfile>=0.13,<1",
        "soxr>=0.5,<2",  # audiomentations takes none from 1.0 on; 0.5 and 1.1 give the same samples, bit for bit
        "tqdm>=4.66,<5",
        "wcmatch>=10,<11",
    ],
    extras_require={"train": TRAIN, "bench": BENCH, "test": TEST, "gcp": ["apache-beam[gcp]>=2.70,<3"]},
)
