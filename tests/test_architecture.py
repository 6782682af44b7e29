"""The house stays as drawn: imports point one way, what travels to the Hub is flat, and nothing runs foreign code."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT


FORBIDDEN = {
    "modeling_spanbert": {"eval", "training", "datasets", "evaluate", "accelerate", "pandas", "spacy"},
    "eval": {"training"},
    "training": {"tests", "benchmarks"},
}
# The one file of a folder that may import what the others must not.
EXCEPT = {("modeling_spanbert/spacy_component.py", "spacy")}
# What a file that travels to the Hub may import, beside the standard library and its siblings.
PORTABLE = {"torch", "numpy", "transformers", "huggingface_hub"}
TRAVELS = [
    path
    for name in (
        "checks.py",
        "configuration_spanbert.py",
        "dropout.py",
        "modeling_spanbert.py",
        "modeling_spanbert_coref.py",
        "question_answering.py",
        "unpadding.py",
        "vocabulary_loss.py",
    )
    if (path := ROOT / "modeling_spanbert" / name).is_file()
]
# A file of such a name hides the library from every script beside it.
SHADOWS = {*sys.stdlib_module_names, "accelerate", "datasets", "evaluate", "torch", "transformers", "tokenizers"}
CODE = [
    path
    for folder in ("modeling_spanbert", "eval", "training", "benchmarks", "examples", "tests", "model_cards")
    for path in sorted((ROOT / folder).rglob("*.py"))
]
SHIPPED = [path for path in CODE if (ROOT / "tests") not in path.parents]
RECIPES = sorted((ROOT / "training" / "recipes").rglob("*.yaml"))


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def statements(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))))


def imports(path: Path) -> set[str]:
    """Packages that a file imports anywhere, in functions too; relative imports are its own package."""
    names = set()
    for node in statements(path):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module.split(".")[0])
    return names


def tracked() -> list[Path]:
    """Files that git has or would take; those of an unpacked archive otherwise."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_imports_point_one_way(folder):
    files = list((ROOT / folder).rglob("*.py"))
    wrong = {(relative(path), name) for path in files for name in imports(path) & FORBIDDEN[folder]}
    assert files and wrong <= EXCEPT


@pytest.mark.parametrize("path", TRAVELS, ids=lambda path: path.name)
def test_what_travels_to_the_hub_is_flat_and_portable(path):
    assert imports(path) <= PORTABLE | sys.stdlib_module_names
    for node in statements(path):
        if isinstance(node, ast.ImportFrom) and node.level:
            # `from . import x`, `from .sub.x import` and `from ..x import` are not copied to the Hub.
            assert node.level == 1 and node.module and "." not in node.module, ast.unparse(node)
            assert path.parent / f"{node.module}.py" in TRAVELS, ast.unparse(node)


def test_no_file_hides_a_library():
    folders = [ROOT, *(ROOT / name for name in ("training", "eval", "modeling_spanbert", "tests", "benchmarks"))]
    assert not [relative(path) for folder in folders for path in folder.glob("*.py") if path.stem in SHADOWS]


def test_nothing_loads_pickles_or_runs_text_as_code():
    wrong = []
    for path in SHIPPED:
        for node in statements(path):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            runs_text = name in ("eval", "exec", "os.system", "os.popen")
            loads = name in ("torch.load", "joblib.load", "dill.loads", "dill.load") or name.startswith("pickle.")
            if name == "torch.load" and path.name == "original_files.py":
                # The one that reads pickles, of the original authors: tensors and empty classes alone.
                loads = not any(ast.unparse(keyword) == "weights_only=True" for keyword in node.keywords)
            in_shell = any(keyword.arg == "shell" for keyword in node.keywords)
            pickles = any(
                keyword.arg == "allow_pickle" and ast.unparse(keyword.value) != "False" for keyword in node.keywords
            )
            if runs_text or loads or in_shell or pickles:
                wrong.append(f"{relative(path)}:{node.lineno}: {name}")
    assert not wrong
    assert not [
        relative(path) for path in SHIPPED if imports(path) & {"pickle", "dill", "joblib", "shelve", "marshal"}
    ]


def test_importing_the_package_prints_nothing():
    command = [sys.executable, "-W", "error::SyntaxWarning", "-c", "import modeling_spanbert"]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (process.returncode, process.stdout, process.stderr) == (0, "", "")


def test_no_file_names_a_place_on_somebody_s_disk():
    place = re.compile(rb"(?<![\w.<{$])/(?:home|root|Users|work|mnt|opt|data)/\w")
    wrong = [relative(path) for path in tracked() if path.name != "LICENSE" and place.search(path.read_bytes())]
    assert not wrong


def test_nothing_large_is_tracked():
    assert not [relative(path) for path in tracked() if path.stat().st_size > 2**20]


@pytest.mark.parametrize("recipe", RECIPES, ids=relative)
def test_every_recipe_starts_with_what_it_is(recipe):
    assert recipe.read_text(encoding="utf-8").startswith("# ")


def test_every_file_of_code_starts_with_what_it_is():
    silent = [relative(path) for path in CODE if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))]
    assert not silent
