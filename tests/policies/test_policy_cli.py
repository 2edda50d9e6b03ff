"""`hm policy`: what is in force, whether it is right, and what it would say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harbourmaster.cli import main


def hm(*arguments: str) -> int:
    with pytest.raises(SystemExit) as done:
        main(["policy", *arguments])
    return int(done.value.code or 0)


@pytest.fixture(autouse=True)
def _home(home: Path) -> None:
    home.mkdir(parents=True)


def test_ls_shows_admission_policies_and_trust_rules(capsys: pytest.CaptureFixture[str]) -> None:
    assert hm("ls") == 0
    shown = capsys.readouterr().out
    assert "built.sbom-required" in shown
    assert "local builds" in shown


def test_ls_as_json_carries_the_digests_that_verdicts_are_cached_by(capsys: pytest.CaptureFixture[str]) -> None:
    assert hm("ls", "--json") == 0
    body = json.loads(capsys.readouterr().out)
    assert body["admission"]["digest"].startswith("sha256:")
    assert body["trust"]["rules"][0]["tier"] == "built"
    assert {p["id"] for p in body["admission"]["policies"]} >= {"built.admit", "community.admit"}


def test_check_names_the_file_and_line_of_a_mistake(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert hm("check") == 0
    (home / "trust.yaml").write_text("version: 1\nrules: text\n")
    assert hm("check") == 1
    shown = capsys.readouterr().err
    assert "trust.invalid" in shown
    assert "line 2" in shown


def test_check_reads_files_that_are_not_in_force_yet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = tmp_path / "good.cedar", tmp_path / "bad.cedar"
    good.write_text('@id("mine") forbid (principal, action, resource);')
    bad.write_text("forbid")
    assert hm("check", str(good)) == 0
    assert hm("check", str(bad), "--json") == 1
    assert json.loads(capsys.readouterr().err)["error"]["code"] == "policy.invalid"
    assert hm("check", str(tmp_path / "none.yaml")) == 2


def test_explain_shows_the_one_policy_that_a_verdict_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert hm("explain", "built.sbom-required") == 0
    shown = capsys.readouterr().out
    assert "!context.has_sbom" in shown
    assert "has_provenance" not in shown
    assert hm("explain", "nothing") == 1
    assert "not_found" in capsys.readouterr().err


def test_test_asks_about_an_image_that_does_not_exist(capsys: pytest.CaptureFixture[str]) -> None:
    assert hm("test") == 0
    assert "would run" in capsys.readouterr().out
    assert hm("test", "--tier", "community", "--without", "sbom", "--json") == 1
    assert json.loads(capsys.readouterr().out)["policies"] == ["community.sbom-required"]
    assert hm("test", "--severity", "critical", "--relaxation", "privileged") == 1
    assert "any.vulnerability-critical" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", [["--without", "luck"], ["--severity", "awful"]])
def test_test_refuses_a_question_that_makes_no_sense(wrong: list[str]) -> None:
    assert hm("test", *wrong) == 2
