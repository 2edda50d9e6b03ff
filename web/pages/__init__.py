"""The pages, one router per subject."""

from __future__ import annotations

from web.pages import (
    audit,
    catalog,
    changes,
    connect,
    login,
    models,
    profiles,
    publish,
    reach,
    running,
    settings,
    ship,
    submit,
)

PAGES = tuple(
    module.router
    for module in (
        login,
        catalog,
        ship,
        connect,
        running,
        changes,
        audit,
        profiles,
        models,
        submit,
        publish,
        reach,
        settings,
    )
)
