"""What a first visitor does not wait for."""

from __future__ import annotations

from tests.web.conftest import Console
from web.render import ENVIRONMENT
from web.warm import warm


def test_every_template_is_compiled_before_anybody_asks_for_its_page(console: Console) -> None:
    thread = warm(console.harbour)
    thread.join(60)

    assert not thread.is_alive()
    assert ENVIRONMENT.cache is not None
    assert set(ENVIRONMENT.list_templates()) <= {name for _, name in ENVIRONMENT.cache}


def test_what_cannot_be_made_ready_holds_up_nobody(console: Console) -> None:
    thread = warm(None)  # type: ignore[arg-type]
    thread.join(60)

    assert not thread.is_alive()
    assert console.client().get("/login").status_code == 200
