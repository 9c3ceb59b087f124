"""Images: the archive's format, what goes in, and that equal input gives equal bytes."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from images import layers, sources
from images.archive import Config, write_image, write_layer
from images.build import IMAGES, gateway_requirements, image

LOCK = """\
aiohttp==1.0 \\
    --hash=sha256:aa
    # via
    #   domicile (pyproject.toml)
    #   Kopf
kopf==2.0 ; python_version >= '3.11' \\
    --hash=sha256:bb
    # via domicile (pyproject.toml)
multi-dict==3.0 \\
    --hash=sha256:cc
    # via aiohttp
ruff==4.0 \\
    --hash=sha256:dd
    # via domicile (pyproject.toml)
ruff-helper==5.0 \\
    --hash=sha256:ee
    # via ruff
"""


def names(path: Path) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(path) as tar:
        return {m.name: m for m in tar}


def test_a_layer_is_the_same_for_the_same_files(tmp_path: Path) -> None:
    (tmp_path / "source").write_text("content")
    write_layer(tmp_path / "one", {"b/c/run": tmp_path / "source", "a": b"1"}, frozenset({"b/c/run"}))
    write_layer(tmp_path / "two", {"a": b"1", "b/c/run": b"content"}, frozenset({"b/c/run"}))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    found = names(tmp_path / "one")
    assert list(found) == ["a", "b", "b/c", "b/c/run"]
    assert [oct(m.mode) for m in found.values()] == ["0o644", "0o755", "0o755", "0o755"]
    assert {(m.uid, m.gid, m.mtime) for m in found.values()} == {(0, 0, 0)}


def test_an_archive_names_its_layers_by_digest(tmp_path: Path) -> None:
    write_layer(tmp_path / "low", {"a": b"1"})
    write_layer(tmp_path / "high", {"a": b"2"})
    write_image(tmp_path / "image", "domicile.dev/x:1", [tmp_path / "low", tmp_path / "high"], Config(("/a",)))
    with tarfile.open(tmp_path / "image") as tar:

        def read(name: str) -> bytes:
            stream = tar.extractfile(name)
            assert stream
            return stream.read()

        (manifest,) = json.loads(read("manifest.json"))
        config = json.loads(read(manifest["Config"]))
        digests = [f"sha256:{hashlib.sha256(read(layer)).hexdigest()}" for layer in manifest["Layers"]]
    assert manifest["RepoTags"] == ["domicile.dev/x:1"]
    assert config["rootfs"] == {"type": "layers", "diff_ids": digests}
    assert config["config"]["User"] == "65532:65532"


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_layer(tmp_path / "layer", {"a": tmp_path / "absent"})
    assert list(tmp_path.iterdir()) == []


def test_the_locks_subset_follows_who_asked() -> None:
    subset = sources.lock_subset(LOCK, ["AioHTTP>=1", "kopf[full]>=2"])
    assert re.findall(r"^([a-z-]+)==", subset, re.MULTILINE) == ["aiohttp", "kopf", "multi-dict"]
    assert subset.count("--hash") == 3


def test_a_requirement_that_is_not_locked_is_named() -> None:
    with pytest.raises(SystemExit, match="lacks absent; run `make lock`"):
        sources.lock_subset(LOCK, ["absent>=1"])


def test_the_products_image_has_no_development_tools() -> None:
    found = set(re.findall(r"^([a-z0-9-]+)==", sources.lock_subset(), re.MULTILINE))
    assert {"kopf", "kubernetes", "tink", "pydantic-core"} <= found
    assert found.isdisjoint({"pytest", "mypy", "ruff", "hypothesis", "uv", "setuptools"})


def test_the_products_image_has_every_source_file() -> None:
    files, executable = sources.product_sources()
    expected = {
        f"{layers.SITE}/domicile/{prefix}{p.relative_to(sources.ROOT / folder).as_posix()}"
        for folder, prefix in (
            ("operator", ""),
            ("controllers", "controllers/"),
            ("backup", "backup/"),
            ("gateway", "gateway/"),
        )
        for p in (sources.ROOT / folder).rglob("*.py")
    }
    assert expected == {name for name in files if name.endswith(".py")}
    assert executable <= files.keys()


def test_sources_are_compiled_for_read_only_containers() -> None:
    files = layers.compiled({"a/b.py": b"x = 1\n"})
    (cached,) = (n for n in files if n.endswith(".pyc"))
    assert Path(cached).parent == Path("a/__pycache__")
    content = files[cached]
    assert isinstance(content, bytes)
    # PEP 552: the flags say "hash, not to be checked against the source".
    assert int.from_bytes(content[4:8], "little") == 1


def test_an_unknown_image_is_refused_with_the_known_names() -> None:
    with pytest.raises(SystemExit, match=f"no image 'nope'; there are {', '.join(IMAGES)}"):
        image("nope")


def test_the_gateways_image_has_all_that_its_process_imports() -> None:
    probe = (
        "import sys, domicile.gateway.questions.process, domicile.gateway.privacy.pool\n"
        "from importlib.metadata import distributions\n"
        # By file: several packages have modules below google.
        "known = {str(d.locate_file(f)): d.name for d in distributions() for f in d.files or ()}\n"
        "files = {getattr(m, '__file__', None) for m in sys.modules.values()}\n"
        "print(*{known[f] for f in files if f in known})"
    )
    loaded = subprocess.run([sys.executable, "-c", probe], check=True, capture_output=True, text=True).stdout.split()
    held = {line.partition("==")[0] for line in gateway_requirements().splitlines() if "==" in line}
    # redis-py looks whether it is there.
    optional = {"domicile", "opentelemetry-api"}
    assert {re.sub(r"[-_.]+", "-", name).lower() for name in loaded} - held <= optional
    assert not held & {"boto3", "google-cloud-storage", "kopf", "kubernetes"}


def test_markers_are_those_of_the_images_python() -> None:
    lock = (
        "a==1 ; python_full_version < '3.11.3' \\\n    --hash=sha256:aa\n"
        "b==1 ; sys_platform == 'win32' \\\n    --hash=sha256:bb\n"
        "c==1 \\\n    --hash=sha256:cc\n"
    )
    assert layers.without_markers(lock) == "a==1 \\\n    --hash=sha256:aa\nc==1 \\\n    --hash=sha256:cc\n"
