"""The profile is pure: a spec goes in, a create-container body comes out, and nothing a caller says weakens it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from sandbox.errors import ProfileInvalid, SpecRefused
from sandbox.profile import POLICIES_DIR, Profile, container_config, for_podman, relaxations
from sandbox.spec import ImageFacts, SandboxSpec, image_user

IMAGE_ID = "sha256:" + "a" * 64
MIB = 1024 * 1024


def spec(**more: Any) -> SandboxSpec:
    return SandboxSpec(**({"server": "time", "image_id": IMAGE_ID} | more))


def test_every_setting_of_the_profile_is_in_the_body(profile: Profile) -> None:
    body = container_config(profile, spec())
    for setting in profile.settings:
        at: Any = body
        for part in setting.path.split("."):
            assert part in at, setting.path
            at = at[part]


def test_the_body_names_the_image_by_id(profile: Profile) -> None:
    assert container_config(profile, spec())["Image"] == IMAGE_ID


@pytest.mark.parametrize("ref", ["time:latest", "time", "sha256:abc", IMAGE_ID.upper(), "x@" + IMAGE_ID, ""])
def test_a_tag_or_anything_but_an_image_id_is_refused(profile: Profile, ref: str) -> None:
    with pytest.raises(SpecRefused) as refusal:
        container_config(profile, spec(image_id=ref))
    assert refusal.value.code == "sandbox.refused"
    assert refusal.value.remedy


@pytest.mark.parametrize(
    ("said", "used"),
    [
        ("", "65532:65532"),
        ("root", "65532:65532"),
        ("0", "65532:65532"),
        ("00", "65532:65532"),
        ("0:1000", "65532:65532"),
        ("toor", "65532:65532"),  # the image's passwd may map any name to 0
        ("node:node", "65532:65532"),
        ("1000", "1000:1000"),
        ("1000:0", "1000:1000"),
        ("1000:100", "1000:100"),
        ("1000:staff", "1000:1000"),
        ("-1", "65532:65532"),
        ("４２", "65532:65532"),
        ("4294967296", "65532:65532"),  # wraps to 0 in 32 bits
    ],
)
def test_root_names_and_nothing_become_nobody(profile: Profile, said: str, used: str) -> None:
    assert image_user(said) == used
    assert container_config(profile, spec(), ImageFacts(user=said))["User"] == used


@pytest.mark.parametrize("user", ["root", "0", "0:0", "1000:0", "app", "1000", "1000:staff"])
def test_an_entry_cannot_ask_for_root_or_a_name(profile: Profile, user: str) -> None:
    with pytest.raises(SpecRefused):
        container_config(profile, spec(user=user))


def test_limits_reach_the_engine_in_its_units(profile: Profile) -> None:
    limits = {"memory_mb": 1024, "cpus": 0.5, "pids": 64, "nofile": 256, "file_mb": 8, "tmp_mb": 32, "tmp_exec": True}
    host = container_config(profile, spec(limits=limits))["HostConfig"]
    assert host["Memory"] == host["MemorySwap"] == 1024 * MIB
    assert host["NanoCpus"] == 500_000_000
    assert host["PidsLimit"] == 64
    assert {"Name": "nofile", "Soft": 256, "Hard": 256} in host["Ulimits"]
    assert {"Name": "fsize", "Soft": 8 * MIB, "Hard": 8 * MIB} in host["Ulimits"]
    assert host["Tmpfs"]["/tmp"] == f"rw,nosuid,nodev,exec,size={32 * MIB},mode=1777"


@pytest.mark.parametrize(
    "limits",
    [
        {"privileged": True},
        {"memory_mb": 0},
        {"memory_mb": -1},
        {"memory_mb": 1 << 20},
        {"memory_mb": "512"},
        {"memory_mb": float("nan")},
        {"memory_mb": True},
        {"pids": -1},  # -1 means no limit to the engine
        {"tmp_exec": 1},
        {"tmp_mb": 1024},  # more than the memory it counts as
    ],
)
def test_a_limit_outside_its_bounds_is_refused(profile: Profile, limits: dict[str, Any]) -> None:
    with pytest.raises(SpecRefused):
        container_config(profile, spec(limits=limits))


def test_what_gives_more_than_the_profile_is_recorded_and_what_gives_less_is_not(profile: Profile) -> None:
    relaxed = spec(limits={"memory_mb": 1024, "pids": 16, "tmp_exec": True})
    assert relaxations(profile, relaxed) == ("memory_mb=1024", "tmp_exec=True")
    labels = container_config(profile, relaxed)["Labels"]
    assert labels["harbourmaster.relaxed"] == "memory_mb=1024,tmp_exec=True"
    assert labels["harbourmaster.profile"] == profile.digest


def test_a_label_of_the_caller_cannot_hide_a_relaxation(profile: Profile) -> None:
    body = container_config(profile, spec(limits={"pids": 256}, labels={"harbourmaster.relaxed": ""}))
    assert body["Labels"]["harbourmaster.relaxed"] == "pids=256"


def test_volumes_of_the_image_become_sized_memory(profile: Profile) -> None:
    body = container_config(profile, spec(), ImageFacts(volumes=("/data",)))
    assert body["HostConfig"]["Tmpfs"]["/data"] == body["HostConfig"]["Tmpfs"]["/tmp"]


@pytest.mark.parametrize("path", ["/", "/proc", "data", "/a:/b", "/a/../etc", "/dev/"])
def test_a_volume_that_would_hide_the_system_is_refused(profile: Profile, path: str) -> None:
    with pytest.raises(SpecRefused):
        container_config(profile, spec(), ImageFacts(volumes=(path,)))


@pytest.mark.parametrize("env", [{"A=B": "x"}, {"": "x"}, {"A": "x\0y"}, {"A": "x" * 200_000}, {"A\nB": "x"}])
def test_an_impossible_variable_is_refused(profile: Profile, env: dict[str, str]) -> None:
    with pytest.raises(SpecRefused):
        container_config(profile, spec(env=env))


@pytest.mark.parametrize("name", ["", "../x", "a b", "-x", "x" * 101])
def test_a_server_name_that_cannot_name_a_container_is_refused(profile: Profile, name: str) -> None:
    with pytest.raises(SpecRefused):
        container_config(profile, spec(server=name))


def test_an_unknown_runtime_is_refused_and_a_stronger_one_passed_on(profile: Profile) -> None:
    assert container_config(profile, spec(runtime="runsc"))["HostConfig"]["Runtime"] == "runsc"
    with pytest.raises(SpecRefused):
        container_config(profile, spec(runtime="nvidia"))


def test_a_spec_does_not_leak_into_the_next_body(profile: Profile) -> None:
    first = container_config(profile, spec(), ImageFacts(volumes=("/data",)))
    first["HostConfig"]["CapDrop"].clear()
    second = container_config(profile, spec())
    assert second["HostConfig"]["CapDrop"] == ["ALL"]
    assert list(second["HostConfig"]["Tmpfs"]) == ["/tmp"]


def test_home_is_a_place_where_a_server_may_write(profile: Profile) -> None:
    assert "HOME=/tmp" in container_config(profile, spec())["Env"]
    assert container_config(profile, spec(env={"HOME": "/data"}))["Env"] == ["HOME=/data"]


@pytest.fixture
def policies_copy(tmp_path: Path) -> Path:
    for part in ("profiles", "seccomp"):
        shutil.copytree(POLICIES_DIR / part, tmp_path / part)
    return tmp_path


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("seccomp/default.json", '"accept",\n', ""),
        ("profiles/default.yaml", "default: 512", "default: 513"),
        ("profiles/default.yaml", "value: [ALL]", "value: []"),
    ],
)
def test_the_digest_covers_what_has_an_effect(
    profile: Profile, policies_copy: Path, file: str, old: str, new: str
) -> None:
    assert Profile.load(directory=policies_copy).digest == profile.digest
    text = (policies_copy / file).read_text()
    assert old in text
    (policies_copy / file).write_text(text.replace(old, new))
    assert Profile.load(directory=policies_copy).digest != profile.digest


def test_a_reason_put_in_better_words_does_not_change_the_digest(profile: Profile, policies_copy: Path) -> None:
    file = policies_copy / "profiles" / "default.yaml"
    file.write_text("# more words\n" + file.read_text().replace("nothing is given back", "none is given back"))
    assert Profile.load(directory=policies_copy).digest == profile.digest


def test_a_broken_profile_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "default.yaml").write_text("name: [\n")
    with pytest.raises(ProfileInvalid, match="default"):
        Profile.load(directory=tmp_path)
    with pytest.raises(ProfileInvalid, match="absent"):
        Profile.load("absent")


def test_the_security_page_lists_every_setting_and_limit(profile: Profile, project_root: Path) -> None:
    page = (project_root / "docs" / "security.md").read_text()
    assert [s.path for s in profile.settings if f"| `{s.path.removeprefix('HostConfig.')}` |" not in page] == []
    assert [name for name in profile.limits if f"| `{name}` |" not in page] == []


def test_every_test_that_the_security_page_names_exists(project_root: Path) -> None:
    page = (project_root / "docs" / "security.md").read_text()
    code = "".join(p.read_text() for p in (project_root / "tests").rglob("test_*.py"))
    named = re.findall(r"`(test_\w+?)(?:_?\.\.\.)?`", page)
    assert len(named) > 20
    assert [name for name in named if f"def {name}" not in code] == []


def test_podman_is_told_the_same_in_its_own_words(profile: Profile) -> None:
    body = container_config(profile, spec())
    adapted = for_podman(profile, body)
    options = adapted["HostConfig"]["SecurityOpt"]
    assert "no-new-privileges" in options
    assert f"seccomp={profile.seccomp_file}" in options
    assert any(o.startswith("mask=") and "/proc/kallsyms" in o for o in options)
    changed = {k for k in body["HostConfig"] if body["HostConfig"][k] != adapted["HostConfig"][k]}
    assert changed == {"SecurityOpt", "Tmpfs"}
    assert adapted["HostConfig"]["Tmpfs"]["/tmp"] == body["HostConfig"]["Tmpfs"]["/tmp"]
