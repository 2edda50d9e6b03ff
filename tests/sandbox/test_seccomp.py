from __future__ import annotations

from typing import Any

import pytest

from sandbox.errors import ProfileInvalid
from sandbox.seccomp import SECCOMP_DIR, read_source, render, to_json

NEVER = set(
    """
    mount umount2 fsopen fsmount fsconfig fspick move_mount open_tree mount_setattr pivot_root chroot ptrace
    process_vm_readv process_vm_writev pidfd_getfd kcmp unshare setns bpf perf_event_open keyctl add_key request_key
    userfaultfd kexec_load kexec_file_load init_module finit_module delete_module open_by_handle_at name_to_handle_at
    acct quotactl quotactl_fd swapon swapoff reboot sethostname setdomainname clock_settime settimeofday adjtimex
    clock_adjtime syslog fanotify_init iopl ioperm modify_ldt vhangup lookup_dcookie nfsservctl uselib vm86
    """.split()  # noqa: SIM905 - a list of words reads better as text
)


def test_the_file_that_engines_load_is_the_source_rendered() -> None:
    assert (SECCOMP_DIR / "default.json").read_bytes() == to_json(render(read_source()))


def test_everything_not_named_is_refused() -> None:
    assert render(read_source())["defaultAction"] == "SCMP_ACT_ERRNO"


def test_no_rule_allows_a_call_that_a_server_never_needs() -> None:
    allowed = {
        n for rule in render(read_source())["syscalls"] if rule["action"] == "SCMP_ACT_ALLOW" for n in rule["names"]
    }
    assert allowed.isdisjoint(NEVER)


def test_calls_with_a_fallback_answer_that_they_do_not_exist() -> None:
    absent = {n: r for r in render(read_source())["syscalls"] if r["action"] == "SCMP_ACT_ERRNO" for n in r["names"]}
    assert absent["clone3"]["errnoRet"] == absent["io_uring_setup"]["errnoRet"] == 38


def test_clone_sockets_and_personality_are_allowed_only_with_conditions() -> None:
    for rule in render(read_source())["syscalls"]:
        if {"clone", "socket", "socketpair", "personality", "mknod", "mknodat"} & set(rule["names"]):
            assert rule["args"]


def test_a_call_that_stands_both_with_and_without_conditions_is_an_error() -> None:
    source: dict[str, Any] = read_source()
    source["allow"].append({"why": "slip", "calls": "socket"})
    with pytest.raises(ProfileInvalid, match="socket"):
        render(source)
