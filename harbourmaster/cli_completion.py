"""``hm completion``: a script for the person's shell.  What it completes with is asked of ``hm`` itself, by Typer's protocol
(typer/_completion_shared.py): ``_HM_COMPLETE`` says which shell asks, the words typed so far are in the environment too.

The scripts call the program as it was typed, so that ``./hm`` in a clone completes as well as ``hm`` on the PATH.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from harbourmaster.core.errors import UsageError

VARIABLE = "_HM_COMPLETE"

BASH = """\
_hm_completion() {
    local IFS=$'\\n'
    COMPREPLY=( $( env COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD _HM_COMPLETE=complete_bash "$1" 2>/dev/null ) )
}
complete -o default -F _hm_completion hm
"""

ZSH = """\
#compdef hm
_hm_completion() {
    eval "$(env _TYPER_COMPLETE_ARGS="${words[1,$CURRENT]}" _HM_COMPLETE=complete_zsh "${words[1]}" 2>/dev/null)"
}
compdef _hm_completion hm
"""

FISH = """\
function __hm_complete
    set -l typed (commandline -opc)
    env _HM_COMPLETE=complete_fish _TYPER_COMPLETE_FISH_ACTION=$argv[1] _TYPER_COMPLETE_ARGS=(commandline -cp) $typed[1] 2>/dev/null
end
complete --command hm --no-files --arguments "(__hm_complete get-args)" --condition "__hm_complete is-args"
"""

SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}
HOW = {
    "bash": 'add to ~/.bashrc:  eval "$(hm completion bash)"',
    "zsh": 'add to ~/.zshrc, after compinit:  eval "$(hm completion zsh)"',
    "fish": "write it to ~/.config/fish/completions/hm.fish",
}


def completion(
    shell: Annotated[str, typer.Argument(metavar="bash|zsh|fish", help="default: the shell of $SHELL")] = "",
) -> None:
    """Print the script that lets a shell complete commands, servers and tools: eval "$(hm completion bash)"."""
    wanted = shell or Path(os.environ.get("SHELL", "")).name
    if wanted not in SCRIPTS:
        raise UsageError(f"no completion for {wanted or 'an unnamed shell'}", remedy="name one of: bash, zsh, fish")
    print(f"# {HOW[wanted]}\n{SCRIPTS[wanted]}", end="")


def words_typed() -> list[str]:
    """The words before the cursor without the program's name, where a shell asks for completions; else none."""
    if VARIABLE not in os.environ:
        return []
    return (os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS") or "").split()[1:]
